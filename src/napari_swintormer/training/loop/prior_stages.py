"""A training with prior, in four stages.

1. ``autoencoder``: encode and decode the residual, sharp minus blurred. A model without prior gets
   one here, whose first guess is what the model itself restores at half the size.
2. ``denoiser``: predict the clean latent (eq. 17, with ``z0`` instead of the noise). The
   autoencoder is frozen.
3. ``network``: restore with the sampled prior. The prior is frozen.
4. ``joint``: train network, denoiser and the encoder of the blurred image through all steps.

Every stage reads a whole model and writes a whole model; ``prior`` runs all four.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings, LdmPriorSettings
from napari_swintormer.training.loop.initial_model import start_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.training.train_settings import TrainSettings

# Each stage: share of the steps, factor on the learning rate, and largest norm of the gradient;
# None takes the norm of the settings.
_SHARES: dict[str, tuple[float, float, float | None]] = {
    "autoencoder": (0.1, 20 / 3, 1.0),
    "denoiser": (0.3, 1.0, None),  # its encoder is a trained network
    "network": (0.1, 1.0, None),
    "joint": (0.5, 1.0, None),
}


def stages_of_prior(settings: TrainSettings) -> list[TrainSettings]:
    """Divide a training of the stage ``"prior"`` into its four stages.

    Each stage starts from the model that the one before has written into the run folder. The last
    one writes the weights file that the settings name.
    """
    stages: list[TrainSettings] = []
    for stage, (share, factor, clip) in _SHARES.items():
        last = len(stages) == len(_SHARES) - 1
        steps = max(1, round(share * settings.steps))
        changes: dict[str, Any] = {
            "stage": stage,
            "steps": steps,
            "warmup": min(settings.warmup, steps),
            "learning_rate": factor * settings.learning_rate,
            "clip": settings.clip if clip is None else clip,
            "out": settings.out if last else settings.run_folder / f"{stage}.safetensors",
        }
        if stages:
            changes |= {"from_model": str(stages[-1].out), "prior": None}
        stages.append(dataclasses.replace(settings, **changes))
    return stages


def start_with_prior(settings: TrainSettings) -> tuple[ModelCard, Mapping[str, Tensor]]:
    """Read the model to start from, and add a prior if it has none."""
    if settings.from_model is None:
        raise TrainingError(
            f"The stage {settings.stage!r} of a training with prior needs a model to start from. "
            "Name one with --from; for --stage autoencoder it may be a model without prior."
        )
    for name, only in (("loss", "l1"), ("parameters", "all")):
        if getattr(settings, name) != only:
            raise TrainingError(
                f"Every stage of a training with prior has losses and parameters of its own (got "
                f"{name}={getattr(settings, name)!r}). Leave {name} out."
            )
    card, weights = start_model(settings)
    if card.network.views != 1:
        raise TrainingError(
            "A prior works for one view. Train a network of two views without prior."
        )
    assert weights is not None
    assert not isinstance(settings.prior, LdmPriorSettings)
    if card.prior is None and settings.stage == "autoencoder":
        prior = settings.prior or CompactPriorSettings(encoder=_encoder(card.network))
        return add_prior(card, weights, prior, settings.seed)
    if card.prior is None or card.prior.kind != "compact":
        raise TrainingError(
            f"The model {settings.from_model!r} has no compact prior for the stage "
            f"{settings.stage!r} to train. Train --stage autoencoder first."
        )
    if settings.prior not in (None, card.prior):
        raise TrainingError("A model that is trained further keeps its prior: leave out prior.")
    return card, weights


def add_prior(
    card: ModelCard, weights: Mapping[str, Tensor], prior: CompactPriorSettings, seed: int
) -> tuple[ModelCard, dict[str, Tensor]]:
    """Add a prior to a model without one.

    If its encoder has the sizes of the network, it starts with the weights of the network;
    otherwise with random ones.
    """
    import torch

    from napari_swintormer.models.prior.compact import build_network

    alone = card.network
    network = alone.model_copy(update={"prior_channels": prior.prior_channels})
    card = card.model_copy(update={"network": network, "prior": prior})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = build_network(card.network, card.prior).state_dict()
    embed = weights["embed.weight"]
    missing = state["embed.weight"].shape[1] - embed.shape[1]
    if prior.encoder == _encoder(alone):
        body = {f"prior.blurred_encoder.body.{key}": value for key, value in weights.items()}
        state |= {key: value for key, value in body.items() if key in state}
    # the channels of the prior come last in the embedding, and start at zero
    wider = {"embed.weight": torch.nn.functional.pad(embed, (0, 0, 0, 0, 0, missing))}
    return card, state | dict(weights) | wider


def _encoder(network: SwintormerSettings) -> SwintormerSettings:
    """Give the sizes of an encoder of images that is like a network."""
    if not network.known_blur:
        return network
    return network.model_copy(update={"known_blur": False, "deconvolution": None, "unclear": False})
