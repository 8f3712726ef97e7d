"""The levels of a result on disk: which of their chunks exist, how they are made and packed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import OutputError
from napari_swintormer.events import Clock
from napari_swintormer.imaging.formats.ome_zarr import disk_order
from napari_swintormer.imaging.store.journal import Journal
from napari_swintormer.imaging.store.pyramid import Pyramid
from napari_swintormer.imaging.store.sharding import Packing, chunk_name, chunk_of, is_many

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_swintormer.events import Progress
    from napari_swintormer.imaging.store.pyramid import ChunkIndex

JOURNAL = "journal.txt"
PLANES = "planes_per_chunk"


class Levels:
    """The arrays of a writable zarr group, finest first, with the journal of their chunks.

    A chunk of a coarser level is made as soon as all chunks that it covers are marked. `axes` are
    the letters of the image's axes, in its own order; the journal knows the number `PLANES`.
    """

    def __init__(self, group: Any, folder: Path, axes: str) -> None:
        self._group, self._folder, self._axes = group, folder, axes
        self._order = disk_order(axes)
        numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
        self.arrays: list[Any] = [group[str(number)] for number in numbers]
        self.journal = Journal(folder / JOURNAL)
        self.pyramid = Pyramid(self.arrays, self._order, self._note)
        self._planes_per_chunk = self.journal.numbers[PLANES]

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that the chunk of a plane is written, and make the coarser chunks it completes."""
        chunk = self._chunk(plane, row, column)
        self.journal.note_chunk(chunk_name(0, self.arrays[0], chunk), (plane, row, column))
        if self._is_complete(plane, row, column):
            self.pyramid.grow(chunk)

    def take_up(self) -> int:
        """Compare the files with the journal; count the files to be made again."""
        packings = self._packings()
        for packing in packings:
            packing.check_shards()
        damaged = {
            name
            for name in self.journal.checksums
            if not packings[_level_of(name)].has(name) and not self.journal.is_intact(name)
        }
        self.journal.forget(damaged)
        for mark in self.journal.marks:
            if self._is_complete(*mark):
                self.pyramid.add(0, self._chunk(*mark))
        for name in self.journal.checksums:
            if _level_of(name) > 0:
                self.pyramid.add(_level_of(name), chunk_of(name))
        return len(damaged)

    def finishing(self) -> Generator[Progress, None, None]:
        """Make the missing chunks of the coarser levels, and pack all where chunks are many.

        It can be stopped or killed, and begun again. It yields `Progress` after every chunk and
        every shard, and raises an `OutputError` for a file that is damaged since it was marked.
        """
        missing, packings = self.pyramid.missing(), list[Packing]()
        if is_many(self.arrays[0]):
            packings = [packing for packing in self._packings() if not packing.done]
        n_shards = sum(packing.n_shards for packing in packings)
        clock = Clock(len(missing) + n_shards, "chunks")
        for level, chunk in missing:
            self.pyramid.make(level, chunk)
            yield clock.after(1)
        # the coarsest first: a level stays whole until the next coarser one is packed
        for packing in reversed(packings):
            for _ in packing.run(self._check):
                yield clock.after(1)
        for loose in self._folder.glob("*.loose"):  # left by a killed run
            shutil.rmtree(loose)

    def _chunk(self, plane: int, row: int, column: int) -> ChunkIndex:
        """Give the number of a chunk of the finest level along every axis."""
        sizes = dict(zip(self._order, self.arrays[0].shape, strict=True))
        stack = [axis for axis in self._axes if axis in "TCZ"]
        position = np.unravel_index(
            plane // self._planes_per_chunk, [sizes[axis] for axis in stack] or [1]
        )
        along = {"Y": row, "X": column} | dict(zip(stack, map(int, position), strict=False))
        return tuple(along.get(axis, 0) for axis in self._order)

    def _is_complete(self, plane: int, row: int, column: int) -> bool:
        """Say whether all colours of a chunk are marked."""
        first = plane - plane % self._planes_per_chunk
        colours = range(first, first + self._planes_per_chunk)
        return all((colour, row, column) in self.journal.marks for colour in colours)

    def _note(self, level: int, chunk: ChunkIndex) -> None:
        self.journal.note_level(chunk_name(level, self.arrays[level], chunk))

    def _packings(self) -> list[Packing]:
        levels = range(len(self.arrays))
        return [Packing(self._group, self._folder, level, self._order) for level in levels]

    def _check(self, name: str) -> None:
        if not self.journal.is_intact(name):
            raise OutputError(
                f"A chunk of the unfinished run is damaged on disk (got {self._folder / name}). "
                "Resume the run: the chunk is made again."
            )


def _level_of(name: str) -> int:
    """Level that the file of a chunk belongs to."""
    return int(name.split("/")[0])
