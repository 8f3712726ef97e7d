"""A run on a cluster: the graph of tasks is computed there, and its chunks are written here."""

from __future__ import annotations

from contextlib import contextmanager
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.events import ChunkFinished, Clock

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

    import dask.array as da
    from distributed import Client

    from napari_swintormer.engine.protocol import RunJournal
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.tiling.grid import BlockIndex
    from napari_swintormer.tiling.plan import Plan

    Position = tuple[int, ...]

_CONNECT_SECONDS = 10
# A task is tried again on another worker when its own dies; more often than that, it is the cause.
_RETRIES = 3


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to the scheduler of a cluster.

    Parameters
    ----------
    address
        As ``dask scheduler`` prints it: ``"tcp://10.0.0.1:8786"``.

    Raises
    ------
    SettingsError
        If dask.distributed is not installed, or nobody answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingsError(
            f"a cluster needs the library distributed (got scheduler={address!r}). Install "
            "napari-swintormer[distributed], here and on the cluster."
        ) from error
    try:
        client = Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"no dask scheduler answers there (got scheduler={address!r}). Use the address that "
            "`dask scheduler` prints, such as tcp://10.0.0.1:8786."
        ) from error
    with client:
        yield client


def gpu_resources(client: Client) -> dict[str, float] | None:
    """Give what a block takes of a worker while it is restored: a GPU, where workers name theirs.

    Workers name it as in ``dask worker ADDRESS --resources "GPU=1"``. Those that have none then
    read and finish chunks, and restore nothing; several workers on one GPU name a share of it each.
    """
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return {"GPU": 1} if any("GPU" in worker["resources"] for worker in workers) else None


def run(
    plan: Plan,
    planes: Planes,
    result: da.Array,
    out: Any,
    journal: RunJournal,
    client: Client,
    beside: tuple[da.Array, Any] | None = None,
) -> Generator[Event, None, None]:
    """Have a cluster make the chunks that are missing, and write each as it arrives.

    Closing the generator takes the work back from the cluster. What a worker had done when it died
    is done again by others, to the same bits.

    Parameters
    ----------
    plan, planes
        As for `napari_swintormer.engine.local.run`; `planes` of a dask array.
    result
        What `napari_swintormer.engine.graph.lazy` made of them.
    out
        Array-like of the image's shape and dtype, written from this thread.
    journal
        Chunks that it has are not made again.
    client
        Of the cluster.
    beside
        The deviation of the samples, made together with `result`, and the array-like that it is
        written into; None without uncertainty.

    Yields
    ------
    Progress
        After every chunk, in the tiles that begin there.
    ChunkFinished
        After every chunk of a plane, in no order.
    """
    from distributed import as_completed

    missing = list(_missing(plan, planes, result, journal))
    each = _planes_of_a_chunk(plan, planes, result)
    to_do = sum(each * plan.grid.count_tiles(block) for _, block in missing)
    clock = Clock(plan.n_tiles, "tiles", plan.n_tiles - to_do)
    places = [_place(planes, *chunk) for chunk in missing]
    wanted_chunks: list[Any] = [result.blocks[place] for place in places]
    if beside is not None:
        from dask.delayed import delayed

        deviations = [beside[0].blocks[place] for place in places]
        pairs = zip(wanted_chunks, deviations, strict=True)
        wanted_chunks = [delayed(pair, traverse=True) for pair in pairs]
    # dask's optimization of arrays forgets what tasks take of a worker
    chunks = client.compute(wanted_chunks, optimize_graph=False, retries=_RETRIES)
    wanted = dict(zip(chunks, zip(missing, places, strict=True), strict=True))
    try:
        for future, values in as_completed(chunks, with_results=True):
            (position, block), place = wanted.pop(future)
            if beside is not None:
                values, deviation = values
                beside[1][_pixels(result, place)] = deviation
            out[_pixels(result, place)] = values
            future.release()  # the cluster need not keep it
            region = plan.grid.chunk(block)
            first = each * _number(planes, result, position)
            for plane in range(first, first + each):
                journal.mark(plane, *block)
                yield ChunkFinished(plane, (region.y0, region.y1), (region.x0, region.x1))
            if n_tiles := each * plan.grid.count_tiles(block):
                yield clock.after(n_tiles)
    finally:
        client.cancel(list(wanted))


def _missing(
    plan: Plan, planes: Planes, result: da.Array, journal: RunJournal
) -> Iterator[tuple[Position, BlockIndex]]:
    """Give the chunks that are to be made, by their position along T, C and Z and their block."""
    finished, each = set(journal.finished()), _planes_of_a_chunk(plan, planes, result)
    for position in np.ndindex(*_stack_shape(planes, result)):
        first = each * _number(planes, result, position)
        for block in plan.grid.blocks():
            if any((plane, *block) not in finished for plane in range(first, first + each)):
                yield position, block


def _planes_of_a_chunk(plan: Plan, planes: Planes, result: da.Array) -> int:
    """Count the planes at one position: more than one for colours on a model of one channel."""
    return plan.n_planes // prod(_stack_shape(planes, result))


def _number(planes: Planes, result: da.Array, position: Position) -> int:
    """Give the number of a position along T, C and Z."""
    shape = _stack_shape(planes, result)
    return int(np.ravel_multi_index(position, shape)) if shape else 0


def _stack_shape(planes: Planes, result: da.Array) -> tuple[int, ...]:
    sizes = zip(planes.axes, result.shape, strict=True)
    return tuple(int(size) for axis, size in sizes if axis in "TCZ")


def _place(planes: Planes, position: Position, block: BlockIndex) -> tuple[int, ...]:
    """Index of a chunk among the chunks of the result."""
    along = iter(position)
    known = {"Y": block[0], "X": block[1], "S": 0}
    return tuple(known[axis] if axis in known else next(along) for axis in planes.axes)


def _pixels(result: da.Array, place: tuple[int, ...]) -> tuple[slice, ...]:
    """Index of a chunk in the result."""
    edges = (np.cumsum((0, *sizes)) for sizes in result.chunks)
    return tuple(slice(int(e[i]), int(e[i + 1])) for e, i in zip(edges, place, strict=True))
