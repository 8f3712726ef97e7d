"""The local engine: restores an image block by block, and can be stopped and resumed.

Blocks are restored in raster order. A chunk is finished as soon as its own block is restored, so
memory only keeps the sums that reach into the next row of blocks and into the next block.

Three threads work at the same time: one reads a block, one restores the block before it, and one
finishes and writes the chunk of the block before that. No thread runs further ahead, so memory is
bounded whichever of them is the slowest.
"""

from __future__ import annotations

from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from napari_swintormer.engine.blocks import BlockRestoration, finish_chunk
from napari_swintormer.errors import SettingsError
from napari_swintormer.events import ChunkFinished, Clock

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Sequence
    from concurrent.futures import Future
    from typing import Any

    from napari_swintormer.engine.blocks import PartialSums, RawArray
    from napari_swintormer.engine.protocol import RunJournal, Runner, Tile
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.tiling.grid import BlockIndex, TileGrid
    from napari_swintormer.tiling.plan import Plan


def run(
    plan: Plan,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    runner: Runner,
    out: Any,
    journal: RunJournal | None = None,
    deviation: Any = None,
    changes: Any = None,
) -> Generator[Event, None, None]:
    """Restore all planes, chunk by chunk.

    Nothing happens before the first event is asked for. Closing the generator stops the run after
    the current batch and the chunk that is being written. Chunks that are written and marked stay
    valid, and a later run with the same journal completes them to the same bits.

    Parameters
    ----------
    plan, planes, ranges
        The plan for these planes, and an intensity range for each. The image is read block by
        block, in another thread.
    runner
        Restores the tiles; a runner of one device works in the calling thread.
    out
        Array-like of the image's shape and dtype; ``planes.write`` writes each chunk once, in
        another thread, one at a time.
    journal
        Records the finished chunks; chunks that it has are not made again.
    deviation
        Array-like of the image's shape, float32, for the standard deviation of the samples; for a
        restorer with uncertainty.
    changes
        Array-like of the image's shape, float32, for the change of every pixel in unit intensities,
        before the strength.

    Yields
    ------
    Event
        `Progress` after every batch, and after every step of a batch that takes several;
        `ChunkFinished` in raster order of each plane; `Notice` when memory ran out.

    Raises
    ------
    SettingsError
        Memory is too small for a single tile, or for a few blocks.
    """
    try:
        yield from _Run(plan, planes, ranges, runner, out, journal, deviation, changes).events()
    except MemoryError as error:
        raise SettingsError(
            "The computer's memory is too small for a few blocks of the image (got "
            f"tile_size={plan.grid.tile_size}, {plan.channels} channels). Close other programs, or "
            "use a smaller tile_size."
        ) from error


class _BlockTask(NamedTuple):
    """The work on a block: restore its tiles, finish its chunk, or both."""

    plane: int
    block: BlockIndex
    restores: bool
    finishes: bool


@dataclass
class _BlockInHand:
    """A block that has been read."""

    task: _BlockTask
    raw: RawArray  # the block's own chunk, (C, h, w), as in the image
    restoration: BlockRestoration | None  # None if no tile needs to be restored

    @property
    def complete(self) -> bool:
        """Whether no tile is left to restore."""
        return self.restoration is None or self.restoration.complete


class _Run:
    """One call of `run`, with its parameters."""

    def __init__(
        self,
        plan: Plan,
        planes: Planes,
        ranges: Sequence[IntensityRange],
        runner: Runner,
        out: Any,
        journal: RunJournal | None,
        deviation: Any,
        changes: Any,
    ) -> None:
        self.plan, self.planes, self.ranges = plan, planes, ranges
        self.runner, self.out, self.journal = runner, out, journal
        self.deviation, self.changes = deviation, changes
        self.finished: defaultdict[int, set[BlockIndex]] = defaultdict(set)
        for plane, row, column in () if journal is None else journal.finished():
            self.finished[plane].add((row, column))
        self.in_hand: deque[_BlockInHand] = deque()
        self.waiting: defaultdict[BlockIndex, list[PartialSums]] = defaultdict(list)
        self.writing: Future[ChunkFinished] | None = None

    def events(self) -> Generator[Event, None, None]:
        """Run all planes one by one."""
        grid, total = self.plan.grid, self.plan.n_tiles
        done_before = sum(
            grid.n_tiles - sum(map(grid.count_tiles, _needed(grid, finished)))
            for finished in self.finished.values()
        )
        clock = Clock(total, "tiles", done_before)
        with (
            ThreadPoolExecutor(1, thread_name_prefix="swintormer-reader") as reader,
            ThreadPoolExecutor(1, thread_name_prefix="swintormer-writer") as writer,
        ):
            groups = map(self._take_in_hand, self._read(reader))
            for changes in self.runner.changes(groups):
                yield from self.runner.take_notices()
                if not changes:
                    step, steps, tiles = self.runner.steps
                    yield clock.within(tiles, step, steps)
                    continue
                restoration = next(b.restoration for b in self.in_hand if not b.complete)
                assert restoration is not None
                restoration.add(changes)
                yield clock.after(len(changes), self.runner.n_taken)
                yield from self._finish_complete(writer)
            yield from self._finish_complete(writer)
            if self.writing is not None:
                yield self.writing.result()

    def _tasks(self) -> Iterator[_BlockTask]:
        """Give the work in raster order of each plane."""
        grid = self.plan.grid
        for plane in range(self.plan.n_planes):
            finished = self.finished[plane]
            needed = _needed(grid, finished)
            for block in grid.blocks():
                if block in needed or block not in finished:
                    yield _BlockTask(plane, block, block in needed, block not in finished)

    def _read(self, reader: ThreadPoolExecutor) -> Iterator[_BlockInHand]:
        """Give the blocks in order; the next one is read while one is in hand."""
        coming: deque[Future[_BlockInHand]] = deque()
        for task in self._tasks():
            coming.append(reader.submit(self._read_one, task))
            if len(coming) > 1:
                yield coming.popleft().result()
        if coming:
            yield coming.popleft().result()

    def _read_one(self, task: _BlockTask) -> _BlockInHand:
        grid, blending = self.plan.grid, self.plan.blending
        chunk = grid.chunk(task.block)
        if not task.restores:  # the tiles of earlier blocks make this chunk
            return _BlockInHand(task, self.planes.read(task.plane, *chunk.slices), None)
        source = grid.source(task.block)
        raw = self.planes.read_views(task.plane, *source.slices)
        intensity = self.ranges[task.plane]
        number = self.planes.numbers[task.plane]
        restoration = BlockRestoration(raw, task.block, blending, intensity, number)
        rows, columns = chunk.within(source)
        return _BlockInHand(task, raw[: self.planes.channels, rows, columns], restoration)

    def _take_in_hand(self, block: _BlockInHand) -> list[Tile]:
        """Keep a block until its tiles are restored, and return the tiles."""
        self.in_hand.append(block)
        return [] if block.restoration is None else block.restoration.tiles

    def _finish_complete(self, writer: ThreadPoolExecutor) -> Iterator[ChunkFinished]:
        """Start to finish the chunks of complete blocks; report the chunks that are written."""
        if self.writing is not None and self.writing.done():
            yield self._written()
        while self.in_hand and self.in_hand[0].complete:
            block = self.in_hand.popleft()
            task, raw, restoration = block.task, block.raw, block.restoration
            if restoration is not None:
                for chunk, part in restoration.parts().items():
                    if chunk not in self.finished[task.plane]:
                        self.waiting[chunk].append(part)
            if task.finishes:
                if self.writing is not None:
                    yield self._written()
                parts = self.waiting.pop(task.block)
                self.writing = writer.submit(self._finish_chunk, task, raw, parts)

    def _written(self) -> ChunkFinished:
        """Wait for the chunk that is being written."""
        assert self.writing is not None
        writing, self.writing = self.writing, None
        return writing.result()

    def _finish_chunk(
        self, task: _BlockTask, raw: RawArray, parts: Sequence[PartialSums]
    ) -> ChunkFinished:
        """Write a chunk, and mark it afterwards."""
        intensity = self.ranges[task.plane]
        finished = finish_chunk(raw, task.block, parts, self.plan.blending, intensity)
        values, deviation, change = finished
        region = self.plan.grid.chunk(task.block)
        self.planes.write(self.out, task.plane, *region.slices, values)
        if self.changes is not None:
            self.planes.write_beside(self.changes, task.plane, *region.slices, change)
        if deviation is not None:
            self.planes.write_beside(self.deviation, task.plane, *region.slices, deviation)
        if self.journal is not None:
            self.journal.mark(task.plane, *task.block)
        return ChunkFinished(task.plane, (region.y0, region.y1), (region.x0, region.x1))


def _needed(grid: TileGrid, finished: Collection[BlockIndex]) -> set[BlockIndex]:
    """Return the blocks whose tiles reach an unfinished chunk."""
    return {
        block
        for block in grid.blocks()
        if any(chunk not in finished for chunk in grid.reached(block))
    }
