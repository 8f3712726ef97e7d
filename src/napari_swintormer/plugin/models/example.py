"""The example on a model's card: a part of a bundled sample, before and after."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_swintormer.events import Event
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.catalogue import ModelInfo
from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
from napari_swintormer.plugin.deblur.deblur_events import keep_first_speed
from napari_swintormer.runs.planning import prepare
from napari_swintormer.sample import sample_images
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import cache_folder, with_preferences
from napari_swintormer.tiling.grid import Region

_SIDE = 150  # pixels
_GAP = 6  # pixels between the two halves
_PLACES = {"circuit-board": (0, 0), "shaken-board": (180, 180), "actin": (180, 180)}


def has_example(info: ModelInfo | None) -> bool:
    """Whether a model can restore a sample: the samples are no scenes of two views."""
    return info is not None and info.card is not None and info.card.network.views == 1


def is_quick(info: ModelInfo) -> bool:
    """Whether the example takes seconds, so that it is made without a question."""
    prior = None if info.card is None else info.card.prior
    return info.source == "built-in" and not isinstance(prior, LdmPriorSettings)


def example_file(info: ModelInfo) -> Path:
    """Return where the example of a model is kept; other weights have another file."""
    assert info.card is not None
    name = f"{file_sha256(info.path)[:16]}-{sample_name(info.card)}.png"
    return cache_folder() / "examples" / name


def sample_name(card: ModelCard) -> str:
    """Choose the sample that is most like what a model is for."""
    if card.network.known_blur:
        return "shaken-board"
    gains = [card.metrics.get(f"PSNR gain on {kind}, dB", 0.0) for kind in ("photo", "microscopy")]
    return "actin" if gains[1] > gains[0] else "circuit-board"


def iter_example(info: ModelInfo) -> Generator[Event, None, NDArray[np.uint8]]:
    """Deblur a part of the sample; return it before and after, side by side."""
    assert info.card is not None
    name = sample_name(info.card)
    sample = next(image for image in sample_images() if image.name == name)
    with open_image(sample.path) as image:
        settings = DeblurSettings(model=str(info.path), axes=image.axes)
        job = prepare(np.asarray(image.data[...]), with_preferences(settings))
        y, x = _PLACES[name]
        place = Region(y, y + _SIDE, x, x + _SIDE)
        restored = yield from keep_first_speed(job, job.preview({}, place))
    before, after = restored.image.data, restored.at_strength(1.0)
    if before.dtype != np.uint8:
        low, high = np.percentile(before, (0.5, 99.8))
        before, after = (255 * (each - low) / (high - low) for each in (before, after))
    halves = [np.clip(each, 0, 255).astype(np.uint8) for each in (before, after)]
    gap = np.zeros((len(before), _GAP, *before.shape[2:]), np.uint8)
    joined: NDArray[np.uint8] = np.concatenate([halves[0], gap, halves[1]], axis=1)
    return joined
