"""A run as a graph of dask tasks: a lazy array for dask's threads, or for a cluster.

The image is brought into chunks that are the blocks of the grid. The task of a block takes its
chunk and the margins of the next chunks that its tiles reach, and returns its sums by chunk. The
task of a chunk of the result takes its chunk of the image and the sums that reach it::

    image → chunks ─┬─ margins → restore → sums ─┬─ finish → result
                    └────────────────────────────┘

A second view gives its chunks and margins to "restore" as well. With uncertainty "finish" returns a
pair, the result and its deviation, and each becomes an array.

Nothing is restored twice, and a part of the result needs only the blocks that reach it. Dask
chooses the order, and keeps the sums of a few rows of blocks, or of input chunks where those are
larger. So memory grows with the width of the image, and faster than in the local engine.
"""

from __future__ import annotations

import logging
import operator
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.engine.blocks import finish_chunk, restore_block
from napari_swintormer.engine.runners import RESTORER_LOCK, shared_runner
from napari_swintormer.engine.telling import tell
from napari_swintormer.events import Substitution
from napari_swintormer.imaging.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    from napari_swintormer.engine.blocks import PartialSums, RawArray
    from napari_swintormer.engine.runners import RunnerRecipe
    from napari_swintormer.imaging.carried import SampleMeaning
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.tiling.blending import Blending
    from napari_swintormer.tiling.grid import BlockIndex, Region
    from napari_swintormer.tiling.plan import Plan

    Key = tuple[Any, ...]

_LOGGER = logging.getLogger(__name__)  # a worker of a cluster has no other way to tell its user
_WHOLE = slice(None)


def lazy(
    plan: Plan,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    recipe: RunnerRecipe,
    resources: Mapping[str, float] | None = None,
) -> tuple[da.Array, da.Array | None]:
    """Make arrays that restore the planes when they are computed.

    Parameters
    ----------
    plan, planes, ranges
        The plan for these planes of a dask array, in any chunks, and an intensity range for each. A
        second view may be any array-like.
    recipe
        How each process makes its runner, once; the runner works on one block at a time.
    resources
        Resources of a worker that a block needs while it is restored, as for `dask.annotate`.

    Returns
    -------
    result, deviation
        `result` has the shape and dtype of the image, in chunks of ``plan.grid.block_size`` along Y
        and X and of 1 along T, C and Z, and the bits of `napari_swintormer.engine.local.run`.
        `deviation` is the standard deviation of the samples, float32 in the same chunks; None
        without uncertainty. Arrays that are computed together share the work.
    """
    import dask.array as da
    from dask.base import tokenize

    sizes = {"Y": plan.grid.block_size, "X": plan.grid.block_size, "S": -1}
    chunks = {i: sizes.get(axis, 1) for i, axis in enumerate(planes.axes)}
    views = [planes.data] if planes.second is None else [planes.data, planes.second.data]
    # by tasks: the other method computes the whole image before it gives any part
    images = [
        (view if hasattr(view, "dask") else da.from_array(view)).rechunk(chunks, method="tasks")
        for view in views
    ]
    names, image = [each.name for each in images], images[0]
    runner = (recipe.name, recipe.device, recipe.precision, recipe.batch_size, recipe.prior)
    settings = (ranges, planes.numbers, *runner, recipe.scale)
    token = tokenize(names, plan.blending, planes.axes, planes.channels, settings)
    work = _TaskSettings(
        plan.blending,
        planes.axes,
        planes.channels,
        planes.meaning,
        tuple(ranges),
        tuple(planes.numbers),
        recipe,
        token,
    )
    graph = in_layers(dict(_tasks(work, images, token)), images, token, resources)
    finished = f"deblur-{token}"
    if recipe.prior.uncertainty:
        return _split_pairs(graph, finished, image)
    return da.Array(graph, finished, image.chunks, image.dtype), None


def _split_pairs(graph: HighLevelGraph, pairs: str, image: da.Array) -> tuple[da.Array, da.Array]:
    """Make arrays of the first and the second parts of the pairs that "finish" returns."""
    import dask.array as da
    from dask.highlevelgraph import HighLevelGraph

    arrays = []
    for number, (kind, dtype) in enumerate((("result", image.dtype), ("deviation", np.float32))):
        name = f"{kind}-of-{pairs}"
        layer: dict[Any, Any] = {
            (name, *place): (operator.getitem, (pairs, *place), number)
            for place in np.ndindex(*image.numblocks)
        }
        whole = HighLevelGraph({**graph.layers, name: layer}, {**graph.dependencies, name: {pairs}})
        arrays.append(da.Array(whole, name, image.chunks, dtype))
    return arrays[0], arrays[1]


def in_layers(
    tasks: dict[Key, Any],
    images: Sequence[da.Array],
    token: str,
    resources: Mapping[str, float] | None,
) -> HighLevelGraph:
    """Sort the tasks into layers; only the tasks that restore need `resources`."""
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


def _tasks(
    work: _TaskSettings, images: Sequence[da.Array], token: str
) -> Iterator[tuple[Key, Any]]:
    """Give the tasks by key; a task is a tuple of a function and its arguments or their keys."""
    yield (f"tiles-{token}",), work  # sent once to every process
    stack_axes = [i for i, axis in enumerate(work.axes) if axis in "TCZ"]
    shape, names = images[0].shape, [image.name for image in images]
    positions = list(np.ndindex(*(shape[i] for i in stack_axes)))
    per_position = len(work.ranges) // len(positions)  # several for colours on a grey model
    for number, position in enumerate(positions):
        index = [0] * len(shape)
        for axis, along in zip(stack_axes, position, strict=True):
            index[axis] = int(along)
        position_tasks = _PositionTasks(work, names, token, number * per_position, index)
        for block in work.blending.grid.blocks():
            yield from position_tasks.restoring(block)
            yield position_tasks.finishing(block)


class _PositionTasks:
    """Gives the tasks of all planes at one position along T, C and Z.

    `images` are the names of the views, `first` is the number of the first plane, and `index` that
    of the position along T, C and Z, with 0 along the other axes.
    """

    def __init__(
        self, work: _TaskSettings, images: Sequence[str], token: str, first: int, index: list[int]
    ) -> None:
        self._work, self._grid, self._images = work, work.blending.grid, images
        self._token, self._first, self._index = token, first, index
        self._y, self._x = work.axes.index("Y"), work.axes.index("X")

    def restoring(self, block: BlockIndex) -> Iterator[tuple[Key, Any]]:
        """Give the task that restores a block, if it has tiles, and the tasks of its margins."""
        if not self._grid.count_tiles(block):
            return
        touched, sources = self._grid.sources(block), []
        for number, (image, chunk) in enumerate(product(self._images, touched)):
            raw, whole = self._key(image, chunk), self._grid.chunk(chunk)
            part = self._grid.source(block).intersection(whole)
            if part != whole:
                margin = (*self._key(f"margin-{self._token}", block), number)
                yield margin, (operator.getitem, raw, self._work.index(part, whole))
                raw = margin
            sources.append(raw)
        shape = len(self._images), len(touched), len({column for _, column in touched})
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
class _TaskSettings:
    """What all tasks have in common."""

    blending: Blending
    axes: str  # of the image
    channels: int  # of a plane
    meaning: SampleMeaning  # of the numbers of the image
    ranges: tuple[IntensityRange, ...]  # one per plane
    numbers: tuple[int, ...]  # numbers of the planes in the whole image
    recipe: RunnerRecipe
    token: str  # of the graph

    def index(self, region: Region, outer: Region) -> tuple[slice, ...]:
        """Index of a region in a chunk that holds `outer`."""
        rows, columns = region.within(outer)
        return tuple({"Y": rows, "X": columns}.get(axis, _WHOLE) for axis in self.axes)

    def planes(self, chunk: RawArray, second: RawArray | None = None) -> Planes:
        """View a chunk of the image, and of its second view, as planes."""
        return Planes(chunk, self.axes, self.channels, second, self.meaning)

    def join(self, sources: Sequence[RawArray], columns: int) -> RawArray:
        """Join parts of the image, given in rows of `columns` parts."""
        x, y = self.axes.index("X"), self.axes.index("Y")
        begins = range(0, len(sources), columns)
        rows = [np.concatenate(sources[i : i + columns], axis=x) for i in begins]
        return np.concatenate(rows, axis=y)


def _restore(
    work: _TaskSettings,
    first: int,
    block: BlockIndex,
    shape: tuple[int, int, int],
    *sources: RawArray,
) -> dict[BlockIndex, list[PartialSums]]:
    """Restore a block of the planes from `first` on; return the sums of every plane by chunk.

    `sources` are the parts of the views that the block's tiles reach. `shape` is the number of
    views, of parts in each view, and of parts in a row.
    """
    n_views, n_parts, columns = shape
    begins = range(0, n_views * n_parts, n_parts)
    planes = work.planes(*(work.join(sources[i : i + n_parts], columns) for i in begins))
    sums: dict[BlockIndex, list[PartialSums]] = {}
    with RESTORER_LOCK:
        runner = shared_runner(work.recipe)
        for plane in range(len(planes)):
            raw, intensity = planes.read_views(plane, _WHOLE, _WHOLE), work.ranges[first + plane]
            number = work.numbers[first + plane]
            parts = restore_block(raw, block, work.blending, intensity, number, runner)
            for chunk, part in parts.items():
                sums.setdefault(chunk, []).append(part)
        for notice in runner.take_notices():
            if notice != runner.substitution:
                _LOGGER.warning(notice.message)
        if runner.substitution is not None:  # perhaps in an earlier run of this process
            tell(work.token, Substitution(runner.substitution.message))
    return sums


def _finish(
    work: _TaskSettings,
    first: int,
    chunk: BlockIndex,
    raw: RawArray,
    *sums: dict[BlockIndex, list[PartialSums]],
) -> RawArray | tuple[RawArray, RawArray]:
    """Make a chunk of the result, and with uncertainty one of its deviation.

    `raw` is the chunk of the image, and `sums` are those of the blocks that reach it.
    """
    planes, out = work.planes(raw), np.empty(raw.shape, raw.dtype)
    uncertainty = work.recipe.prior.uncertainty
    beside = np.zeros(raw.shape if uncertainty else 0, np.float32)
    for plane in range(len(planes)):
        values, intensity = planes.read(plane, _WHOLE, _WHOLE), work.ranges[first + plane]
        parts = [of_block[chunk][plane] for of_block in sums]
        values, deviation, _ = finish_chunk(values, chunk, parts, work.blending, intensity)
        planes.write(out, plane, _WHOLE, _WHOLE, values)
        if deviation is not None:
            planes.write_beside(beside, plane, _WHOLE, _WHOLE, deviation)
    return (out, beside) if uncertainty else out
