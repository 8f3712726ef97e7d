"""The residual is noise if a blur explains the image, and shows invented structure otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from napari_swintormer.errors import ImageError
from napari_swintormer.evaluation import residual
from napari_swintormer.evaluation.residual import pair_of_planes, residual_map, residual_region
from napari_swintormer.optics import psf


@pytest.fixture(scope="module")
def sharp():
    noise = np.random.default_rng(0).normal(size=(200, 230))
    return 1000 + 300 * gaussian_filter(noise, 1) / 0.28


@pytest.mark.parametrize("kernel", [psf.disk(4.0), psf.gaussian(2.8), psf.disk(1.0)])
def test_the_blur_is_found_and_only_noise_is_left(sharp, kernel):
    blurred = convolve(sharp, kernel, mode="mirror")
    noise = np.random.default_rng(1).normal(0, 3, sharp.shape)
    left = residual_map(blurred + noise, sharp)
    assert left.std() == pytest.approx(3, rel=0.1)
    assert np.abs(left - noise).mean() < 0.5


def test_the_local_blur_is_found(sharp):
    """Only the border between two depths has a residual."""
    blurred = convolve(sharp, psf.disk(1.4), mode="mirror")
    blurred[:, 115:] = convolve(sharp, psf.disk(5.7), mode="mirror")[:, 115:]
    planes = pair_of_planes(blurred, sharp, "YX")
    found = residual_region(*planes, 0, slice(0, 200), slice(0, 230))
    assert np.median(found.radius[:, :64]) == pytest.approx(1.4)
    assert np.median(found.radius[:, 180:]) == pytest.approx(5.7)
    power = (found.residual[0] ** 2).mean(axis=0)
    assert power[80:150].mean() > 50 * max(power[:48].mean(), power[190:].mean())


def test_invented_structure_stands_out(sharp):
    blurred = convolve(sharp, psf.disk(2.0), mode="mirror")
    result = sharp.copy()
    result[90:102, 120:132] += 800  # a cell that is not there
    left = np.abs(residual_map(blurred, result))
    assert left[92:100, 122:130].mean() > 300
    assert np.median(left) < 1


def test_blocks_change_nothing(sharp, monkeypatch):
    blurred = convolve(sharp, psf.gaussian(4.0), mode="mirror").astype("float32")
    blurred[50, 60] = np.nan
    whole = residual_map(blurred, sharp)
    monkeypatch.setattr(residual, "BLOCK", 77)
    np.testing.assert_allclose(residual_map(blurred, sharp), whole, atol=0.01)
    assert whole[50, 60] == 0


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (2, 40, 30), (30, 40, 4)])
def test_every_kind_of_image(shape):
    image = np.random.default_rng(0).integers(0, 200, shape, np.uint8)
    axes = "YXS" if shape[-1] == 4 else None
    left = residual_map(image, image, axes)
    assert left.shape == shape
    np.testing.assert_allclose(left, 0, atol=1e-3)


def test_images_that_do_not_belong_together_are_refused(sharp):
    with pytest.raises(ImageError, match="Give the image that it was made from"):
        residual_map(sharp, sharp[:50])
