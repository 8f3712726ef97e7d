"""What the user leaves open: a preset says it, and else the model."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from napari_swintormer.errors import SettingsError
from napari_swintormer.settings.deblur_settings import (
    SAMPLES_FOR_UNCERTAINTY,
    SAMPLES_MAX,
    STRENGTH_MAX,
    Preset,
)

if TYPE_CHECKING:
    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.settings.deblur_settings import Blend, DeblurSettings

# For a restorer without a card, such as the identity or a function of the user's own.
_TILE_SIZE, _OVERLAP = 512, 64
_BLEND: Blend = "smooth"
_SCALES = (1, 2, 4)
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
    >>> from napari_swintormer.settings.deblur_settings import DeblurSettings
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
    if overlap is None and preset != "balanced":
        size, own_overlap, _ = _tiles(settings, card)
        overlap = int(size * _BEST_OVERLAP) if preset == "best" else own_overlap // 2
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


def complete(settings: DeblurSettings, card: ModelCard | None) -> DeblurSettings:
    """Fill in tiles, blending, steps and samples, after checking what the user says.

    Parameters
    ----------
    settings
        What the user chose.
    card
        Of the model; None for a restorer without one.

    Raises
    ------
    SettingsError
        With what would work.
    """
    if not 0 <= settings.strength <= STRENGTH_MAX:
        raise SettingsError(
            f"strength must be between 0 and {STRENGTH_MAX:g} (got strength={settings.strength:g})."
            " Use 1 for what the model changes, less to keep more of the image as it is, more where"
            " the result is still soft."
        )
    if settings.scale not in _SCALES:
        raise SettingsError(
            f"An image is restored at 1/1, 1/2 or 1/4 of its size (got scale={settings.scale}). "
            "Use scale=2 for blur circles of 8 to 16 pixels across, 4 for wider ones."
        )
    settings = apply_preset(settings, card)
    tile_size, overlap, blend = _tiles(settings, card)
    return replace(
        settings,
        tile_size=tile_size,
        overlap=overlap,
        blend=blend,
        num_inference_steps=_prior_steps(settings, card),
        samples=_samples(settings, card),
    )


def _tiles(settings: DeblurSettings, card: ModelCard | None) -> tuple[int, int, Blend]:
    """Tile size, overlap and blending as the user says, and else as the model says.

    Who changes the tile size alone keeps the model's share of overlap.
    """
    if card is None:
        own_size, own_overlap, own_blend = _TILE_SIZE, _OVERLAP, _BLEND
    else:
        own_size, own_overlap, own_blend = card.tile_size, card.overlap, card.blend
    tile_size = own_size if settings.tile_size is None else settings.tile_size
    overlap = own_overlap * tile_size // own_size if settings.overlap is None else settings.overlap
    return tile_size, overlap, settings.blend or own_blend


def _prior_steps(settings: DeblurSettings, card: ModelCard | None) -> int | None:
    """Count the steps in which the prior is sampled: as the user says, else as the model says.

    None if nothing is sampled.
    """
    if card is not None and card.prior is not None:
        card.check_prior(settings.prior, settings.num_inference_steps, settings.seed)
        if settings.prior == "off":
            return None
        return settings.num_inference_steps or card.prior.num_inference_steps
    for name, value in (
        ("num_inference_steps", settings.num_inference_steps),
        ("prior", None if settings.prior == "off" else settings.prior),
    ):
        if value is not None:
            raise SettingsError(
                f"The model has no prior to sample (got {name}={value!r}). Leave {name} out, or "
                "use a model with a prior."
            )
    return None


def _samples(settings: DeblurSettings, card: ModelCard | None) -> int:
    """Count the samples that are drawn: as the user says, else one, or some to compare."""
    samples, uncertainty = settings.samples, settings.uncertainty
    if samples is None:
        samples = SAMPLES_FOR_UNCERTAINTY if uncertainty else 1
    if not 1 <= samples <= SAMPLES_MAX:
        raise SettingsError(
            f"samples must be from 1 to {SAMPLES_MAX} (got samples={samples}). Use 1 for a quick "
            "result, 4 or 8 for the mean of several."
        )
    if uncertainty and samples == 1:
        raise SettingsError(
            "uncertainty is what several samples differ by (got samples=1). Use samples=2 or more."
        )
    if samples > 1 and (card is None or card.prior is None or settings.prior == "off"):
        wish = "uncertainty=True" if uncertainty else f"samples={samples}"
        raise SettingsError(
            f"Without a prior all samples are the same (got {wish}). Use a model with a prior, and "
            "leave prior='off' out."
        )
    return samples
