"""What lies in front hides what lies behind, blurred or not."""

from __future__ import annotations

import numpy as np
import pytest

from napari_swintormer.optics import psf
from napari_swintormer.training.degradations.image_formation import (
    blur_by_depth,
    blur_over,
    draw_depth_map,
    draw_occluder,
)
from napari_swintormer.training.degradations.primitives import blur

POINT = np.ones((1, 1), np.float32)
MARGIN = 6


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def scene(rng):
    return rng.random((3, 40 + 2 * MARGIN, 44 + 2 * MARGIN), dtype=np.float32)


def test_a_blurred_background_ends_at_a_sharp_object(rng, scene):
    """A white thing in front of a black, blurred background: no white reaches the background."""
    behind = blur(np.zeros_like(scene), psf.disk(5), MARGIN)
    opacity = np.zeros(scene.shape[1:], np.float32)
    opacity[:, 28:] = 1
    seen = blur_over(behind, np.ones_like(scene), opacity, POINT, MARGIN)
    np.testing.assert_allclose(
        seen, opacity[None, MARGIN:-MARGIN, MARGIN:-MARGIN] * np.ones_like(seen), atol=1e-5
    )


def test_the_background_shines_through_the_border_of_a_blurred_object(scene):
    behind = np.full((3, 40, 44), 0.2, np.float32)
    opacity = np.zeros(scene.shape[1:], np.float32)
    opacity[:, 28:] = 1
    seen = blur_over(behind, np.full_like(scene, 0.2), opacity, psf.disk(5), MARGIN)
    np.testing.assert_allclose(seen, 0.2, atol=1e-5)


def test_a_constant_depth_has_the_kernel_of_that_depth(scene):
    kernels = [psf.disk(5), psf.disk(2), POINT]
    for depth, kernel in ((0.0, kernels[0]), (0.5, kernels[1]), (1.0, kernels[2])):
        level = np.full(scene.shape[1:], depth, np.float32)
        seen = blur_by_depth(scene, level, kernels, MARGIN)
        np.testing.assert_allclose(seen, blur(scene, kernel, MARGIN), atol=1e-4)


def test_depth_maps_and_occluders_fill_their_range(rng, scene):
    depths = [draw_depth_map(scene, rng) for _ in range(10)]
    assert all(d.shape == scene.shape[1:] and d.min() >= 0 and d.max() <= 1 for d in depths)
    assert np.mean([np.ptp(d) for d in depths]) > 0.9
    things = [draw_occluder((64, 70), rng) for _ in range(20)]
    assert all(t.shape == (64, 70) and t.min() >= 0 and t.max() <= 1 for t in things)
    halves = np.mean([((t > 0.05) & (t < 0.95)).mean() for t in things])
    assert halves < 0.15  # borders are a pixel or so wide
    assert 0.1 < np.mean([t.mean() for t in things]) < 0.7
