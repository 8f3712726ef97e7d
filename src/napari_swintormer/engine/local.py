"""The local engine: one device, block by block, stopping and going on.

Blocks are walked in raster order. A chunk is finished as soon as its own block is restored, so
all that stays in memory are the sums that reach into the next row of blocks and the next block.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

from napari_swintormer.engine.blocks import BlockRestoration, TileRunner, finish_chunk
from napari_swintormer.events import ChunkFinished, Clock

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Sequence
    from typing import Any

    import torch

    from napari_swintormer.engine.blocks import PartialSums, RawArray, TileRestorer
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.tiling.grid import BlockIndex, TileGrid
    from napari_swintormer.tiling.plan import Plan


class Journal(Protocol):
    """Remembers finished chunks as (plane, row, column); `imaging.store` keeps it on disk."""

    def finished(self) -> Collection[tuple[int, int, int]]:
        """Chunks that are stored for good."""

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that a chunk has been written."""


def run(
    plan: Plan,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    restorer: TileRestorer,
    out: Any,
    journal: Journal | None = None,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Generator[Event, None, None]:
    """Restore all planes, chunk by chunk.

    Nothing happens before the first event is asked for. Closing the generator stops the run
    after the batch at hand; what is written and marked stays valid, and a later run with the
    same journal completes it to the same bits.

    Parameters
    ----------
    plan
        Of `napari_swintormer.tiling.plan.make_plan`, for these planes.
    planes
        The image; read block by block.
    ranges
        One per plane.
    restorer
        On `device`, in evaluation mode.
    out
        Array-like of the image's shape and dtype; ``planes.write`` writes each chunk once.
    journal
        Chunks that it has are not made again.
    device, dtype
        Of `napari_swintormer.engine.devices`.

    Yields
    ------
    Progress
        After every batch, in tiles; the ETA counts the work of this run alone.
    ChunkFinished
        After every chunk, in raster order of each plane.
    """
    runner = TileRunner(restorer, device, dtype, plan.batch_size)
    yield from _Run(plan, planes, ranges, runner, out, journal).events()


class _Run:
    """One run; see `run` for the parameters."""

    def __init__(
        self,
        plan: Plan,
        planes: Planes,
        ranges: Sequence[IntensityRange],
        runner: TileRunner,
        out: Any,
        journal: Journal | None,
    ) -> None:
        self.plan, self.planes, self.ranges = plan, planes, ranges
        self.runner, self.out, self.journal = runner, out, journal
        self.finished: defaultdict[int, set[BlockIndex]] = defaultdict(set)
        for plane, row, column in () if journal is None else journal.finished():
            self.finished[plane].add((row, column))

    def events(self) -> Generator[Event, None, None]:
        """Run all planes one by one."""
        grid, total = self.plan.grid, self.plan.n_tiles
        done_before = sum(
            grid.n_tiles - sum(map(grid.count_tiles, _needed(grid, finished)))
            for finished in self.finished.values()
        )
        self.clock = Clock(total, "tiles", done_before)
        for plane in range(self.plan.n_planes):
            yield from self._restore_plane(plane, self.finished[plane])

    def _restore_plane(self, plane: int, finished: set[BlockIndex]) -> Generator[Event, None, None]:
        """Restore the blocks of a plane in raster order, finishing each block's chunk."""
        grid = self.plan.grid
        needed = _needed(grid, finished)
        waiting: defaultdict[BlockIndex, list[PartialSums]] = defaultdict(list)
        for block in grid.blocks():
            if block in needed:
                region = grid.source(block)
            elif block not in finished:  # the tiles of earlier blocks make this chunk
                region = grid.chunk(block)
            else:
                continue
            raw = self.planes.read(plane, *region.slices)
            if block in needed:
                parts = yield from self._restore_block(plane, block, raw)
                for chunk in parts.keys() - finished:
                    waiting[chunk].append(parts[chunk])
                del parts
            if block not in finished:
                rows, columns = grid.chunk(block).within(region)
                yield self._finish_chunk(plane, block, raw[:, rows, columns], waiting.pop(block))
            del raw  # before the next is read

    def _restore_block(
        self, plane: int, block: BlockIndex, raw: RawArray
    ) -> Generator[Event, None, dict[BlockIndex, PartialSums]]:
        restoration = BlockRestoration(raw, block, self.plan.blending, self.ranges[plane], plane)
        for n_tiles in restoration.batches(self.runner):
            yield self.clock.after(n_tiles)
        return restoration.parts()

    def _finish_chunk(
        self, plane: int, chunk: BlockIndex, raw: RawArray, parts: Sequence[PartialSums]
    ) -> ChunkFinished:
        """Write a chunk, and only then note it as finished."""
        values = finish_chunk(raw, chunk, parts, self.plan.blending, self.ranges[plane])
        region = self.plan.grid.chunk(chunk)
        self.planes.write(self.out, plane, *region.slices, values)
        if self.journal is not None:
            self.journal.mark(plane, *chunk)
        return ChunkFinished(plane, (region.y0, region.y1), (region.x0, region.x1))


def _needed(grid: TileGrid, finished: Collection[BlockIndex]) -> set[BlockIndex]:
    """Blocks whose tiles touch an unfinished chunk."""
    return {
        block
        for block in grid.blocks()
        if any(chunk not in finished for chunk in grid.reached(block))
    }
