"""The filter that undoes a known blur."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import fftconvolve

from helpers.images import texture
from napari_swintormer.optics import motion
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.inverse_filter import (
    GRID,
    REACH,
    Candidate,
    image_power,
    inverse_kernel,
)
from napari_swintormer.optics.plane_power import PowerOfPlane
from napari_swintormer.optics.sharp_spectrum import SharpSpectrum

POINT = Blur.kernel(np.ones((1, 1)))
BLURS = {
    "disk": Blur.disk(3.0),
    "gaussian": Blur.gaussian(1.25),
    "motion": Blur.kernel(motion.motion_psf(motion.object_motion(9.0, np.random.default_rng(1)))),
}


def inverse(blur: Blur, image: np.ndarray) -> np.ndarray:
    light = PowerOfPlane.measured([image[None]], photo=False).light
    return inverse_kernel([candidate(blur, light.sharp(blur, "micrograph", GRID))])


def candidate(blur: Blur, sharp: SharpSpectrum) -> Candidate:
    return Candidate(1.0, *blur.otf_moments((GRID, GRID)), sharp)


def filtered(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return fftconvolve(np.pad(image, REACH, mode="symmetric"), kernel, "valid")


def gain(restored: np.ndarray, blurred: np.ndarray, sharp: np.ndarray) -> float:
    inner = slice(REACH, -REACH)
    errors = [((x - sharp)[inner, inner] ** 2).mean() for x in (blurred, restored)]
    return 10 * math.log10(errors[0] / errors[1])


def recorded(blur: Blur, noise: float) -> tuple[np.ndarray, np.ndarray]:
    sharp = texture(256, 256)
    blurred = ndimage.convolve(sharp, blur.psf(), mode="mirror")
    rng = np.random.default_rng(5)
    return sharp, (blurred + noise * rng.standard_normal(sharp.shape)).astype(np.float32)


@pytest.mark.parametrize("name", BLURS)
def test_a_known_blur_is_undone_and_a_wrong_one_gains_less(name):
    sharp, blurred = recorded(BLURS[name], 0.002)
    gains = [
        gain(filtered(blurred, inverse(known, blurred)), blurred, sharp)
        for known in (BLURS[name], Blur.mixture([(0.5, BLURS[name]), (0.5, Blur.gaussian(0.5))]))
    ]
    assert gains[0] > 2
    assert 0 < gains[1] < gains[0]


def test_noise_and_lack_of_detail_make_the_filter_weaker():
    frequency = np.hypot(np.fft.fftfreq(GRID)[:, None], np.fft.rfftfreq(GRID))
    gains = [
        float(np.square(inverse_kernel([candidate(BLURS["disk"], sharp)])).sum())
        for noise, height in ((0.001, 1e-4), (0.004, 1e-4), (0.004, 1e-5))
        for sharp in [SharpSpectrum(height / np.maximum(frequency, 1 / GRID) ** 2, noise**2, 0.0)]
    ]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 4 * gains[2]


def test_no_blur_is_left_alone_and_even_light_stays_even():
    sharp, _ = recorded(POINT, 0)
    identity = inverse(POINT, sharp)
    np.testing.assert_allclose(filtered(sharp, identity), sharp, atol=1e-5)
    kernel = inverse(BLURS["motion"], sharp)
    np.testing.assert_allclose(filtered(np.full((9, 7), 0.3), kernel), 0.3, atol=1e-5)


def test_the_noise_of_a_texture_is_measured():
    for noise in (0.005, 0.02):
        _, blurred = recorded(BLURS["disk"], noise)
        assert image_power([blurred]).noise == pytest.approx(noise, rel=0.15)
