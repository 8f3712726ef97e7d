"""Where the result of a run in the viewer is kept, and how it is shown while it fills in."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import psutil
from numpy.typing import NDArray

from napari_swintormer.errors import OutputError
from napari_swintormer.events import ChunkFinished
from napari_swintormer.imaging.formats.ome_zarr import disk_order
from napari_swintormer.imaging.formats.writing import ZARR_SUFFIX, disk_errors
from napari_swintormer.imaging.ordered import Ordered, expand_index
from napari_swintormer.imaging.store.pyramid import (
    create_coarser_levels,
    create_level,
    renew_levels,
)
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.stores import DEVIATION
from napari_swintormer.settings.preferences import cache_folder
from napari_swintormer.tiling.plan import size_text

# Above the texture size of the graphics card napari allocates the whole image again, in pieces.
# This size is what practically every card takes.
LARGEST_TEXTURE = 8192
# A result may take this share of the free memory; a larger one goes to disk.
_SHARE_OF_MEMORY = 0.25

Chunk = tuple[int, int, int]


class Result:
    """Room for a result that a run fills: in memory where it fits comfortably, else on disk.

    It shows the blurred image from the start, and the result where chunks are finished. What lies
    on disk goes with the last array over it.

    Parameters
    ----------
    job
        The planned run.
    coarser
        Coarser levels of the image, finest first, if it has any; they stand for the result where
        that is not finished.

    Attributes
    ----------
    array
        What the run writes.
    shown
        What a layer shows: the image, or its levels, finest first. Levels are there for large
        planes: napari would read the whole image on the GUI thread to make its own.
    deviation, shown_deviation
        The same for the deviation of the samples, which is 0 at the start; None without
        uncertainty.
    batch_size
        Tiles at once when the run began; None before.

    Raises
    ------
    OutputError
        If the result is too large for memory and for the disk.
    """

    def __init__(self, job: Job, coarser: Sequence[Any] = ()) -> None:
        self._job = job
        self.batch_size: int | None = None
        self._finished: set[Chunk] = set()
        self._told: set[Chunk] = set()
        self._blocks_shown: defaultdict[int, set[tuple[int, int]]] = defaultdict(set)
        self._levels: list[Any] = []
        self._deviation_levels: list[Any] = []
        self.deviation: Any = None
        self.shown_deviation: Any = None
        planes, uncertainty = job.planes, job.settings.uncertainty
        if fits_in_memory(job):
            self.array: Any = np.array(planes.data, planes.dtype)
            self.shown: Any = self.array
            if uncertainty:
                self.deviation = np.zeros(planes.data.shape, DEVIATION)
                self.shown_deviation = self.deviation
            return
        folder, order = _Folder(job.plan.disk_bytes), disk_order(planes.axes)
        with disk_errors(folder.path):
            self._levels = self._create_levels(folder.path / "result", planes.dtype)
            if uncertainty:
                path = folder.path / "deviation"
                self._deviation_levels = self._create_levels(path, DEVIATION)
        if uncertainty:
            levels = [_Kept(a, order, planes.axes, folder) for a in self._deviation_levels]
            self.deviation = _OnDisk(self._deviation_levels[0], order, planes.axes, folder.path)
            self.shown_deviation = [da.from_array(level, name=False) for level in levels]
        self.array = _OnDisk(self._levels[0], order, planes.axes, folder.path)
        shown = self._shown(folder, [planes.data, *coarser])
        self.shown = shown if len(shown) > 1 else shown[0]

    # ---- the journal of the run --------------------------------------------------------------

    def finished(self) -> set[Chunk]:
        """Chunks (plane, row, column) that are written."""
        return self._finished

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that a chunk has been written."""
        self._finished.add((plane, row, column))

    @property
    def complete(self) -> bool:
        """Whether every chunk is finished."""
        rows, columns = self._job.plan.grid.n_blocks
        return len(self._finished) == self._job.plan.n_planes * rows * columns

    # ---- what is shown -----------------------------------------------------------------------

    def take(self, event: ChunkFinished) -> None:
        """Show a chunk that has just been finished."""
        if not self._levels:
            return  # the layer shows the array itself
        planes, block = self._job.planes, self._job.plan.grid.block_size
        place = planes.position(event.plane)
        colours = planes.numbers_at(place)
        row, column = event.y[0] // block, event.x[0] // block
        self._told.add((event.plane, row, column))
        if any((colour, row, column) not in self._told for colour in colours):
            return  # colours one by one: shown when the last is there
        order = disk_order(planes.axes)
        region = {"Y": slice(*event.y), "X": slice(*event.x)}
        region |= {axis: slice(i, i + 1) for axis, i in place.items()}
        whole = slice(0, self._levels[0].shape[order.index("S")]) if "S" in order else slice(0)
        index = tuple(region.get(axis, whole) for axis in order)
        for levels in filter(None, (self._levels, self._deviation_levels)):
            renew_levels(levels, order, index)
        self._blocks_shown[colours.start].add((row, column))

    def catch_up(self) -> None:
        """Show the chunks that were written while the run was stopped, too late to be told of."""
        for plane, row, column in sorted(self._finished - self._told):
            chunk = self._job.plan.grid.chunk((row, column))
            self.take(ChunkFinished(plane, (chunk.y0, chunk.y1), (chunk.x0, chunk.x1)))

    def _create_levels(self, folder: Path, dtype: np.dtype[Any]) -> list[Any]:
        import zarr

        planes, block = self._job.planes, self._job.plan.grid.block_size
        order = disk_order(planes.axes)
        sizes = dict(zip(planes.axes, planes.data.shape, strict=True))
        chunks = {"Y": block, "X": block, "S": sizes.get("S", 1)}
        group = zarr.open_group(folder, mode="w", zarr_format=3)
        create_level(
            group,
            0,
            tuple(int(sizes[axis]) for axis in order),
            dtype,
            tuple(chunks.get(axis, 1) for axis in order),
            order,
        )
        return create_coarser_levels(group, order)

    def _shown(self, folder: _Folder, before: Sequence[Any]) -> list[da.Array]:
        """See each level as a dask array that shows the input where nothing is finished."""
        planes, block = self._job.planes, self._job.plan.grid.block_size
        order, levels = disk_order(planes.axes), []
        for number, level in enumerate(self._levels):
            after = Ordered(level, order, planes.axes)
            filling = _Filling(
                _Coarser.of(before, after.shape),
                after,
                planes.axes,
                self,
                block / 2**number,
                folder,
            )
            chunks = tuple(level.chunks[order.index(axis)] for axis in planes.axes)
            meta = np.empty((0,) * filling.ndim, filling.dtype)
            levels.append(da.from_array(filling, chunks=chunks, name=False, meta=meta))
        return levels

    def blocks_shown(self, first: int) -> set[tuple[int, int]]:
        """Rows and columns of the chunks that are shown of the planes from `first` on."""
        shown = self._blocks_shown.get(first)
        return set() if shown is None else shown.copy()  # the worker adds to it meanwhile

    def first_plane(self, index: Sequence[slice]) -> int | None:
        """Give the number of the first plane at a region of the image; None if it has several."""
        place = {}
        for axis, part in zip(self._job.planes.axes, index, strict=True):
            if axis in "TCZ":
                if part.stop - part.start != 1:
                    return None
                place[axis] = part.start
        return self._job.planes.numbers_at(place).start


def fits_in_memory(job: Job) -> bool:
    """Say whether the result of a run is kept in memory, and not on disk."""
    free = psutil.virtual_memory().available
    return _bytes(job) <= _SHARE_OF_MEMORY * free and max(job.planes.shape) <= LARGEST_TEXTURE


def shortage(job: Job, destination: Path | None = None) -> str | None:
    """Say what the computer lacks for a run, and the way out; None where it has all.

    Parameters
    ----------
    job
        The planned run.
    destination
        File that the result goes to; None keeps it in memory or in the cache folder.
    """
    memory = psutil.virtual_memory().available
    kept = _bytes(job) if destination is None and fits_in_memory(job) else 0
    if job.plan.host_bytes + kept > memory:
        return (
            f"This takes {size_text(job.plan.host_bytes + kept)} of memory, and "
            f"{size_text(memory)} are free. Choose a smaller tile size or a batch size of 1, or "
            "close other programs."
        )
    if kept:
        return None
    if destination is None:
        return _disk_shortage(job.plan.disk_bytes)
    needed, free = file_bytes(job, destination), shutil.disk_usage(destination.parent).free
    if needed <= free:
        return None
    return (
        f"{destination.name} may take {size_text(needed)}, and {size_text(free)} are free on its "
        "disk. Free some space, or save to another disk."
    )


def file_bytes(job: Job, destination: Path) -> int:
    """Give the most room that a result needs beside its file and in it."""
    # OME-Zarr has coarser levels; any other format is written a second time, from the first
    return _bytes(job) * 4 // 3 if destination.suffix.lower() == ZARR_SUFFIX else 2 * _bytes(job)


def _disk_shortage(needed: int) -> str | None:
    cache = cache_folder()
    there = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if needed <= free:
        return None
    return (
        f"The result may take {size_text(needed)} on the disk of {cache}, and {size_text(free)} "
        "are free. Free some space, or set SWINTORMER_HOME to a folder on another disk."
    )


def _bytes(job: Job) -> int:
    itemsize = job.planes.dtype.itemsize + DEVIATION.itemsize * job.settings.uncertainty
    size: int = prod(job.planes.data.shape) * itemsize
    return size


class _Folder:
    """A folder in the cache that goes with the last array over it."""

    def __init__(self, needed: int) -> None:
        if sentence := _disk_shortage(needed):
            raise OutputError(sentence)
        cache = cache_folder()
        with disk_errors(cache):
            cache.mkdir(parents=True, exist_ok=True)
            self.path = Path(tempfile.mkdtemp(prefix="result-", dir=cache))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class _OnDisk(Ordered):
    """What the run writes; a full disk is told in one sentence."""

    folder: Path

    def __setitem__(self, index: Any, value: NDArray[Any]) -> None:
        with disk_errors(self.folder):
            super().__setitem__(index, value)


@dataclass(frozen=True, eq=False)
class _Kept(Ordered):
    """A level of an array whose folder is kept as long as the level."""

    folder: _Folder


@dataclass(frozen=True, eq=False)
class _Coarser:
    """Every n-th pixel of an array, n along each dimension, up to the shape of a level."""

    data: Any
    steps: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, levels: Sequence[Any], shape: tuple[int, ...]) -> _Coarser:
        """Take from the coarsest level that is no smaller than `shape`."""
        fine = [a for a in levels if all(n >= m for n, m in zip(a.shape, shape, strict=True))]
        data = fine[-1]
        steps = tuple(max(1, round(n / m)) for n, m in zip(data.shape, shape, strict=True))
        return cls(data, steps, shape)

    def read(self, index: Sequence[slice]) -> NDArray[Any]:
        """Read a region of the level; a missing last row or column repeats the one before."""
        finer = tuple(
            slice(part.start * step, min(part.stop * step, n), step)
            for part, step, n in zip(index, self.steps, self.data.shape, strict=True)
        )
        pixels = np.asarray(self.data[finer])
        wanted = [part.stop - part.start for part in index]
        missing = [(0, max(0, w - n)) for w, n in zip(wanted, pixels.shape, strict=True)]
        pixels = pixels[tuple(slice(0, w) for w in wanted)]
        return np.pad(pixels, missing, mode="edge") if np.any(missing) else pixels


@dataclass(frozen=True, eq=False)
class _Filling:
    """A level of a result where that is finished, and of the blurred image elsewhere."""

    before: _Coarser
    after: Ordered
    axes: str
    result: Result
    block: float  # side of a chunk of the result in pixels of this level
    folder: _Folder  # kept as long as the array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.after.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.after.dtype

    @property
    def ndim(self) -> int:
        return len(self.axes)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        wanted = expand_index(index, self.ndim)
        region = [
            slice(i, i + 1) if not isinstance(i, slice) else slice(*i.indices(n)[:2])
            for i, n in zip(wanted, self.shape, strict=True)
        ]
        single = tuple(slice(None) if isinstance(i, slice) else 0 for i in wanted)
        return self._read(region)[single]

    def _read(self, region: list[slice]) -> NDArray[Any]:
        y, x = (region[self.axes.index(axis)] for axis in "YX")
        first = self.result.first_plane(region)
        if first is None:  # several planes: one by one
            axis = next(
                i
                for i, (a, r) in enumerate(zip(self.axes, region, strict=True))
                if a in "TCZ" and r.stop - r.start != 1
            )
            parts = [
                self._read([*region[:axis], slice(i, i + 1), *region[axis + 1 :]])
                for i in range(region[axis].start, region[axis].stop)
            ]
            return np.concatenate(parts, axis)
        done = [
            (rows, columns)
            for row, column in self.result.blocks_shown(first)
            if (rows := _common(row, self.block, y)) and (columns := _common(column, self.block, x))
        ]
        covered = sum((r.stop - r.start) * (c.stop - c.start) for r, c in done)
        if covered == (y.stop - y.start) * (x.stop - x.start):
            return np.asarray(self.after[tuple(region)])
        pixels = self.before.read(region).astype(self.dtype)
        if done:
            after = np.asarray(self.after[tuple(region)])
            for rows, columns in done:
                part = tuple({"Y": rows, "X": columns}.get(a, slice(None)) for a in self.axes)
                pixels[part] = after[part]
        return pixels


def _common(number: int, side: float, span: slice) -> slice | None:
    """Where the chunk of a number lies in a span, counted from its start; None if it does not."""
    start, stop = round(number * side), round((number + 1) * side)
    start, stop = max(start, span.start), min(stop, span.stop)
    return slice(start - span.start, stop - span.start) if start < stop else None
