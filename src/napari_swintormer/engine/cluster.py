"""A run on a cluster: the graph of tasks is computed there, and its chunks are written here."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_swintormer.errors import SettingsError
from napari_swintormer.events import ChunkFinished, Clock

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from typing import Any

    import dask.array as da
    from distributed import Client

    from napari_swintormer.engine.local import Journal
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.tiling.grid import BlockIndex
    from napari_swintormer.tiling.plan import Plan

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


def run(
    plan: Plan,
    planes: Planes,
    result: da.Array,
    out: Any,
    journal: Journal,
    client: Client,
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

    Yields
    ------
    Progress
        After every chunk, in the tiles that begin there.
    ChunkFinished
        After every chunk of a plane, in no order.
    """
    from distributed import as_completed

    grid, finished = plan.grid, journal.finished()
    positions = plan.n_planes // _each(plan, planes, result)
    each = plan.n_planes // positions
    missing = [
        (position, block)
        for position in range(positions)
        for block in grid.blocks()
        if any((position * each + i, *block) not in finished for i in range(each))
    ]
    to_do = sum(each * grid.count_tiles(block) for _, block in missing)
    clock = Clock(plan.n_tiles, "tiles", plan.n_tiles - to_do)
    keys = [result.blocks[_place(planes, result, position, block)] for position, block in missing]
    futures = client.compute(keys, retries=_RETRIES)
    wanted = dict(zip(futures, missing, strict=True))
    del futures
    try:
        for future, values in as_completed(list(wanted), with_results=True):
            position, block = wanted.pop(future)
            region = grid.chunk(block)
            out[_region(planes, result, position, block, grid.block_size)] = values
            for plane in range(position * each, (position + 1) * each):
                journal.mark(plane, *block)
                yield ChunkFinished(plane, (region.y0, region.y1), (region.x0, region.x1))
            future.release()
            if n := each * grid.count_tiles(block):
                yield clock.after(n)
    finally:
        client.cancel(list(wanted))
