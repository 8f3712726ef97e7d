"""Classical methods restore a Gaussian blur and keep data types and brightness."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_swintormer.evaluation.methods.classical import BASELINES, SIGMA, gaussian_psf
from napari_swintormer.evaluation.metrics.similarity import psnr


def _sharp(shape=(72, 90)):
    rng = np.random.default_rng(0)
    return gaussian_filter((rng.random(shape) < 0.05).astype(float), 0.8) * 4


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(("dtype", "gain", "offset"), [(np.uint8, 200, 5), (np.uint16, 900, 100)])
def test_every_baseline_reduces_a_gaussian_blur(name, dtype, gain, offset):
    sharp = np.clip(_sharp(), 0, 1) * gain + offset
    blurred = np.rint(gaussian_filter(sharp, SIGMA)).astype(dtype)
    restored = BASELINES[name](blurred, "YX")
    assert restored.dtype == dtype
    assert restored.shape == blurred.shape
    won = psnr(restored, sharp, data_range=gain) - psnr(blurred, sharp, data_range=gain)
    assert won > 1


@pytest.mark.parametrize("name", BASELINES)
def test_channels_are_restored_one_by_one(name):
    grey = gaussian_filter(_sharp((48, 40)), 1).astype(np.float32)
    grey = (grey - grey.min()) / (grey.max() - grey.min())  # the same range with and without
    image = np.stack([grey, grey[::-1], grey], axis=-1)
    restored = BASELINES[name](image, "YXS")
    np.testing.assert_allclose(restored[..., 0], BASELINES[name](grey, "YX"), atol=1e-6)
    np.testing.assert_array_equal(restored[..., 0], restored[..., 2])


@pytest.mark.parametrize("name", BASELINES)
def test_brightness_at_the_border_stays(name):
    # Without padding, Fourier methods mix the bright and the dark side.
    ramp = np.tile(np.linspace(0, 1000, 64), (64, 1)).astype(np.uint16)
    restored = BASELINES[name](ramp, "YX").astype(float)
    assert np.abs(restored - ramp).max() < 100


def test_the_psf_has_its_sigma_and_sum():
    psf = gaussian_psf(1.6)
    x = np.arange(len(psf)) - len(psf) // 2
    assert psf.sum() == pytest.approx(1)
    assert np.sqrt((psf.sum(0) * x**2).sum()) == pytest.approx(1.6, rel=0.01)
