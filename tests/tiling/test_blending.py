"""Blending: weights are positive and, divided by their known sum, add up to one everywhere."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_swintormer.errors import TilingError
from napari_swintormer.tiling.blending import Blending, weights_1d
from napari_swintormer.tiling.grid import Region, TileGrid


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.integers(5, 40),
    st.data(),
    st.sampled_from(["uniform", "smooth"]),
)
def test_weights_sum_to_one(
    shape: tuple[int, int], tile_size: int, data: st.DataObject, blend: Literal["uniform", "smooth"]
) -> None:
    overlap = data.draw(st.integers(0, tile_size - 1))
    grid = TileGrid(shape, tile_size, overlap)
    blending = Blending(grid, blend)
    y, x = blending.sum_inverse(Region(0, shape[0], 0, shape[1]))
    total = np.zeros(shape)
    for tile in grid.tiles():
        weights = blending.weights(tile)
        normalised = (1 if weights is None else weights) * (y * x)[tile.slices]
        assert normalised.min() > 0
        total[tile.slices] += normalised
    np.testing.assert_allclose(total, 1, atol=2e-6)


def test_smooth_weights_fall_off_over_the_overlap_only() -> None:
    inner = weights_1d(64, 16, "smooth", first=False, last=False)
    assert (inner[16:48] == 1).all()
    assert (np.diff(inner[:17]) > 0).all()
    assert (inner == inner[::-1]).all()
    np.testing.assert_allclose(inner[:16] + inner[48:], 1, atol=1e-6)  # a pair of neighbours


def test_smooth_weights_do_not_fall_off_at_the_border_of_the_image() -> None:
    blending = Blending(TileGrid((50, 100), 64, 16), "smooth")
    first, last = (blending.weights(tile) for tile in blending.grid.tiles())
    assert first is not None
    assert last is not None
    assert (first[:, :48] == 1).all()
    assert (last[:, 16:] == 1).all()
    assert first[0, -1] < 0.01


def test_unknown_blend() -> None:
    with pytest.raises(TilingError, match=r"got blend='hann'\). Use 'uniform' or 'smooth'"):
        Blending(TileGrid((9, 9), 4, 1), "hann")  # type: ignore[arg-type]
