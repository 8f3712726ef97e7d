"""The two steps of every run: restore the tiles of a block, finish a chunk.

Both are functions of arrays alone, so that the local engine and a graph of tasks share them. A
block's sums are cut at the borders of the chunks that they reach: each piece can be passed on,
or freed, by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from napari_swintormer.engine.devices import device_name, precision_name
from napari_swintormer.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.tiling.blending import Blending
    from napari_swintormer.tiling.grid import BlockIndex, Region

    RawArray = NDArray[Any]


class TileRestorer(Protocol):
    """What the engine asks of a restorer; `napari_swintormer.models.restorer` has them."""

    def __call__(self, tiles: torch.Tensor, /) -> torch.Tensor:
        """Restore (B, C, H, W) float32 tiles in unit intensities."""


@dataclass(frozen=True)
class PartialSums:
    """Weighted sums of changes over the part of one chunk that one block's tiles reach.

    Attributes
    ----------
    region
        In pixels of the plane.
    sums
        float32 (C, h, w), in unit intensities.
    """

    region: Region
    sums: NDArray[np.float32]


@dataclass(frozen=True)
class TileRunner:
    """A restorer with the device, the precision and the number of tiles that it takes at once.

    Attributes
    ----------
    restorer
        Already on the device.
    device
        Where it works.
    dtype
        Precision of its matrix products; tiles go in and come out as float32.
    batch_size
        Tiles in one forward pass.
    """

    restorer: TileRestorer
    device: torch.device
    dtype: torch.dtype
    batch_size: int

    def changes(self, tiles: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return what the restorer adds to each tile of one batch.

        Parameters
        ----------
        tiles
            (C, h, w) float32 each, of one size, in unit intensities.

        Returns
        -------
        list of NDArray
            (C, h, w) float32 each.

        Raises
        ------
        SettingsError
            If the restorer answers with values that are not numbers.
        """
        lower = self.dtype != torch.float32
        autocast = torch.autocast(self.device.type, self.dtype if lower else None, enabled=lower)
        with torch.inference_mode(), autocast:
            batch = torch.from_numpy(np.stack(tiles)).to(self.device)
            restored = self.restorer(batch).float().cpu().numpy()
        # numpy from here on: on busy cores, the threads of such small torch operations cost
        # more than they give
        if not np.isfinite(restored).all():
            raise SettingsError(
                "the model answered with values that are not numbers "
                f"(got precision={precision_name(self.dtype)!r} on {device_name(self.device)}). "
                "Use precision='fp32'."
            )
        return [new - tile for new, tile in zip(restored, tiles, strict=True)]


class BlockRestoration:
    """The tiles of one block, restored batch by batch and summed.

    Parameters
    ----------
    raw
        The plane over ``grid.source(block)``, (C, h, w), as in the image.
    block
        Which block; it has tiles.
    blending
        Weights of the tiles.
    intensity
        Range of the plane.
    only
        Leaves out the tiles that do not meet this region; None for all.
    """

    def __init__(
        self,
        raw: RawArray,
        block: BlockIndex,
        blending: Blending,
        intensity: IntensityRange,
        only: Region | None = None,
    ) -> None:
        grid = blending.grid
        self._block, self._blending = block, blending
        self._tiles = [t for t in grid.tiles_of(block) if only is None or t.meets(only)]
        self._reach = grid.reach(block)
        self._unit = intensity.to_unit(_part(raw, grid.source(block), self._reach))
        self._sums = np.zeros(self._unit.shape, np.float32)

    def batches(self, runner: TileRunner) -> Iterator[int]:
        """Restore one batch at a time and yield its number of tiles.

        Tiles are summed in raster order whatever the batch size.
        """
        for begin in range(0, len(self._tiles), runner.batch_size):
            tiles = self._tiles[begin : begin + runner.batch_size]
            changes = runner.changes([_part(self._unit, self._reach, tile) for tile in tiles])
            for tile, change in zip(tiles, changes, strict=True):
                weights = self._blending.weights(tile)
                sums = _part(self._sums, self._reach, tile)
                sums += change if weights is None else change * weights
            yield len(tiles)

    def parts(self) -> dict[BlockIndex, PartialSums]:
        """Cut the sums by the chunk that they belong to.

        Margins are copied, so that they can be kept without the rest.
        """
        grid = self._blending.grid
        parts: dict[BlockIndex, PartialSums] = {}
        for chunk in grid.reached(self._block):
            region = self._reach.intersection(grid.chunk(chunk))
            piece = _part(self._sums, self._reach, region)
            parts[chunk] = PartialSums(region, piece if chunk == self._block else piece.copy())
        return parts

    def add_to(self, change: NDArray[np.float32], region: Region) -> None:
        """Add the sums, as far as they reach, to those of a region (C, h, w)."""
        common = self._reach.intersection(region)
        sums = _part(change, region, common)
        sums += _part(self._sums, self._reach, common)


def restore_block(
    raw: RawArray,
    block: BlockIndex,
    blending: Blending,
    intensity: IntensityRange,
    runner: TileRunner,
) -> dict[BlockIndex, PartialSums]:
    """Restore a whole block; see `BlockRestoration`."""
    restoration = BlockRestoration(raw, block, blending, intensity)
    for _ in restoration.batches(runner):
        pass
    return restoration.parts()


def finish_chunk(
    raw: RawArray,
    chunk: BlockIndex,
    parts: Sequence[PartialSums],
    blending: Blending,
    intensity: IntensityRange,
) -> RawArray:
    """Make a chunk of the result.

    Parameters
    ----------
    raw
        The plane over ``grid.chunk(chunk)``, (C, h, w), as in the image.
    chunk
        Which chunk.
    parts
        The sums of all blocks in ``grid.contributors(chunk)``, in that order: floats add up to
        the same bits only in one order.
    blending
        Weights of the tiles.
    intensity
        Range of the plane.

    Returns
    -------
    NDArray
        (C, h, w) in the dtype of `raw`.
    """
    region = blending.grid.chunk(chunk)
    change = np.zeros(raw.shape, np.float32)
    for part in parts:
        sums = _part(change, region, part.region)
        sums += part.sums
    for inverse in blending.sum_inverse(region):
        change *= inverse
    return intensity.apply(raw, change)


def _part(array: RawArray, outer: Region, inner: Region) -> RawArray:
    """View the `inner` rectangle of an array (C, h, w) that holds `outer`."""
    return array[(slice(None), *inner.within(outer))]
