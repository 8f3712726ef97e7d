"""Networks to train from nothing, and usual values of the options of a training."""

from __future__ import annotations

from typing import Any

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.network.network_settings import (
    DeconvolutionSettings,
    SwintormerSettings,
)
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings, LdmPriorSettings

NETWORKS = {
    # Two blocks per level: with one block the windows never shift, and their borders show.
    "small": SwintormerSettings(
        dim=16,
        num_blocks=(2, 2, 2, 2),
        num_refinement_blocks=0,
        ffn_expansion=2.5,
        window_size=8,
        deconvolution=DeconvolutionSettings(),
    ),
    "paper": SwintormerSettings(),
}
"""Networks by name: 1.3 M parameters for any computer, and 25.2 M for a GPU."""

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"steps": 300, "learning_rate": 3e-4, "warmup": 20, "validate_every": 25},
    "thorough": {"steps": 3000, "learning_rate": 3e-4, "warmup": 100, "validate_every": 100},
    "from scratch": {"steps": 10_000, "learning_rate": 1e-3, "warmup": 200, "validate_every": 250},
}
"""Options by preset: minutes or an hour to train a model further, hours to train from nothing."""


def named_prior(
    name: str | CompactPriorSettings | LdmPriorSettings | None,
) -> CompactPriorSettings | LdmPriorSettings | None:
    """Return the settings of a prior by its name; other values are returned as they are."""
    if not isinstance(name, str):
        return name
    if name != "ldm":
        raise TrainingError(
            f"There is no such prior (got prior={name!r}). Use 'ldm', the prior of the paper. The "
            "stages of a compact prior need no name."
        )
    return LdmPriorSettings()


def named_network(name: str | SwintormerSettings | None) -> SwintormerSettings | None:
    """Return the sizes of a network by its name; other values are returned as they are."""
    if not isinstance(name, str):
        return name
    if name not in NETWORKS:
        raise TrainingError(
            f"There is no such network (got network={name!r}). Use one of "
            f"{', '.join(map(repr, NETWORKS))}."
        )
    return NETWORKS[name]
