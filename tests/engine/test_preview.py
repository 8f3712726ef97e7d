"""A region that is restored alone has the pixels of the run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from napari_swintormer.engine.kept_tiles import KeptTiles, TakingOver
from napari_swintormer.engine.local import run
from napari_swintormer.engine.region import count_tiles, restore_region
from napari_swintormer.engine.tile_runner import TileRunner
from napari_swintormer.imaging.intensity import IntensityConvention, measure_ranges
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.models.prior.noise import TileNoise
from napari_swintormer.models.tile_restorer import TileRestorer
from napari_swintormer.tiling.blending import Blending
from napari_swintormer.tiling.grid import Region, TileGrid
from napari_swintormer.tiling.plan import make_plan

CPU = torch.device("cpu")


class Smooth(TileRestorer):
    """A restorer whose answer depends on the border of the tile, and as a prior on its place."""

    def count_steps(self, height, width):
        return 2

    def in_steps(self, tiles, origins=None):
        noise = TileNoise(0, origins)(0, tiles)
        yield
        restored = nn.functional.avg_pool2d(tiles, 5, 1, 2) * 1.1 + 0.1 * noise
        yield
        return restored


class Counting(Smooth):
    """Counts the tiles that it restores."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def in_steps(self, tiles, origins=None):
        self.count += len(tiles)
        return super().in_steps(tiles, origins)


def spans(length):
    return st.tuples(st.integers(0, length - 1), st.integers(1, length)).map(
        lambda pair: (pair[0], min(length, pair[0] + pair[1]))
    )


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_restored_region_has_the_pixels_of_the_run(data):
    axes, lead, samples = data.draw(
        st.sampled_from([("YX", (), ()), ("TYXS", (2,), (4,)), ("CZYX", (2, 2), ())])
    )
    shape = data.draw(st.tuples(st.integers(1, 90), st.integers(30, 90)))
    channels = data.draw(st.sampled_from([1, 3]))
    strength = data.draw(st.sampled_from([1.0, 0.4]))
    rng = np.random.default_rng(0)
    image = rng.normal(0.5, 1, (*lead, *shape, *samples)).astype("float32")
    image[rng.uniform(size=image.shape) < 0.01] = np.nan  # filled from the rest of the block
    planes = Planes(image, axes, channels)
    plan = make_plan(
        planes.shape, dtype="float32", tile_size=16, overlap=6, n_planes=len(planes), batch_size=2
    )
    plan = replace(plan, blending=Blending(TileGrid(planes.shape, 16, 6, 32), "smooth"))
    ranges = measure_ranges(planes, IntensityConvention())
    whole = np.empty_like(image)
    stronger = [replace(measured, strength=strength) for measured in ranges]
    for _ in run(plan, planes, stronger, TileRunner(Smooth(), CPU, torch.float32, 2), whole):
        pass

    position = {axis: data.draw(st.integers(0, 1)) for axis in axes if axis in "TCZ"}
    (y0, y1), (x0, x1) = (data.draw(spans(length)) for length in shape)
    region = Region(y0, y1, x0, x1)
    runner = TileRunner(Smooth(), CPU, torch.float32, 3)
    restoring = restore_region(plan, planes, ranges, runner, position, region)
    events = []
    while True:
        try:
            events.append(next(restoring))
        except StopIteration as end:
            part = end.value
            break

    index = {axis: slice(i, i + 1) for axis, i in position.items()}
    index |= {"Y": slice(y0, y1), "X": slice(x0, x1), "S": slice(None)}
    np.testing.assert_array_equal(part.at_strength(strength), whole[tuple(index[a] for a in axes)])
    np.testing.assert_array_equal(part.at_strength(0), image[tuple(index[a] for a in axes)])
    n_tiles = len(planes.numbers_at(position)) * count_tiles(plan.grid, region)
    assert events[-1].done == events[-1].total == n_tiles
    assert n_tiles <= plan.n_tiles


def finished(events):
    last = None
    while True:
        try:
            last = next(events)
        except StopIteration:
            return last


@pytest.mark.parametrize(
    ("batch_size", "change", "taken"),
    [
        (1, "nothing", 9),
        (2, "nothing", 4),
        (1, "a pixel", 5),  # the tiles that hold it are made again
        (1, "the restorer", 0),
        (1, "memory for two tiles", 2),
    ],
)
def test_a_run_takes_over_the_tiles_of_a_preview(batch_size, change, taken):
    image = np.random.default_rng(3).random((70, 60), np.float32)
    planes = Planes(image, "YX", 1)
    plan = make_plan(planes.shape, dtype="float32", tile_size=16, overlap=6, batch_size=batch_size)
    ranges, restorer = measure_ranges(planes, IntensityConvention()), Counting()
    kept = KeptTiles(2 * 4 * 16 * 16 if change == "memory for two tiles" else 10**6)

    def runner(name, adds):
        made = TileRunner(restorer, CPU, torch.float32, batch_size)
        made.taking_over = None if name is None else TakingOver(kept, name, adds)
        return made

    def whole(name):
        out, restorer.count = np.empty_like(image), 0
        finished(run(plan, planes, ranges, runner(name, adds=False), out))
        return out, restorer.count

    region = Region(22, 34, 22, 34)
    finished(restore_region(plan, planes, ranges, runner("a", True), {}, region))
    assert restorer.count == count_tiles(plan.grid, region)
    if change == "a pixel":
        image[23, 23] += 0.1
    wanted, n_tiles = whole(None)
    assert n_tiles == plan.n_tiles
    got, n_made = whole("b" if change == "the restorer" else "a")
    np.testing.assert_array_equal(got, wanted)
    assert n_tiles - n_made == taken
