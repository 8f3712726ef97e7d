"""Volumes as a graph of dask tasks: a lazy array for dask's threads, or for a cluster.

A task takes a whole volume and restores it in memory, as large as its process allows. Further tasks
cut the chunks of the result out of it::

    image → volumes → restore ─┬─ cut → result

A task that nobody waits for any more ends after its iteration.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.engine import devices, volume
from napari_swintormer.engine.graph import in_layers
from napari_swintormer.engine.runners import RESTORER_LOCK
from napari_swintormer.engine.telling import Iterations, is_cancelled, tell, working_folder
from napari_swintormer.events import Notice, Progress
from napari_swintormer.imaging.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import dask.array as da
    from numpy.typing import NDArray

    from napari_swintormer.engine.stack_work import StackFit
    from napari_swintormer.imaging.carried import SampleMeaning
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.tiling.grid import TileGrid

    Key = tuple[Any, ...]
    Volume = NDArray[np.float32]


def lazy(
    grid: TileGrid,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    psfs: Mapping[int, Volume],
    fits: Mapping[int, StackFit],
    device: str,
    resources: Mapping[str, float] | None = None,
) -> da.Array:
    """Make an array that restores the volumes when it is computed.

    Parameters
    ----------
    grid, planes, ranges, psfs, fits
        See `napari_swintormer.engine.volume.run`; the planes are those of a dask array.
    device
        Name of the device, resolved where the work is done.
    resources
        Resources of a worker that a volume needs while it is restored, as for `dask.annotate`.

    Returns
    -------
    dask.array.Array
        It has the shape, dtype and bits of the result of `run`, in the chunks of
        `napari_swintormer.engine.graph.lazy`.
    """
    import dask.array as da
    from dask.base import tokenize

    axes = planes.axes
    data = planes.data if hasattr(planes.data, "dask") else da.from_array(planes.data)
    whole = {i: 1 if axis in "TC" else -1 for i, axis in enumerate(axes)}
    image = data.rechunk(whole, method="tasks")
    known = grid, axes, planes.meaning, tuple(ranges), planes.numbers, device
    token = tokenize(image.name, known, sorted(psfs.items()), sorted(fits.items()))
    work = _StackSettings(grid, axes, planes.meaning, dict(psfs), dict(fits), device, token)
    tasks = dict(_tasks(work, planes, ranges, image.name))
    graph = in_layers(tasks, [image], token, resources)
    sizes = {"Y": grid.block_size, "X": grid.block_size, "S": -1}
    chunks = da.core.normalize_chunks(
        tuple(sizes.get(axis, 1) for axis in axes), image.shape, dtype=image.dtype
    )
    return da.Array(graph, f"deblur-{token}", chunks, image.dtype)


@dataclass(frozen=True)
class _StackSettings:
    """What all tasks have in common."""

    grid: TileGrid
    axes: str  # of the image
    meaning: SampleMeaning  # of the numbers of the image
    psfs: Mapping[int, Volume]  # by index of C
    fits: Mapping[int, StackFit]  # by index of C
    device: str
    token: str  # of the graph


@dataclass(frozen=True)
class _Place:
    """Which volume of an image a task restores.

    Attributes
    ----------
    index
        Along T and C, as far as the image has these axes.
    channel
        Index of C in the whole image.
    ranges
        Intensity range of every plane.
    """

    index: tuple[int, ...]
    channel: int
    ranges: tuple[IntensityRange, ...]


def _tasks(
    work: _StackSettings, planes: Planes, ranges: Sequence[IntensityRange], image: str
) -> Iterator[tuple[Key, Any]]:
    """Give the tasks by key; a task is a tuple of a function and its arguments or their keys."""
    settings = (f"tiles-{work.token}",)
    yield settings, work  # sent once to every process
    axes, shape = work.axes, planes.data.shape
    depth = shape[axes.index("Z")]
    for along in np.ndindex(
        *(n if axis in "TC" else 1 for axis, n in zip(axes, shape, strict=True))
    ):
        at = {axis: i for axis, i in zip(axes, along, strict=True) if axis in "TCZ"}
        numbers = [n for z in range(depth) for n in planes.numbers_at(at | {"Z": z})]
        place = _Place(
            tuple(i for axis, i in zip(axes, along, strict=True) if axis in "TC"),
            volume.channel_of(planes, numbers[0]),
            tuple(ranges[n] for n in numbers),
        )
        restored = (f"restore-{work.token}", *along)
        yield restored, (_restore, settings, place, (image, *along))
        for z in range(depth):
            for block in work.grid.blocks():
                y, x = work.grid.chunk(block).slices
                parts = {"Z": slice(z, z + 1), "Y": y, "X": x}
                index = at | {"Z": z, "Y": block[0], "X": block[1]}
                key = (f"deblur-{work.token}", *(index.get(axis, 0) for axis in axes))
                cut = tuple(parts.get(axis, slice(None)) for axis in axes)
                yield key, (operator.getitem, restored, cut)


def _restore(work: _StackSettings, place: _Place, image: NDArray[Any]) -> NDArray[Any]:
    """Restore one volume, ``image``, on a device of this process."""
    planes, out = Planes(image, work.axes, 1, meaning=work.meaning), np.empty_like(image)
    with RESTORER_LOCK, TemporaryDirectory(dir=working_folder()) as scratch:
        device, *_ = devices.resolve_devices(work.device)
        events = volume.run(
            work.grid,
            planes,
            place.ranges,
            {0: work.psfs[place.channel]},
            device,
            out,
            fits={0: work.fits[place.channel]},
            scratch=Path(scratch),
        )
        done = 0
        for event in events:
            if is_cancelled():
                raise RuntimeError("The run of this volume was stopped.")
            if isinstance(event, Progress):
                done += 1
                tell(work.token, Iterations(place.index, done))
            elif isinstance(event, Notice):
                tell(work.token, event)
    return out
