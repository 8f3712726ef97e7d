"""The same two steps as a graph of tasks: a lazy array for dask's threads, or for a cluster.

The image is brought into chunks that are the blocks of the grid. A block's task takes its chunk
and, of the next chunks, the margins that its tiles reach; it gives its sums by chunk. A chunk of
the result takes its chunk of the image and the sums that reach it::

    image → chunks ─┬─ margins → restore → sums ─┬─ finish → result
                    └────────────────────────────┘

A second view gives its chunks and margins to "restore" alike. With uncertainty "finish" gives a
pair, the result and its deviation; each becomes an array.

Nothing is restored twice, and a part of the result asks only for the blocks that reach it. Dask
chooses the order and keeps the sums of a few rows of blocks, or of input chunks where those are
larger: memory grows with the width of the image, and faster than in the local engine.
"""

from __future__ import annotations

import logging
import operator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.engine.blocks import finish_chunk, restore_block
from napari_swintormer.engine.runners import ALONE, shared_runner
from napari_swintormer.imaging.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    from napari_swintormer.engine.blocks import PartialSums, RawArray
    from napari_swintormer.engine.runners import RunnerRecipe
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.tiling.blending import Blending
    from napari_swintormer.tiling.grid import BlockIndex, Region
    from napari_swintormer.tiling.plan import Plan

    Key = tuple[Any, ...]

_LOGGER = logging.getLogger(__name__)  # what a worker of a cluster can tell its user


def lazy(
    plan: Plan,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    recipe: RunnerRecipe,
    resources: Mapping[str, float] | None = None,
) -> da.Array:
    """Restore all planes when asked for.

    Parameters
    ----------
    plan
        Of `napari_swintormer.tiling.plan.make_plan`, for these planes.
    planes
        Of a dask array in any chunks; a second view may be any array-like.
    ranges
        One per plane.
    recipe
        How the processes that do the work make their runner: once each, and it works on one
        block at a time.
    resources
        What a block takes of a worker while it is restored, as for `dask.annotate`; see
        `napari_swintormer.engine.cluster.gpu_resources`.

    Returns
    -------
    dask.array.Array
        Of the image's shape and dtype, in chunks of ``plan.grid.block_size`` along Y and X and of 1
        along T, C and Z; bit for bit what `napari_swintormer.engine.local.run` makes.
    """
    import dask.array as da

    image, name, graph = _graph(plan, planes, ranges, recipe, resources)
    meta = np.empty((0,) * image.ndim, image.dtype)
    return da.Array(graph, name, image.chunks, meta=meta)


def lazy_with_deviation(
    plan: Plan,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    recipe: RunnerRecipe,
    resources: Mapping[str, float] | None = None,
) -> tuple[da.Array, da.Array]:
    """Restore all planes as `lazy` does, and tell how the samples differ.

    Parameters
    ----------
    plan, planes, ranges, recipe, resources
        As in `lazy`; the recipe is one with uncertainty.

    Returns
    -------
    result, deviation
        The second in float32, of the same shape and chunks. Computed together they share the work.
    """
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    image, pairs, graph = _graph(plan, planes, ranges, recipe, resources)
    arrays = []
    for number, (kind, dtype) in enumerate((("first", image.dtype), ("deviation", np.float32))):
        name = f"{kind}-of-{pairs}"
        layer: dict[Any, Any] = {
            (name, *place): (operator.getitem, (pairs, *place), number)
            for place in np.ndindex(*image.numblocks)
        }
        dependencies = {**graph.dependencies, name: {pairs}}
        whole = HighLevelGraph({**graph.layers, name: layer}, dependencies)
        meta = np.empty((0,) * image.ndim, dtype)
        arrays.append(da.Array(whole, name, image.chunks, meta=meta))
    result, deviation = arrays
    return result, deviation


def _graph(
    plan: Plan,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    recipe: RunnerRecipe,
    resources: Mapping[str, float] | None = None,
) -> tuple[da.Array, str, HighLevelGraph]:
    """Give the image in the chunks of the result, the name of these and the graph."""
    from dask.base import tokenize

    block = plan.grid.block_size
    sizes = {"Y": block, "X": block, "S": -1}
    wanted = {i: sizes.get(axis, 1) for i, axis in enumerate(planes.axes)}
    views = [planes.data] if planes.second is None else [planes.data, planes.second.data]
    # by tasks: the other method computes the whole image before it gives any part
    images = [_as_dask(view).rechunk(wanted, method="tasks") for view in views]
    names = [image.name for image in images]
    runner = (recipe.name, recipe.device, recipe.precision, recipe.batch_size, recipe.prior)
    settings = (ranges, planes.numbers, *runner, recipe.scale)
    token = tokenize(names, plan.blending, planes.axes, planes.channels, settings)
    work = _Work(
        plan.blending, planes.axes, planes.channels, tuple(ranges), tuple(planes.numbers), recipe
    )
    tasks = dict(_tasks(work, images, token))
    return images[0], f"deblur-{token}", _in_layers(tasks, images, token, resources)


def _as_dask(view: Any) -> da.Array:
    import dask.array as da

    array: da.Array = view if hasattr(view, "dask") else da.from_array(view)
    return array


def _in_layers(
    tasks: dict[Key, Any],
    images: Sequence[da.Array],
    token: str,
    resources: Mapping[str, float] | None,
) -> HighLevelGraph:
    """Part the tasks: those that restore take `resources`, and no others."""
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

    given, restored, made = f"tiles-{token}", f"restore-{token}", f"deblur-{token}"
    parts: dict[str, dict[Key, Any]] = {given: {}, restored: {}, made: {}}
    for key, task in tasks.items():
        parts.get(key[0], parts[given])[key] = task
    annotations = {restored: {"resources": dict(resources)}} if resources else {}
    layers = {name: MaterializedLayer(parts[name], annotations.get(name)) for name in parts}
    names = {image.name for image in images}
    needs = {given: names, restored: {*names, given}, made: {*names, given, restored}}
    graph = HighLevelGraph.merge(*(image.dask for image in images))
    return HighLevelGraph({**graph.layers, **layers}, {**graph.dependencies, **needs})


def _tasks(work: _Work, images: Sequence[da.Array], token: str) -> Iterator[tuple[Key, Any]]:
    """Give the tasks by key; a task is a tuple of a function and its arguments or their keys."""
    yield (f"tiles-{token}",), work  # sent once to every process
    stack_axes = [i for i, axis in enumerate(work.axes) if axis in "TCZ"]
    shape, names = images[0].shape, [image.name for image in images]
    positions = list(np.ndindex(*(shape[i] for i in stack_axes)))
    each = len(work.ranges) // len(positions)  # planes of a chunk: more than one for colours
    for number, position in enumerate(positions):
        index = [0] * len(shape)
        for axis, place in zip(stack_axes, position, strict=True):
            index[axis] = int(place)
        position_tasks = _PositionTasks(work, names, token, number * each, index)
        for block in work.blending.grid.blocks():
            yield from position_tasks.restoring(block)
            yield position_tasks.finishing(block)


class _PositionTasks:
    """Gives the tasks of all planes at one position along T, C and Z.

    Parameters
    ----------
    work, token
        As in `_tasks`.
    images
        Names of the views, in chunks of the block size.
    first
        Number of the first plane.
    index
        Of the position along T, C and Z; 0 along the other axes.
    """

    def __init__(
        self, work: _Work, images: Sequence[str], token: str, first: int, index: list[int]
    ) -> None:
        self._work, self._grid, self._images = work, work.blending.grid, images
        self._token, self._first, self._index = token, first, index
        self._y, self._x = work.axes.index("Y"), work.axes.index("X")

    def restoring(self, block: BlockIndex) -> Iterator[tuple[Key, Any]]:
        """Give the task that restores a block, if it has tiles, and those of its margins."""
        reached = self._grid.reached(block)
        if not reached:
            return
        sources = []
        for number, (image, chunk) in enumerate(product(self._images, reached)):
            raw, whole = self._key(image, chunk), self._grid.chunk(chunk)
            part = self._grid.source(block).intersection(whole)
            if part != whole:
                margin = (*self._key(f"margin-{self._token}", block), number)
                yield margin, (operator.getitem, raw, self._work.index(part, whole))
                raw = margin
            sources.append(raw)
        shape = len(self._images), len(reached), len({column for _, column in reached})
        yield self._restored(block), (_restore, *self._common(block), shape, *sources)

    def finishing(self, chunk: BlockIndex) -> tuple[Key, Any]:
        """Give the task of a chunk of the result."""
        raw = self._key(self._images[0], chunk)
        sums = map(self._restored, self._grid.contributors(chunk))
        task = (_finish, *self._common(chunk), raw, *sums)
        return self._key(f"deblur-{self._token}", chunk), task

    def _common(self, block: BlockIndex) -> tuple[Any, ...]:
        return (f"tiles-{self._token}",), self._first, block

    def _restored(self, block: BlockIndex) -> Key:
        return self._key(f"restore-{self._token}", block)

    def _key(self, name: str, block: BlockIndex) -> Key:
        index = list(self._index)
        index[self._y], index[self._x] = block
        return (name, *index)


@dataclass(frozen=True)
class _Work:
    """What all tasks have in common.

    Attributes
    ----------
    blending, recipe
        As in `lazy`.
    axes, channels
        Of the planes.
    ranges, numbers
        One per plane; the number is that in the whole image.
    """

    blending: Blending
    axes: str
    channels: int
    ranges: tuple[IntensityRange, ...]
    numbers: tuple[int, ...]
    recipe: RunnerRecipe

    def index(self, region: Region, outer: Region) -> tuple[slice, ...]:
        """Index of a region in a chunk that holds `outer`."""
        rows, columns = region.within(outer)
        return tuple({"Y": rows, "X": columns}.get(axis, slice(None)) for axis in self.axes)

    def planes(self, chunk: RawArray, second: RawArray | None = None) -> Planes:
        """See a chunk of the image, and of its second view, as its planes."""
        return Planes(chunk, self.axes, self.channels, second)

    def joined(self, sources: Sequence[RawArray], columns: int) -> RawArray:
        """Put parts of the image together, given in rows of `columns`."""
        x, y = self.axes.index("X"), self.axes.index("Y")
        begins = range(0, len(sources), columns)
        rows = [np.concatenate(sources[i : i + columns], axis=x) for i in begins]
        return np.concatenate(rows, axis=y)


def _restore(
    work: _Work, first: int, block: BlockIndex, shape: tuple[int, int, int], *sources: RawArray
) -> dict[BlockIndex, list[PartialSums]]:
    """Restore a block of the planes from `first` on; give the sums of every plane by chunk.

    `sources` are the parts of the views that the block's tiles reach; `shape` says how many views,
    how many parts of each, and in rows of how many.
    """
    n_views, each, columns = shape
    begins = range(0, n_views * each, each)
    planes = work.planes(*(work.joined(sources[i : i + each], columns) for i in begins))
    whole = slice(None)
    sums: dict[BlockIndex, list[PartialSums]] = {}
    with ALONE:
        runner = shared_runner(work.recipe)
        for plane in range(len(planes)):
            raw, intensity = planes.read_views(plane, whole, whole), work.ranges[first + plane]
            number = work.numbers[first + plane]
            parts = restore_block(raw, block, work.blending, intensity, number, runner)
            for chunk, part in parts.items():
                sums.setdefault(chunk, []).append(part)
        for notice in runner.take_notices():
            _LOGGER.warning(notice)
    return sums


def _finish(
    work: _Work,
    first: int,
    chunk: BlockIndex,
    raw: RawArray,
    *sums: dict[BlockIndex, list[PartialSums]],
) -> RawArray | tuple[RawArray, RawArray]:
    """Make a chunk of the result from that of the image and the sums that reach it.

    With uncertainty its deviation, too.
    """
    planes, out = work.planes(raw), np.empty(raw.shape, raw.dtype)
    uncertainty = work.recipe.prior.uncertainty
    beside = np.zeros(raw.shape if uncertainty else 0, np.float32)
    whole = slice(None)
    for plane in range(len(planes)):
        values, intensity = planes.read(plane, whole, whole), work.ranges[first + plane]
        parts = [of_block[chunk][plane] for of_block in sums]
        values, deviation = finish_chunk(values, chunk, parts, work.blending, intensity)
        planes.write(out, plane, whole, whole, values)
        if deviation is not None:
            planes.write_beside(beside, plane, whole, whole, deviation)
    return (out, beside) if uncertainty else out
