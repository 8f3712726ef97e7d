"""Presets: how much time a run may take, said in one word."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from napari_swintormer.config import Preset
from napari_swintormer.errors import SettingsError

if TYPE_CHECKING:
    from napari_swintormer.config import DeblurSettings
    from napari_swintormer.models.card import ModelCard

# The paper's best, 292 of 512 pixels: every pixel is the mean of about five tiles.
_BEST_OVERLAP = 292 / 512
_BEST_SAMPLES = 4
# The paper's own most; a compact prior is trained for its steps, and more do not help it.
_PAPER_STEPS = 50


def apply_preset(settings: DeblurSettings, card: ModelCard | None) -> DeblurSettings:
    """Fill in what a preset says and the user does not.

    ``"balanced"`` is what the model says. ``"fast"`` takes half of its overlap and a quarter of the
    steps of its prior. ``"best"`` takes the paper's overlap and the mean of four samples, and
    samples the paper's prior in 50 steps. Without prior only the overlap remains.

    Returns
    -------
    DeblurSettings
        Without preset.

    Raises
    ------
    SettingsError
        There is no such preset.

    Examples
    --------
    >>> from napari_swintormer.config import DeblurSettings
    >>> apply_preset(DeblurSettings(preset="best", tile_size=256), None).overlap
    146
    """
    preset = settings.preset
    if preset is None:
        return settings
    if preset not in get_args(Preset):
        raise SettingsError(
            f"There is no such preset (got preset={preset!r}). Use 'fast', 'balanced' or 'best'."
        )
    overlap, steps, samples = settings.overlap, settings.num_inference_steps, settings.samples
    own_size, own_overlap = (512, 64) if card is None else (card.tile_size, card.overlap)
    size = settings.tile_size or own_size
    if overlap is None and preset != "balanced":
        overlap = int(size * (_BEST_OVERLAP if preset == "best" else own_overlap / own_size / 2))
    if card is not None and card.prior is not None and settings.prior != "off":
        own_steps = card.prior.num_inference_steps
        if preset == "fast":
            steps = steps or max(1, own_steps // 4)
        elif preset == "best":
            steps = steps or (_PAPER_STEPS if card.prior.kind == "ldm_sr" else own_steps)
            samples = samples or _BEST_SAMPLES
    return replace(
        settings, preset=None, overlap=overlap, num_inference_steps=steps, samples=samples
    )
