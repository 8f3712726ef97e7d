"""Restores a region to the pixels of a run over the whole image, from as few tiles as possible.

The tiles lie on the grid of the whole plane. The sums of each block are made separately and added
in raster order, as in a run: the bits of a sum of floats depend on the order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.engine.blocks import BlockRestoration
from napari_swintormer.events import Clock
from napari_swintormer.imaging.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from napari_swintormer.engine.protocol import Runner
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.tiling.grid import BlockIndex, Region, TileGrid
    from napari_swintormer.tiling.plan import Plan


@dataclass(frozen=True)
class RestoredRegion:
    """A region of an image with the change that the restorer makes to it.

    Attributes
    ----------
    region
        In pixels of the plane.
    image
        The pixels of the region, in memory; the dimensions T, C and Z have the size 1.
    changes
        Change of each plane, float32 ``(C, h, w)`` in unit intensities.
    ranges
        Intensity ranges, one per plane.
    """

    region: Region
    image: Planes
    changes: Sequence[NDArray[np.float32]]
    ranges: Sequence[IntensityRange]

    def at_strength(self, strength: float) -> NDArray[Any]:
        """Apply the change at a strength from 0 to 2, in the shape, axes and dtype of `image`."""
        whole = slice(None)
        out = np.empty(self.image.data.shape, self.image.dtype)
        for plane, (change, intensity) in enumerate(zip(self.changes, self.ranges, strict=True)):
            raw = self.image.read(plane, whole, whole)
            values = replace(intensity, strength=strength).apply(raw, change)
            self.image.write(out, plane, whole, whole, values)
        return out


def restore_region(
    plan: Plan,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    runner: Runner,
    position: Mapping[str, int],
    region: Region,
) -> Generator[Event, None, RestoredRegion]:
    """Restore a region of the planes at one position.

    Plan, planes and ranges are those of the run over the whole image. The position is the index
    along each of T, C and Z that the image has, and the region lies inside the plane. Yields
    `Progress` after every batch, and `Notice` when memory ran out.
    """
    grid, numbers = plan.grid, planes.numbers_at(position)
    blocks = _blocks_meeting(grid, region)
    clock = Clock(len(numbers) * sum(map(len, blocks.values())), "tiles")
    changes = []
    for plane in numbers:
        change = np.zeros((planes.channels, *region.shape), np.float32)
        for block in blocks:
            raw = planes.read_views(plane, *grid.source(block).slices)
            restoration = BlockRestoration(
                raw, block, plan.blending, ranges[plane], planes.numbers[plane], only=region
            )
            for done in runner.changes([restoration.tiles]):
                yield from runner.take_notices()
                if not done:
                    step, steps, tiles = runner.steps
                    yield clock.within(tiles, step, steps)
                    continue
                restoration.add(done)
                yield clock.after(len(done), runner.n_taken)
            restoration.add_to(change, region)
        for inverse in plan.blending.sum_inverse(region):
            change *= inverse
        changes.append(change)
    pixels = planes.cut(position, *region.slices)
    part = Planes(pixels, planes.axes, planes.model_channels, meaning=planes.meaning)
    return RestoredRegion(region, part, changes, [ranges[plane] for plane in numbers])


def count_tiles(grid: TileGrid, region: Region) -> int:
    """Count the tiles that `restore_region` restores in each plane."""
    return sum(map(len, _blocks_meeting(grid, region).values()))


def _blocks_meeting(grid: TileGrid, region: Region) -> dict[BlockIndex, list[Region]]:
    """Return the blocks whose tiles meet a region, in raster order, with these tiles."""
    size = grid.block_size
    meeting = {}
    # a tile reaches at most into the next block
    for row in range(max(0, region.y0 // size - 1), (region.y1 - 1) // size + 1):
        for column in range(max(0, region.x0 // size - 1), (region.x1 - 1) // size + 1):
            tiles = [tile for tile in grid.tiles_of((row, column)) if tile.meets(region)]
            if tiles:
                meeting[row, column] = tiles
    return meeting
