"""Metrics agree with their definitions."""

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from helpers.images import dots
from napari_swintormer.errors import ImageError
from napari_swintormer.evaluation.metrics.frc import resolution
from napari_swintormer.evaluation.metrics.similarity import (
    gmsd,
    intensity_span,
    ms_ssim,
    psnr,
    ssim,
)


def _image(shape=(40, 52), seed=0):
    return gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)


def test_psnr_of_a_known_error():
    # One pixel in four is off by 3 of 255: mse 2.25.
    sharp = np.full((8, 8), 100, np.uint8)
    blurred = sharp.copy()
    blurred[::2, ::2] = 97
    expected = 20 * math.log10(255 / 1.5)
    assert psnr(blurred, sharp, data_range=255) == pytest.approx(expected)
    assert psnr(sharp, blurred, data_range=255) == pytest.approx(expected)  # no uint8 wrap-around


def test_equal_images_have_an_infinite_psnr():
    assert psnr(_image(), _image(), data_range=1) == math.inf
    assert ssim(_image(), _image(), data_range=1) == pytest.approx(1)


def test_ssim_agrees_with_its_definition():
    a, b = _image(seed=1), _image(seed=2)
    window = {"sigma": 1.5, "truncate": 3.5}  # 11 × 11 pixels
    mean_a, mean_b = gaussian_filter(a, **window), gaussian_filter(b, **window)
    var_a = gaussian_filter(a * a, **window) - mean_a**2
    var_b = gaussian_filter(b * b, **window) - mean_b**2
    cov = gaussian_filter(a * b, **window) - mean_a * mean_b
    c1, c2 = (0.01 * 0.7) ** 2, (0.03 * 0.7) ** 2
    value = (2 * mean_a * mean_b + c1) * (2 * cov + c2)
    value /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    expected = value[5:-5, 5:-5].mean()  # windows that lie inside
    assert ssim(a, b, data_range=0.7) == pytest.approx(expected, abs=1e-9)


def test_ssim_of_colours_is_the_mean_of_the_channels():
    a, b = (np.stack([_image(seed=s + k) for s in range(3)], -1) for k in (0, 10))
    channels = [ssim(a[..., c], b[..., c], data_range=1) for c in range(3)]
    assert ssim(a, b, data_range=1, channel_axis=2) == pytest.approx(np.mean(channels))


def test_span_ignores_a_hot_pixel_and_survives_a_constant():
    sharp = np.linspace(100, 300, 10_000).reshape(100, 100)
    sharp[0, 0] = 65535
    assert intensity_span(sharp) == pytest.approx(200, rel=0.01)
    assert intensity_span(np.ones((4, 4))) > 0


def test_different_shapes_are_refused():
    with pytest.raises(ImageError, match=r"same shape \(got \(40, 52\) and \(40, 50\)\)"):
        psnr(_image(), _image()[:, :50], data_range=1)


def test_ring_correlation_finds_the_cutoff_of_a_low_pass():
    sharp = np.random.default_rng(0).normal(size=(256, 256))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    low_passed = np.fft.irfft2(np.fft.rfft2(sharp) * (frequency < 0.125), sharp.shape)
    noise = np.random.default_rng(1).normal(size=sharp.shape)
    assert resolution(low_passed + 1e-3 * noise, sharp) == pytest.approx(8, rel=0.1)
    assert resolution(sharp, sharp) == 2
    assert resolution(noise, sharp) > 20


def test_ms_ssim_and_gmsd_order_images_by_their_blur():
    sharp = dots(3, (180, 171))
    blurred = [gaussian_filter(sharp, sigma) for sigma in (0.5, 1, 2)]
    scores = [ms_ssim(image, sharp, data_range=9000) for image in (sharp, *blurred)]
    assert scores[0] == pytest.approx(1)
    assert scores == sorted(scores, reverse=True)
    distances = [gmsd(x, sharp, black=100, data_range=9000) for x in (sharp, *blurred)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert math.isnan(ms_ssim(sharp[:160], sharp[:160], data_range=1))
