"""What a layer says of its axes, without a viewer."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
from napari.layers import Image

from napari_swintormer.plugin.layers.layer_data import LayerSource, guess_axes


@pytest.mark.parametrize(
    ("shape", "arguments", "axes"),
    [
        ((50, 60), {}, "YX"),
        ((7, 50, 60), {}, "ZYX"),
        ((50, 60, 3), {"rgb": True}, "YXS"),
        ((2, 7, 50, 60), {}, "TZYX"),
        ((7, 50, 60, 4), {"rgb": True}, "ZYXS"),
        ((7, 50, 60), {"axis_labels": ("time", "y", "x")}, "TYX"),
        ((7, 50, 60), {"axis_labels": ("Channel", "Y", "X")}, "CYX"),
        ((7, 50, 60, 3), {"rgb": True, "axis_labels": ("t", "y", "x")}, "TYXS"),
        ((7, 50, 60), {"axis_labels": ("a", "b", "c")}, "ZYX"),
        ((2, 3, 7, 50, 60), {}, ""),
        ((2, 3, 7, 50, 60), {"axis_labels": ("t", "c", "z", "y", "x")}, "TCZYX"),
    ],
)
def test_axes_are_guessed_from_labels_colours_and_dimensions(shape, arguments, axes):
    assert guess_axes(Image(np.zeros(shape, np.float32), **arguments)) == axes


def test_a_plane_is_taken_lazily_and_inside_the_stack():
    read = []

    def load(block_info=None):
        read.append(block_info)
        return np.ones((1, 8, 8))

    layer = Image(da.zeros((5, 8, 8), chunks=(1, 8, 8)), contrast_limits=(0, 1), cache=False)
    source = LayerSource.of(layer, "")
    lazy = da.map_blocks(load, chunks=((1,) * 5, (8,), (8,)), dtype=float, meta=np.ones((0, 0, 0)))
    source = LayerSource(source.name, lazy, "ZYX", source.look)
    for position, index in ((-3.0, 0), (2.4, 2), (9.0, 4)):
        plane = source.plane_at((position, 0.0, 0.0))
        assert plane.data.shape == (1, 8, 8)
        np.testing.assert_array_equal(plane.look["translate"], [index, 0, 0])
    assert not read
