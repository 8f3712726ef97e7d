"""The two steps of every run: restore the tiles of a block, and finish a chunk.

Both are functions of arrays alone, so that the local engine and a graph of tasks share them. The
sums of a block are cut at the borders of the chunks that they reach, so that each piece can be
passed on, or freed, by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_swintormer.engine.protocol import Tile
from napari_swintormer.models.prior.noise import TileOrigin

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from napari_swintormer.engine.protocol import Runner
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.tiling.blending import Blending
    from napari_swintormer.tiling.grid import BlockIndex, Region

    RawArray = NDArray[Any]


@dataclass(frozen=True)
class PartialSums:
    """Weighted sums of changes over the part of one chunk that one block's tiles reach.

    The sums are (C, h, w) in unit intensities. With uncertainty they are (N * C, h, w): the sums of
    the contrasts of the samples follow.
    """

    region: Region
    sums: NDArray[np.float32]


class FinishedChunk(NamedTuple):
    """A chunk of the result, and with uncertainty the standard deviation of the samples."""

    values: RawArray  # (C, h, w) in the dtype of the image
    deviation: NDArray[np.float32] | None  # (C, h, w) in the units of the image
    change: NDArray[np.float32]  # (C, h, w) in unit intensities, before the strength


class BlockRestoration:
    """The sums of one block, while its tiles are restored.

    Parameters
    ----------
    raw
        The plane over ``grid.source(block)``, (V * C, h, w), as in the image and its second view.
        The intensity range of the first view applies to both, as in training.
    block
        Index of the block; it has tiles.
    blending
        Weights of the tiles.
    intensity
        Intensity range of the plane.
    plane
        Number of the plane in the whole image.
    only
        Leave out tiles that do not meet this region; None for all tiles.
    """

    def __init__(
        self,
        raw: RawArray,
        block: BlockIndex,
        blending: Blending,
        intensity: IntensityRange,
        plane: int,
        only: Region | None = None,
    ) -> None:
        grid = blending.grid
        self._block, self._blending, self._plane = block, blending, plane
        self._grid = grid
        self._tiles = [t for t in grid.tiles_of(block) if only is None or t.meets(only)]
        self._reach = grid.reach(block)
        self._seen = grid.seen(self._reach)
        self._unit = intensity.to_unit(_part(raw, grid.source(block), self._seen))
        self._sums: NDArray[np.float32] | None = None
        self._done = 0

    @property
    def tiles(self) -> list[Tile]:
        """The tiles in raster order."""
        return [
            Tile(self._pixels(tile), TileOrigin(self._plane, tile.y0, tile.x0), self._grid.margin)
            for tile in self._tiles
        ]

    def _pixels(self, tile: Region) -> NDArray[np.float32]:
        """Give the pixels of a tile and its margin, mirrored where the plane ends."""
        seen, wanted = self._grid.seen(tile), tile.grown(self._grid.margin)
        pixels = _part(self._unit, self._seen, seen)
        if seen == wanted:
            return pixels
        rows = seen.y0 - wanted.y0, wanted.y1 - seen.y1
        columns = seen.x0 - wanted.x0, wanted.x1 - seen.x1
        return np.pad(pixels, ((0, 0), rows, columns), mode="symmetric")

    @property
    def complete(self) -> bool:
        """Whether the changes of all tiles have been added."""
        return self._done == len(self._tiles)

    def add(self, changes: Sequence[NDArray[np.float32]]) -> None:
        """Add the changes of the next tiles, in raster order."""
        if self._sums is None and changes:  # not earlier: blocks are read ahead
            self._sums = np.zeros((len(changes[0]), *self._reach.shape), np.float32)
        for change in changes:
            assert self._sums is not None
            tile = self._tiles[self._done]
            weights = self._blending.weights(tile)
            sums = _part(self._sums, self._reach, tile)
            sums += change if weights is None else change * weights
            self._done += 1

    def parts(self) -> dict[BlockIndex, PartialSums]:
        """Cut the sums of all tiles into one piece for each chunk; margins are copies."""
        assert self._sums is not None
        grid = self._grid
        parts: dict[BlockIndex, PartialSums] = {}
        for chunk in grid.reached(self._block):
            region = self._reach.intersection(grid.chunk(chunk))
            piece = _part(self._sums, self._reach, region)
            parts[chunk] = PartialSums(region, piece if chunk == self._block else piece.copy())
        return parts

    def add_to(self, change: NDArray[np.float32], region: Region) -> None:
        """Add the sums to `change`, the sums of a region (C, h, w), where both overlap."""
        assert self._sums is not None
        common = self._reach.intersection(region)
        sums = _part(change, region, common)
        sums += _part(self._sums, self._reach, common)


def restore_block(
    raw: RawArray,
    block: BlockIndex,
    blending: Blending,
    intensity: IntensityRange,
    plane: int,
    runner: Runner,
) -> dict[BlockIndex, PartialSums]:
    """Restore a whole block, with the parameters of `BlockRestoration`."""
    restoration = BlockRestoration(raw, block, blending, intensity, plane)
    for changes in runner.changes([restoration.tiles]):
        restoration.add(changes)
    return restoration.parts()


def finish_chunk(
    raw: RawArray,
    chunk: BlockIndex,
    parts: Sequence[PartialSums],
    blending: Blending,
    intensity: IntensityRange,
) -> FinishedChunk:
    """Make a chunk of the result from the image there, (C, h, w), and the sums that reach it.

    `parts` are the sums of all blocks in ``grid.contributors(chunk)``, in that order: the bits of a
    sum of floats depend on the order.
    """
    region = blending.grid.chunk(chunk)
    change = np.zeros((len(parts[0].sums), *raw.shape[1:]), np.float32)
    for part in parts:
        sums = _part(change, region, part.region)
        sums += part.sums
    for inverse in blending.sum_inverse(region):
        change *= inverse
    change, contrasts = change[: len(raw)], change[len(raw) :]
    deviation = intensity.deviation(raw, contrasts) if len(contrasts) else None
    return FinishedChunk(intensity.apply(raw, change), deviation, change)


def _part(array: RawArray, outer: Region, inner: Region) -> RawArray:
    """View the rectangle `inner` of an array (C, h, w) that holds `outer`."""
    return array[(slice(None), *inner.within(outer))]
