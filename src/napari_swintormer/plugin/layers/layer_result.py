"""Results in memory or in the cache folder; layers show them while a run fills them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.formats.boundary import disk_errors
from napari_swintormer.imaging.formats.ome_zarr import disk_order
from napari_swintormer.imaging.store.pyramid import create_levels, renew_levels
from napari_swintormer.imaging.store.result import StoredArray
from napari_swintormer.imaging.views import Ordered
from napari_swintormer.plugin.layers.array_views import EveryNth, OwnedArray
from napari_swintormer.plugin.layers.space_check import (
    cache_shortage,
    changes_fit_in_memory,
    fits_in_memory,
)
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.stores import DEVIATION
from napari_swintormer.settings.preferences import cache_folder

Chunk = tuple[int, int, int]
"""Number of a plane, and row and column of a chunk in it."""


class LayerResult:
    """A result that a layer shows: the blurred image where it is not finished.

    It is the journal of its run, too.

    Attributes
    ----------
    array
        What the run writes.
    shown
        What a layer shows: an array, or levels, finest first.
    changes
        The change of every pixel in unit intensities, float32; None where it is not kept.
    deviation, shown_deviation
        The same for the standard deviation of the samples, 0 at the start; None without
        uncertainty.
    batch_size
        Tiles per forward pass when the run began; None before.
    """

    array: Any
    shown: Any
    changes: Any = None
    deviation: Any = None
    shown_deviation: Any = None

    def __init__(self, job: Job) -> None:
        self.batch_size: int | None = None
        self._job = job
        self._finished: set[Chunk] = set()

    def note_substitution(self, message: str) -> None:
        """Do nothing: the metadata of the layer get it when the run ends."""

    def finished(self) -> set[Chunk]:
        """Return the chunks that are written."""
        return self._finished

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that a chunk has been written."""
        self._finished.add((plane, row, column))

    @property
    def complete(self) -> bool:
        """Whether every chunk is finished."""
        rows, columns = self._job.plan.grid.n_blocks
        return len(self._finished) == self._job.plan.n_planes * rows * columns


class MemoryResult(LayerResult):
    """A result in memory."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.array = self.shown = np.array(job.planes.data, job.planes.dtype)
        if job.settings.uncertainty:
            self.deviation = self.shown_deviation = np.zeros(self.array.shape, DEVIATION)
        elif job.keeps_changes and changes_fit_in_memory(job):
            self.changes = np.zeros(self.array.shape, np.float32)


class CachedResult(LayerResult):
    """A result in the cache folder; the folder is deleted when no array uses it any more.

    It has coarser levels: napari would read the whole image on the GUI thread to make its own.
    `coarser` are levels of the blurred image, shown where the result is not finished.
    """

    def __init__(self, job: Job, coarser: Sequence[Any] = ()) -> None:
        super().__init__(job)
        self._coarser = coarser
        self._order = disk_order(job.planes.axes)
        self._shown_chunks: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        folder = _Folder(job.plan.disk_bytes)
        self._path = folder.path
        with disk_errors(self._path):
            self._levels = self._create_levels("result", job.planes.dtype)
            self._deviation_levels: list[Any] = []
            if job.settings.uncertainty:
                self._deviation_levels = self._create_levels("deviation", DEVIATION)
        axes = job.planes.axes
        self.array = StoredArray(self._levels[0], self._order, axes, self._path)
        shown = [self._show(number, folder) for number in range(len(self._levels))]
        self.shown = shown if len(shown) > 1 else shown[0]
        if self._deviation_levels:
            self.deviation = StoredArray(self._deviation_levels[0], self._order, axes, self._path)
            kept = [OwnedArray(a, self._order, axes, folder) for a in self._deviation_levels]
            self.shown_deviation = [da.from_array(level, name=False) for level in kept]

    def _create_levels(self, name: str, dtype: np.dtype[Any]) -> list[Any]:
        import zarr

        planes = self._job.planes
        sizes = dict(zip(planes.axes, planes.data.shape, strict=True))
        shape = tuple(int(sizes[axis]) for axis in self._order)
        group = zarr.open_group(self._path / name, mode="w", zarr_format=3)
        return create_levels(group, shape, dtype, self._order, self._job.plan.grid.block_size)

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that a chunk has been written, and show it once all its colours are written."""
        super().mark(plane, row, column)
        planes = self._job.planes
        position = planes.position(plane)
        colours = planes.numbers_at(position)
        if any((colour, row, column) not in self._finished for colour in colours):
            return
        chunk = self._job.plan.grid.chunk((row, column))
        region = {"Y": slice(chunk.y0, chunk.y1), "X": slice(chunk.x0, chunk.x1)}
        region |= {axis: slice(i, i + 1) for axis, i in position.items()}
        index = tuple(
            region.get(axis, slice(0, n))
            for axis, n in zip(self._order, self._levels[0].shape, strict=True)
        )
        with disk_errors(self._path):
            for levels in filter(None, (self._levels, self._deviation_levels)):
                renew_levels(levels, self._order, index)
        self._shown_chunks[colours.start].add((row, column))

    def _show(self, number: int, folder: _Folder) -> da.Array:
        """View a level as a dask array of the result where it is finished, else of the input."""
        axes, level = self._job.planes.axes, self._levels[number]
        after = Ordered(level, self._order, axes)
        chunks = da.core.normalize_chunks(
            tuple(level.chunks[self._order.index(axis)] for axis in axes), after.shape
        )
        side = self._job.plan.grid.block_size / 2**number
        filling = _Filling(self, side, self._blurred(number, after.shape), after, chunks, folder)
        meta = np.empty((0,) * after.ndim, after.dtype)
        name = f"filling-{uuid4().hex}"
        lazy: da.Array = da.map_blocks(
            filling.read, chunks=chunks, dtype=after.dtype, meta=meta, name=name
        )
        return lazy

    def _blurred(self, number: int, shape: tuple[int, ...]) -> EveryNth:
        """View the blurred image at the size of a level, from the coarsest level that fits."""
        for level in reversed(self._coarser):
            steps = tuple(max(1, round(n / m)) for n, m in zip(level.shape, shape, strict=True))
            if (view := EveryNth(level, steps)).shape == shape:
                return view
        steps = tuple(2**number if axis in "YX" else 1 for axis in self._job.planes.axes)
        return EveryNth(self._job.planes.data, steps)

    def shown_chunks(self, region: Sequence[slice]) -> set[tuple[int, int]]:
        """Return rows and columns of the chunks that are finished at the position of a region."""
        axes = self._job.planes.axes
        position = {a: part.start for a, part in zip(axes, region, strict=True) if a in "TCZ"}
        first = self._job.planes.numbers_at(position).start
        shown = self._shown_chunks.get(first)
        return set() if shown is None else shown.copy()  # the run adds to it meanwhile


def make_result(job: Job, coarser: Sequence[Any] = ()) -> LayerResult:
    """Make room for the result of a run: in memory if it fits comfortably, else on disk."""
    return MemoryResult(job) if fits_in_memory(job) else CachedResult(job, coarser)


class _Folder:
    """A folder in the cache, deleted when nothing refers to this object any more."""

    def __init__(self, needed: int) -> None:
        if sentence := cache_shortage(needed):
            raise OutputError(sentence)
        cache = cache_folder()
        with disk_errors(cache):
            cache.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix="result-", dir=cache))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class _Filling:
    """Reads chunks of a level, from the result where it is finished and else from the input."""

    result: CachedResult
    side: float  # of a chunk of the finest level, in pixels of this level
    before: EveryNth  # the blurred image at the size of this level
    after: Ordered
    chunks: tuple[tuple[int, ...], ...]  # sides along every axis; 1 along T, C and Z
    folder: _Folder  # exists as long as this object

    def read(self, block_id: tuple[int, ...]) -> NDArray[Any]:
        """Read a chunk by its number along every axis."""
        region = tuple(
            slice(i * sides[0], i * sides[0] + sides[i])
            for i, sides in zip(block_id, self.chunks, strict=True)
        )
        axes, side = self.after.axes, self.side
        y, x = (region[axes.index(axis)] for axis in "YX")
        done = [
            (rows, columns)
            for row, column in self.result.shown_chunks(region)
            if (rows := _overlap(row, side, y)) and (columns := _overlap(column, side, x))
        ]
        covered = sum((r.stop - r.start) * (c.stop - c.start) for r, c in done)
        if covered == (y.stop - y.start) * (x.stop - x.start):
            return np.asarray(self.after[region])
        pixels = self.before[region].astype(self.after.dtype)
        if done:
            after = np.asarray(self.after[region])
            for rows, columns in done:
                part = tuple({"Y": rows, "X": columns}.get(a, slice(None)) for a in axes)
                pixels[part] = after[part]
        return pixels


def _overlap(number: int, side: float, span: slice) -> slice | None:
    """Return the part of a span that a chunk covers, counted from the span's start, or None."""
    start, stop = round(number * side), round((number + 1) * side)
    start, stop = max(start, span.start), min(stop, span.stop)
    return slice(start - span.start, stop - span.start) if start < stop else None
