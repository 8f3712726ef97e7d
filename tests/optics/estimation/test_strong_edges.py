"""Edges of an image against plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from napari_swintormer.optics.estimation.strong_edges import sharpened_edges, strongest


def plainly_sharpened(image):
    """A bilateral filter pixel by pixel, and a shock filter with the functions of the libraries."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    apart = (y[..., None, None] - y) ** 2 + (x[..., None, None] - x) ** 2
    near = np.maximum(abs(y[..., None, None] - y), abs(x[..., None, None] - x)) <= 2
    unlike = (image[..., None, None] - image) ** 2
    weights = near * np.exp(-apart / 8 - unlike / 0.02)
    flat = (weights * image).sum(axis=(2, 3)) / weights.sum(axis=(2, 3))
    smooth = ndimage.gaussian_filter(flat, 1.0, truncate=3)
    gy, gx = np.gradient(smooth)
    (gyy, gyx), gxx = np.gradient(gy), np.gradient(gx, axis=1)
    bend = gy**2 * gyy + 2 * gy * gx * gyx + gx**2 * gxx
    steps = [np.diff(np.pad(flat, 1, "edge"), axis=a) for a in (0, 1)]
    pairs = (steps[0][:-1, 1:-1], steps[0][1:, 1:-1]), (steps[1][1:-1, :-1], steps[1][1:-1, 1:])
    slopes = [np.where(a * b > 0, np.minimum(abs(a), abs(b)), 0) for a, b in pairs]
    return flat - np.sign(bend) * np.hypot(*slopes)


@pytest.mark.parametrize("order", ["C", "F"])
def test_edges_are_sharpened_as_the_formulas_say(order):
    rng = np.random.default_rng(3)
    image = np.cumsum(rng.normal(0, 0.05, (19, 26)), axis=1) + rng.normal(0, 0.05, (19, 26))
    sharp = sharpened_edges(np.asarray(image, np.float32, order=order))
    assert np.abs(sharp - image).max() > 0.05
    np.testing.assert_allclose(sharp, plainly_sharpened(image), atol=2e-5)


@pytest.mark.parametrize("count", [1, 20, 400, 5000])
def test_the_strongest_gradients_of_each_direction_are_marked(count):
    rng = np.random.default_rng(4)
    y, x = (rng.normal(0, 1, (60, 70)).astype(np.float32) ** 5 for _ in range(2))
    y[:20], inside = 0, rng.random(y.shape) < 0.8  # directions are not equally frequent
    power = np.where(inside, x * x + y * y, 0)
    ranges = 2 * (x * y < 0) + (abs(y) > abs(x))
    expected = np.zeros(power.shape, bool)
    for k in range(4):
        own = np.where(ranges == k, power, 0).ravel()
        places = np.argsort(own)[::-1][:count]
        expected.ravel()[places[own[places] > 0]] = True
    np.testing.assert_array_equal(strongest(y, x, inside, count), expected)
