"""Motion kernels keep light and place, and are as long as the motion."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_swintormer.optics import motion

SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS, extent=st.floats(0.5, 32), thing=st.booleans())
@settings(max_examples=20, deadline=None)
def test_a_kernel_is_the_light_along_its_path(seed, extent, thing):
    rng = np.random.default_rng(seed)
    path = (motion.moving_thing if thing else motion.shaking_hand)(extent, rng)
    distances = np.hypot(*(path[:, None] - path[None]).T)
    assert distances.max() == pytest.approx(extent)
    np.testing.assert_allclose(path.mean(axis=0), 0, atol=1e-9)
    kernel = motion.kernel(path)
    assert len(kernel) % 2 == 1
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    half = len(kernel) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    # the ends of a path count half as much on the fine grid: a little off its mean
    assert np.hypot((kernel * y).sum(), (kernel * x).sum()) < 0.02 * extent + 0.05


def test_a_straight_motion_is_a_line():
    along = np.linspace(-5, 5, 64)
    kernel = motion.kernel(np.stack([np.zeros(64), along], axis=1))
    half = len(kernel) // 2
    profile = kernel.sum(axis=0)
    np.testing.assert_allclose(profile[half - 3 : half + 4], 0.1, atol=0.003)
    assert kernel[half - 1 : half + 2].sum() > 0.99


def test_a_rolling_camera_moves_opposite_borders_in_opposite_ways():
    rng = np.random.default_rng(0)
    roll = motion.rolling(8.0, rng)
    assert np.ptp(roll) == pytest.approx(8)
    still = np.zeros((len(roll), 2))
    top_left, top_right, bottom_left, bottom_right = motion.at_corners(still, roll)
    np.testing.assert_allclose(top_left, -bottom_right)
    np.testing.assert_allclose(top_right, -bottom_left)
    np.testing.assert_allclose((top_left * [[-1, -1]]).sum(axis=1), 0, atol=1e-9)  # along circles
