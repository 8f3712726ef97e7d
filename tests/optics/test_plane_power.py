"""What a plane tells of its noise, its sharp spectrum, and of which blur fits it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import fftconvolve

from helpers.images import texture
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.inverse_filter import GRID, REACH
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PlanePower, PowerOfPlane

NOISE = 0.005
TRUE = Blur.disk(3)


@pytest.fixture(scope="module")
def recorded() -> tuple[np.ndarray, np.ndarray, PowerOfPlane]:
    sharp = texture(256, 256)
    image = fftconvolve(np.pad(sharp, 20, mode="reflect"), TRUE.psf(), "same")[20:-20, 20:-20]
    image = image + NOISE * np.random.default_rng(0).standard_normal(image.shape)
    image = image.astype(np.float32)
    return sharp, image, PowerOfPlane.measured([image[None]], photo=False)


def light_of(power: PowerOfPlane) -> PlanePower:
    assert power.light is not None
    return power.light


def test_the_noise_below_a_blur_is_found_and_the_true_blur_fits_best(recorded) -> None:
    light = light_of(recorded[2])
    fits = {f: light.sharp(TRUE.scaled(f), "micrograph", GRID) for f in (0.7, 1.0, 1.4)}
    assert fits[1.0].noise ** 0.5 == pytest.approx(NOISE, rel=0.5)
    assert min(fits, key=lambda f: fits[f].misfit) == 1.0
    # what a wider blur should have hidden counts as noise
    assert fits[1.4].noise > 2 * fits[1.0].noise


@pytest.mark.parametrize("factor", [1 / 1.2, 1.0, 1.2])
def test_a_blur_that_is_told_too_wide_or_narrow_still_helps(recorded, factor) -> None:
    sharp, image, power = recorded
    kernel = PlaneBlur(FoundBlur(TRUE.scaled(factor)), power).kernels()[0]
    restored = fftconvolve(np.pad(image, REACH, mode="symmetric"), kernel, "valid")
    errors = [np.square((x - sharp)[24:-24, 24:-24]).mean() for x in (image, restored)]
    assert 10 * math.log10(errors[0] / errors[1]) > 1.5


def test_pure_noise_is_not_amplified() -> None:
    noise = 0.5 + 0.05 * np.random.default_rng(0).standard_normal((200, 200)).astype(np.float32)
    power = PowerOfPlane.measured([noise[None]], photo=False)
    kernel = PlaneBlur(FoundBlur(TRUE), power).kernels()[0]
    restored = fftconvolve(np.pad(noise, REACH, mode="symmetric"), kernel, "valid")
    assert restored.std() < 1.05 * noise.std()


@pytest.mark.parametrize("side", [63, 65])
def test_a_blur_near_the_largest_has_no_wider_candidates(side) -> None:
    power = PowerOfPlane.measured([texture(256, 256)[None]], photo=False)
    widest = PlaneBlur(FoundBlur(Blur.kernel(np.ones((side, side))), 0.5), power)
    assert np.isfinite(widest.kernels()).all()


def test_a_plane_without_detail_has_no_power() -> None:
    for image in (np.full((1, 64, 64), 0.3, np.float32), texture(5, 5)[None]):
        assert PowerOfPlane.measured([image], photo=True).light is None
