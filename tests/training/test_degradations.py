"""Synthetic blur is a convolution in light, without anything from beyond the border."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import convolve2d

from napari_swintormer.optics import psf
from napari_swintormer.optics.light import from_light, to_light
from napari_swintormer.training.degradations.camera import SensorNoise
from napari_swintormer.training.degradations.primitives import (
    blur,
    smooth_mask,
    through_jpeg,
)
from napari_swintormer.training.degradations.simple import (
    Degradation,
    draw_defocus,
    draw_psf,
    draw_range,
)

SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS, half=st.integers(0, 4), more=st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_blur_is_the_valid_part_of_a_convolution(seed, half, more):
    rng = np.random.default_rng(seed)
    kernel = rng.random((2 * half + 1,) * 2).astype(np.float32)
    image = rng.random((2, 23 + 2 * half, 31 + 2 * half), dtype=np.float32)
    margin = half + more
    expected = [convolve2d(channel, kernel, "valid") for channel in image]
    inner = slice(more, -more or None)
    result = blur(image, kernel, margin)
    np.testing.assert_allclose(result, np.stack(expected)[:, inner, inner], atol=1e-4)


@pytest.mark.parametrize("kind", ["photo", "microscopy"])
def test_a_constant_image_stays_constant(kind):
    rng = np.random.default_rng(0)
    for _ in range(30):
        drawn = draw_defocus(kind, rng)
        quiet = Degradation(drawn.psfs, drawn.gamma)
        side = 40 + 2 * quiet.margin
        blurred = quiet.apply(np.full((3, side, side), 0.4, np.float32), rng)
        assert blurred.shape == (3, 40, 40)
        np.testing.assert_allclose(blurred, 0.4, atol=1e-4)


def test_photos_are_blurred_in_light():
    """A small lamp outshines its surroundings once blurred: light adds up, grey values do not."""
    lamp = np.zeros((1, 41, 41), np.float32)
    lamp[0, 20, 20] = 1
    kernel = psf.disk(4)
    rng = np.random.default_rng(0)
    photo = Degradation((kernel,), gamma=2.2).apply(lamp, rng)
    linear = Degradation((kernel,)).apply(lamp, rng)
    centre = photo.shape[1] // 2
    assert photo[0, centre, centre] == pytest.approx(
        linear[0, centre, centre] ** (1 / 2.2), rel=1e-4
    )


@given(st.floats(-2, 2, width=32), st.floats(1, 3))
@settings(max_examples=40)
def test_to_light_and_from_light_are_inverse(value, gamma):
    image = np.full((1, 1, 1), value, np.float32)
    back = from_light(to_light(image, gamma), gamma)
    assert back.item() == pytest.approx(value, rel=1e-4, abs=1e-6)


def test_the_mixture_has_what_a_model_must_see():
    rng = np.random.default_rng(1)
    drawn = [draw_defocus("photo", rng) for _ in range(600)]
    shares = {
        "unblurred": np.mean([not d.psfs for d in drawn]),
        "varying": np.mean([len(d.psfs) == 2 for d in drawn]),
        "partly sharp": np.mean([any(len(p) == 1 for p in d.psfs) for d in drawn]),
        "without noise": np.mean([d.noise.read == d.noise.shot == 0 for d in drawn]),
        "JPEG": np.mean([d.jpeg_quality is not None for d in drawn]),
        "8 bits": np.mean([d.levels == 256 for d in drawn]),
    }
    assert shares["unblurred"] >= 0.15
    assert all(0.1 < share < 0.5 for share in shares.values()), shares
    assert max(d.noise.read for d in drawn) <= 0.03
    dark = np.mean([draw_range(rng)[1] > 1.5 for _ in range(500)])
    assert 0.05 < dark < 0.2


def test_microscopy_is_linear_and_never_a_jpeg():
    rng = np.random.default_rng(2)
    drawn = [draw_defocus("microscopy", rng) for _ in range(100)]
    assert {(d.gamma, d.jpeg_quality, d.levels) for d in drawn} == {(1.0, None, None)}


def test_a_psf_without_blur_is_one_pixel():
    assert draw_psf("photo", 0.0, np.random.default_rng(0)).tolist() == [[1.0]]


def test_noise_has_the_strength_it_says():
    rng = np.random.default_rng(3)
    image = np.full((1, 200, 200), 0.5, np.float32)
    noisy = Degradation(noise=SensorNoise(0.01, 0.0002)).apply(image, rng)
    assert np.std(noisy - image) == pytest.approx(np.sqrt(0.01**2 + 0.0002 * 0.5), rel=0.05)
    dark = Degradation(noise=SensorNoise(shot=0.0002)).apply(np.zeros_like(image), rng)
    assert np.all(dark == 0)


@given(SEEDS, st.integers(8, 80), st.integers(8, 80))
@settings(max_examples=20, deadline=None)
def test_masks_lie_between_0_and_1(seed, height, width):
    mask = smooth_mask((height, width), np.random.default_rng(seed))
    assert mask.shape == (height, width)
    assert 0 <= mask.min() <= mask.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_the_picture(channels):
    ramp = np.linspace(0, 1, 64, dtype=np.float32) * np.ones((channels, 64, 1), np.float32)
    read = through_jpeg(ramp, 95)
    assert read.shape == ramp.shape
    np.testing.assert_allclose(read, ramp, atol=0.03)
    assert not np.array_equal(read, ramp)
