"""Paths have their extent, and the PSF of a path is as long as the path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_swintormer.optics import motion

SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS, extent=st.floats(0.5, 32), thing=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_path_has_its_extent_around_a_mean_of_zero(seed, extent, thing):
    rng = np.random.default_rng(seed)
    path = (motion.object_motion if thing else motion.camera_shake)(extent, rng)
    distances = np.hypot(*(path[:, None] - path[None]).T)
    assert distances.max() == pytest.approx(extent)
    np.testing.assert_allclose(path.mean(axis=0), 0, atol=1e-9)


def test_a_straight_motion_is_a_line():
    along = np.linspace(-5, 5, 64)
    kernel = motion.motion_psf(np.stack([np.zeros(64), along], axis=1))
    half = len(kernel) // 2
    profile = kernel.sum(axis=0)
    np.testing.assert_allclose(profile[half - 3 : half + 4], 0.1, atol=0.003)
    assert kernel[half - 1 : half + 2].sum() > 0.99


def test_a_rolling_camera_moves_opposite_borders_in_opposite_ways():
    rng = np.random.default_rng(0)
    roll = motion.camera_roll(8.0, rng)
    assert np.ptp(roll) == pytest.approx(8)
    still = np.zeros((len(roll), 2))
    top_left, top_right, bottom_left, bottom_right = motion.corner_paths(still, roll)
    np.testing.assert_allclose(top_left, -bottom_right)
    np.testing.assert_allclose(top_right, -bottom_left)
    np.testing.assert_allclose((top_left * [[-1, -1]]).sum(axis=1), 0, atol=1e-9)  # along circles
