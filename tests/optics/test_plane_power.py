"""A blur that does not fit an image counts as noise, so that its filter does little."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import fftconvolve

from helpers.images import texture
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.plane_power import PowerOfPlane


def test_noise_is_white_in_the_spectrum_and_measured_below_a_blur() -> None:
    sharp, blur, noise = texture(200, 200), Blur.disk(3), 0.01
    image = fftconvolve(np.pad(sharp, 20, mode="reflect"), blur.psf(), "same")[20:-20, 20:-20]
    image += noise * np.random.default_rng(0).standard_normal(image.shape)
    measured = PowerOfPlane.measured([image.astype(np.float32)[None]], photo=False).light
    assert measured is not None
    assert measured.with_blur(blur).noise == pytest.approx(noise, rel=0.1)
    assert measured.with_blur(Blur.disk(4)).noise > 1.3 * noise


def test_a_plane_without_detail_has_no_power() -> None:
    for image in (np.full((1, 64, 64), 0.3, np.float32), texture(5, 5)[None]):
        assert PowerOfPlane.measured([image], photo=True).light is None
