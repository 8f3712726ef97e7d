"""The local engine: one device, block by block, stopping and going on.

Blocks are walked in raster order. A chunk is finished as soon as its own block is restored, so
all that stays in memory are the sums that reach into the next row of blocks and the next block.

Three things happen at the same time, each in a thread of its own: one block is read, the one
before it is restored, and the chunk of the one before that is finished and written. None runs
further ahead, so that memory stays bounded whichever is the slowest.
"""

from __future__ import annotations

from collections import defaultdict, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from napari_swintormer.engine.blocks import BlockRestoration, finish_chunk
from napari_swintormer.errors import SettingsError
from napari_swintormer.events import ChunkFinished, Clock, Notice

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
) -> Generator[Event, None, None]:
    """Restore all planes, chunk by chunk.

    Nothing happens before the first event is asked for. Closing the generator stops the run
    after the batch at hand and the chunk that is being written; what is written and marked stays
    valid, and a later run with the same journal completes it to the same bits.

    Parameters
    ----------
    plan
        Of `napari_swintormer.tiling.plan.make_plan`, for these planes.
    planes
        The image; read block by block, in another thread.
    ranges
        One per plane.
    runner
        Restores the tiles; one alone in the thread that asks for the events.
    out
        Array-like of the image's shape and dtype; ``planes.write`` writes each chunk once, in
        another thread, one at a time.
    journal
        Chunks that it has are not made again.
    deviation
        Array-like of the image's shape, float32, for the standard deviation of the samples; for a
        restorer with uncertainty.

    Yields
    ------
    Progress
        After every batch, in tiles, and after every step of a restorer that samples a prior; the
        ETA counts the work of this run alone.
    ChunkFinished
        After every chunk, in raster order of each plane.
    Notice
        What was done when memory ran out, see `TileRunner`.

    Raises
    ------
    SettingsError
        If memory is too small for a single tile, or for the blocks in hand.
    """
    try:
        yield from _Run(plan, planes, ranges, runner, out, journal, deviation).events()
    except MemoryError as error:
        raise SettingsError(
            "the computer's memory is too small for the blocks in hand (got "
            f"tile_size={plan.grid.tile_size}, {plan.channels} channels). Close other programs, or "
            "use a smaller tile_size."
        ) from error


class _Step(NamedTuple):
    """What there is to do for a block: restore its tiles, finish its chunk, or both."""

    plane: int
    block: BlockIndex
    restores: bool
    finishes: bool


@dataclass
class _InHand:
    """A block that has been read.

    Attributes
    ----------
    step
        What there is to do.
    raw
        The block's own chunk, (C, h, w), as in the image.
    restoration
        Of the tiles, or None if they are not needed.
    """

    step: _Step
    raw: RawArray
    restoration: BlockRestoration | None

    @property
    def complete(self) -> bool:
        """Whether no tile is left to restore."""
        return self.restoration is None or self.restoration.complete


class _Run:
    """One run; see `run` for the parameters."""

    def __init__(
        self,
        plan: Plan,
        planes: Planes,
        ranges: Sequence[IntensityRange],
        runner: Runner,
        out: Any,
        journal: RunJournal | None,
        deviation: Any,
    ) -> None:
        self.plan, self.planes, self.ranges = plan, planes, ranges
        self.runner, self.out, self.journal = runner, out, journal
        self.deviation = deviation
        self.finished: defaultdict[int, set[BlockIndex]] = defaultdict(set)
        for plane, row, column in () if journal is None else journal.finished():
            self.finished[plane].add((row, column))
        self.in_hand: deque[_InHand] = deque()
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
                yield from map(Notice, self.runner.take_notices())
                if not changes:
                    step, steps, tiles = self.runner.steps
                    yield clock.within(tiles, step, steps)
                    continue
                restoration = next(b.restoration for b in self.in_hand if not b.complete)
                assert restoration is not None
                restoration.add(changes)
                yield clock.after(len(changes))
                yield from self._hand_on(writer)
            yield from self._hand_on(writer)
            if self.writing is not None:
                yield self.writing.result()

    def _steps(self) -> Iterator[_Step]:
        """Give what is to be done, in raster order of each plane."""
        grid = self.plan.grid
        for plane in range(self.plan.n_planes):
            finished = self.finished[plane]
            needed = _needed(grid, finished)
            for block in grid.blocks():
                if block in needed or block not in finished:
                    yield _Step(plane, block, block in needed, block not in finished)

    def _read(self, reader: ThreadPoolExecutor) -> Iterator[_InHand]:
        """Give the blocks in order; while one is in hand, the next is read."""
        coming: deque[Future[_InHand]] = deque()
        for step in self._steps():
            coming.append(reader.submit(self._read_one, step))
            if len(coming) > 1:
                yield coming.popleft().result()
        if coming:
            yield coming.popleft().result()

    def _read_one(self, step: _Step) -> _InHand:
        grid, blending = self.plan.grid, self.plan.blending
        chunk = grid.chunk(step.block)
        if not step.restores:  # the tiles of earlier blocks make this chunk
            return _InHand(step, self.planes.read(step.plane, *chunk.slices), None)
        source = grid.source(step.block)
        raw = self.planes.read_views(step.plane, *source.slices)
        intensity = self.ranges[step.plane]
        number = self.planes.numbers[step.plane]
        restoration = BlockRestoration(raw, step.block, blending, intensity, number)
        rows, columns = chunk.within(source)
        return _InHand(step, raw[: self.planes.channels, rows, columns], restoration)

    def _take_in_hand(self, block: _InHand) -> list[Tile]:
        """Keep a block until its tiles are restored, and give them."""
        self.in_hand.append(block)
        return [] if block.restoration is None else block.restoration.tiles

    def _hand_on(self, writer: ThreadPoolExecutor) -> Iterator[ChunkFinished]:
        """Have the chunks of complete blocks finished; tell of those that are written."""
        if self.writing is not None and self.writing.done():
            yield self._written()
        while self.in_hand and self.in_hand[0].complete:
            block = self.in_hand.popleft()
            step, raw, restoration = block.step, block.raw, block.restoration
            if restoration is not None:
                for chunk, part in restoration.parts().items():
                    if chunk not in self.finished[step.plane]:
                        self.waiting[chunk].append(part)
            if step.finishes:
                if self.writing is not None:
                    yield self._written()
                parts = self.waiting.pop(step.block)
                self.writing = writer.submit(self._finish_chunk, step, raw, parts)

    def _written(self) -> ChunkFinished:
        """Wait for the chunk that is being written."""
        assert self.writing is not None
        writing, self.writing = self.writing, None
        return writing.result()

    def _finish_chunk(
        self, step: _Step, raw: RawArray, parts: Sequence[PartialSums]
    ) -> ChunkFinished:
        """Write a chunk, and only then note it as finished."""
        intensity = self.ranges[step.plane]
        values, deviation = finish_chunk(raw, step.block, parts, self.plan.blending, intensity)
        region = self.plan.grid.chunk(step.block)
        self.planes.write(self.out, step.plane, *region.slices, values)
        if deviation is not None:
            self.planes.write_beside(self.deviation, step.plane, *region.slices, deviation)
        if self.journal is not None:
            self.journal.mark(step.plane, *step.block)
        return ChunkFinished(step.plane, (region.y0, region.y1), (region.x0, region.x1))


def _needed(grid: TileGrid, finished: Collection[BlockIndex]) -> set[BlockIndex]:
    """Blocks whose tiles touch an unfinished chunk."""
    return {
        block
        for block in grid.blocks()
        if any(chunk not in finished for chunk in grid.reached(block))
    }
