"""Fills in the settings that the user leaves open: from a preset, and else from the model.

This module stands in `runs`, since it reads the model card, which `settings` does not know.
"""

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

# For a restorer without a card, such as the identity or a function of the user.
_TILE_SIZE, _OVERLAP = 512, 64
_BLEND: Blend = "smooth"
_SCALES = (1, 2, 4)
# The paper's best, 292 of 512 pixels: every pixel is the mean of about five tiles.
_BEST_OVERLAP = 292 / 512
_BEST_SAMPLES = 4
# The most steps in the paper; a compact prior is trained for its own number, and more do not help.
_PAPER_STEPS = 50


def complete(settings: DeblurSettings, card: ModelCard | None) -> DeblurSettings:
    """Check the user's choices, and fill in tiles, blending, steps and samples.

    The preset ``"balanced"`` takes the model's values. ``"fast"`` takes half of its overlap and a
    quarter of its prior's steps. ``"best"`` takes the paper's overlap, the mean of four samples,
    and 50 steps for the paper's prior. Choices of the user win over the preset.

    Parameters
    ----------
    settings
        The user's choices.
    card
        Description of the model; None for a restorer without one.

    Returns
    -------
    DeblurSettings
        Complete, without preset.

    Raises
    ------
    SettingsError
        A choice is not possible; the message says what would work.

    Examples
    --------
    >>> from napari_swintormer.settings.deblur_settings import DeblurSettings
    >>> complete(DeblurSettings(preset="best", tile_size=256), None).overlap
    146
    """
    if not 0 <= settings.strength <= STRENGTH_MAX:
        raise SettingsError(
            f"strength must be between 0 and {STRENGTH_MAX:g} (got strength={settings.strength:g})."
            " Use 1 for the result of the model, less to keep more of the image as it is, more "
            "where the result is still soft."
        )
    if settings.scale not in _SCALES:
        raise SettingsError(
            f"An image is restored at 1/1, 1/2 or 1/4 of its size (got scale={settings.scale}). "
            "Use scale=2 for blur circles of 8 to 16 pixels across, 4 for wider ones."
        )
    if settings.preset not in (None, *get_args(Preset)):
        raise SettingsError(
            f"There is no such preset (got preset={settings.preset!r}). "
            "Use 'fast', 'balanced' or 'best'."
        )
    settings = _apply_preset(settings, card)
    tile_size, overlap, blend = _tiles(settings, card)
    return replace(
        settings,
        preset=None,
        tile_size=tile_size,
        overlap=overlap,
        blend=blend,
        num_inference_steps=_prior_steps(settings, card),
        samples=_samples(settings, card),
    )


def _apply_preset(settings: DeblurSettings, card: ModelCard | None) -> DeblurSettings:
    """Fill in overlap, steps and samples from the preset."""
    preset = settings.preset
    overlap, steps, samples = settings.overlap, settings.num_inference_steps, settings.samples
    if overlap is None and preset in ("fast", "best"):
        size, own_overlap, _ = _tiles(settings, card)
        overlap = int(size * _BEST_OVERLAP) if preset == "best" else own_overlap // 2
    if card is not None and card.prior is not None and settings.prior != "off":
        own_steps = card.prior.num_inference_steps
        if preset == "fast":
            steps = steps or max(1, own_steps // 4)
        elif preset == "best":
            steps = steps or (_PAPER_STEPS if card.prior.kind == "ldm_sr" else own_steps)
            samples = samples or _BEST_SAMPLES
    return replace(settings, overlap=overlap, num_inference_steps=steps, samples=samples)


def _tiles(settings: DeblurSettings, card: ModelCard | None) -> tuple[int, int, Blend]:
    """Return tile size, overlap and blending: the user's, else the model's.

    If only the tile size is given, the overlap keeps its share of the tile.
    """
    if card is None:
        own_size, own_overlap, own_blend = _TILE_SIZE, _OVERLAP, _BLEND
    else:
        own_size, own_overlap, own_blend = card.tile_size, card.overlap, card.blend
    tile_size = own_size if settings.tile_size is None else settings.tile_size
    overlap = own_overlap * tile_size // own_size if settings.overlap is None else settings.overlap
    return tile_size, overlap, settings.blend or own_blend


def _prior_steps(settings: DeblurSettings, card: ModelCard | None) -> int | None:
    """Return the steps in which the prior is sampled; None if nothing is sampled."""
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
    """Return the number of samples: the user's, else 1, or 4 for uncertainty."""
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
            "uncertainty compares several samples (got samples=1). Use samples=2 or more."
        )
    if samples > 1 and (card is None or card.prior is None or settings.prior == "off"):
        wish = "uncertainty=True" if uncertainty else f"samples={samples}"
        raise SettingsError(
            f"Without a prior all samples are the same (got {wish}). Use a model with a prior, and "
            "leave prior='off' out."
        )
    return samples
