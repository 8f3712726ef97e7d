"""A colour image that nobody names is taken for a photo or a micrograph."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics.estimation.image_field import looks_like_photo
from napari_swintormer.sample import sample_images


def stained(side: int = 300) -> np.ndarray:
    """Purple nuclei on an even, bright ground, ``(3, Y, X)``."""
    y, x = np.mgrid[:side, :side]
    rng = np.random.default_rng(3)
    stain = np.zeros((side, side))
    for cy, cx, radius in zip(*rng.uniform(0, side, (2, 40)), rng.uniform(6, 12, 40), strict=True):
        stain[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = 1
    stain = ndimage.gaussian_filter(stain, 1.5)
    colour = np.array([0.35, 0.55, 0.25])[:, None, None]
    grain = 0.01 * rng.standard_normal((3, side, side))
    return (0.92 - colour * stain + grain).astype(np.float32)


def bundled(name: str) -> np.ndarray:
    path = {sample.name: sample.path for sample in sample_images()}[name]
    with open_image(path) as image:
        pixels = np.asarray(image.data[...])
    return np.moveaxis(pixels, -1, -3).astype(np.float32) / 255


def test_photos_and_micrographs_are_told_apart():
    assert looks_like_photo([bundled("circuit-board")])
    assert not looks_like_photo(list(bundled("algae")))
    assert not looks_like_photo([stained()])


@pytest.mark.parametrize("windows", [[], [np.full((3, 64, 64), 0.5, np.float32)]])
def test_what_has_no_colour_is_no_photo(windows):
    assert not looks_like_photo(windows)
