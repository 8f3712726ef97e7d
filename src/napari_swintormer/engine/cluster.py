"""A run on a cluster: workers compute the graph of tasks, and this process writes the chunks."""

from __future__ import annotations

from contextlib import contextmanager
from math import prod
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_swintormer.engine import devices
from napari_swintormer.engine.telling import Iterations, heard, topic_of
from napari_swintormer.errors import SettingsError
from napari_swintormer.events import ChunkFinished, Clock, Notice

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from typing import Any

    import dask.array as da
    from distributed import Client, Future

    from napari_swintormer.engine.protocol import RunJournal
    from napari_swintormer.events import Event, Progress
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.tiling.grid import BlockIndex
    from napari_swintormer.tiling.plan import Plan

_CONNECT_SECONDS = 10
_RETRIES = 3  # when a worker dies; a task that kills more workers is the cause itself


@contextmanager
def connected(address: str) -> Iterator[Client]:
    """Connect to a dask scheduler, such as ``"tcp://10.0.0.1:8786"``.

    Raises
    ------
    SettingsError
        dask.distributed is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise SettingsError(
            f"A cluster needs the library distributed (got scheduler={address!r}). Install "
            "napari-swintormer[distributed], here and on the cluster."
        ) from error
    try:
        # A client that finds no scheduler remains dask's default: all that is computed afterwards
        # would wait for it. So the first one is not made the default.
        Client(address, timeout=_CONNECT_SECONDS, set_as_default=False).close()
        client = Client(address, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"No dask scheduler answers at this address (got scheduler={address!r}). Use the "
            "address that `dask scheduler` prints, such as tcp://10.0.0.1:8786."
        ) from error
    with client:
        yield client


def gpu_resources(client: Client) -> dict[str, float] | None:
    """Return the resources of a worker that a block needs: a GPU, if any worker has one.

    Workers get it by ``dask worker ADDRESS --resources "GPU=1"``. Workers without it then read and
    finish chunks, but restore nothing. Several workers on one GPU each get a share of it.
    """
    return {"GPU": 1} if _gpu_workers(client) else None


def resolve_names(client: Client, device: str, precision: str) -> tuple[str, str]:
    """Name the device and the precision that the workers take: ``("cuda", "bf16")``.

    Names that differ between the workers are joined: ``"cpu, cuda"``. This computer needs no such
    device.

    Raises
    ------
    SettingsError
        A worker has no such device, or no such precision.
    """
    try:
        # a task also waits for the first worker, if none is there yet
        client.submit(devices.resolve_names, device, precision, pure=False).result()
        names = client.run(
            devices.resolve_names, device, precision, workers=_gpu_workers(client) or None
        )
    except SettingsError as error:
        raise SettingsError(f"The cluster cannot restore the image. On a worker: {error}") from None
    kinds, precisions = zip(*names.values(), strict=True)
    return ", ".join(sorted(set(kinds))), ", ".join(sorted(set(precisions)))


def call(client: Client, function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function returns on a worker that restores."""
    resources = gpu_resources(client)
    return client.submit(
        function, *arguments, pure=False, retries=_RETRIES, resources=resources
    ).result()


def _gpu_workers(client: Client) -> list[str]:
    """Give the addresses of the workers that have a GPU by their resources."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [address for address, worker in workers.items() if "GPU" in worker["resources"]]


def run(
    plan: Plan,
    planes: Planes,
    result: da.Array,
    out: Any,
    journal: RunJournal,
    client: Client,
    beside: tuple[da.Array, Any] | None = None,
    steps: Mapping[tuple[int, ...], int] | None = None,
) -> Generator[Event, None, None]:
    """Have a cluster make the missing chunks, and write each one as it arrives.

    Closing the generator cancels the work on the cluster: a worker ends after the block, or the
    iteration of a volume, that it is in. When a worker dies, others repeat its work, to the same
    bits.

    Parameters
    ----------
    plan, planes, result
        The plan, the planes of a dask array, and the result of `napari_swintormer.engine.graph` or
        `napari_swintormer.engine.stack_graph`.
    out
        Array-like of the image's shape and dtype, written from the calling thread.
    journal
        Records the finished chunks; chunks that it has are not made again.
    beside
        The deviation of the samples that belongs to `result`, and the array-like to write it to;
        None without uncertainty.
    steps
        Iterations of the volume at every index along T and C; None for planes.

    Yields
    ------
    Event
        `ChunkFinished` for every plane of a chunk, in any order. `Progress` in the tiles that begin
        there, or in the iterations of volumes. What the workers tell, such as a `Substitution`.
    """
    layout = _Layout(plan, planes, result)
    missing = list(layout.missing(set(journal.finished())))
    counted = _Tiles(layout, missing) if steps is None else _Steps(layout, missing, steps)
    wanted = _chunks(missing, result, None if beside is None else beside[0])
    told: set[Notice] = set()
    coming: dict[Future, _Chunk] = {}
    with _listening(client, topic_of(result)) as arriving:
        # dask's optimization of arrays forgets the resources that tasks need
        futures = client.compute(wanted, optimize_graph=False, retries=_RETRIES)
        coming.update(zip(futures, missing, strict=True))
        try:
            for future in futures:
                future.add_done_callback(arriving.put)
            while coming:
                arrived = arriving.get()
                if isinstance(arrived, Iterations):
                    yield from counted.made(arrived)
                    continue
                if isinstance(arrived, Notice):
                    if arrived not in told:  # perhaps by another worker
                        told.add(arrived)
                        yield arrived
                    continue
                values, chunk = arrived.result(), coming.pop(arrived)
                _write(values, layout.pixels(chunk), out, None if beside is None else beside[1])
                arrived.release()  # frees the memory of the cluster
                region = plan.grid.chunk(chunk.block)
                for plane in range(chunk.first, chunk.first + layout.n_planes):
                    journal.mark(plane, *chunk.block)
                    yield ChunkFinished(plane, (region.y0, region.y1), (region.x0, region.x1))
                yield from counted.finished(chunk)
        finally:
            client.cancel(list(coming))


def _write(values: Any, pixels: tuple[slice, ...], out: Any, beside: Any) -> None:
    """Write a chunk of the result, and of its deviation if there is one."""
    if beside is not None:
        values, beside[pixels] = values
    out[pixels] = values


@contextmanager
def _listening(client: Client, topic: str) -> Iterator[SimpleQueue[Any]]:
    """Open a queue of what workers tell about a topic from now on."""
    arriving: SimpleQueue[Any] = SimpleQueue()
    client.subscribe_topic(topic, lambda event: arriving.put(heard(event[1])))
    try:
        yield arriving
    finally:
        client.unsubscribe_topic(topic)


class _Tiles:
    """Counts the tiles of the chunks that have arrived."""

    def __init__(self, layout: _Layout, missing: list[_Chunk]) -> None:
        self._layout, total = layout, layout.plan.n_tiles
        self._clock = Clock(total, "tiles", total - sum(map(self._count, missing)))

    def _count(self, chunk: _Chunk) -> int:
        return self._layout.n_planes * self._layout.plan.grid.count_tiles(chunk.block)

    def made(self, iterations: Iterations) -> Iterator[Progress]:
        """Tiles tell of no iterations."""
        yield from ()

    def finished(self, chunk: _Chunk) -> Iterator[Progress]:
        """Count the tiles that begin in a chunk."""
        if n_tiles := self._count(chunk):
            yield self._clock.after(n_tiles)


class _Steps:
    """Counts the iterations of the volumes that workers restore."""

    def __init__(
        self, layout: _Layout, missing: list[_Chunk], steps: Mapping[tuple[int, ...], int]
    ) -> None:
        self._done = dict.fromkeys(map(layout.volume, missing), 0)
        self._clock = Clock(sum(steps[volume] for volume in self._done), "iterations")

    def made(self, iterations: Iterations) -> Iterator[Progress]:
        """Count new iterations of a volume; those that a worker repeats count once."""
        more = iterations.done - self._done.get(iterations.volume, iterations.done)
        if more > 0:
            self._done[iterations.volume] = iterations.done
            yield self._clock.after(more)

    def finished(self, chunk: _Chunk) -> Iterator[Progress]:
        """Chunks count nothing."""
        yield from ()


class _Chunk(NamedTuple):
    """A chunk of the result: its first plane, its block, and its position among all chunks."""

    first: int
    block: BlockIndex
    position: tuple[int, ...]


def _chunks(missing: list[_Chunk], result: da.Array, deviation: da.Array | None) -> list[Any]:
    """Return the missing chunks of the result, or pairs of them and of the deviation."""
    chunks = [result.blocks[chunk.position] for chunk in missing]
    if deviation is None:
        return chunks
    from dask.delayed import delayed

    others = [deviation.blocks[chunk.position] for chunk in missing]
    return [delayed(pair, traverse=True) for pair in zip(chunks, others, strict=True)]


class _Layout:
    """How the planes of a run lie in the dask array of its result."""

    def __init__(self, plan: Plan, planes: Planes, result: da.Array) -> None:
        self.plan, self._axes = plan, planes.axes
        sizes = zip(planes.axes, result.shape, strict=True)
        self._stack = tuple(int(size) for axis, size in sizes if axis in "TCZ")
        self.n_planes = plan.n_planes // prod(self._stack)  # of a chunk: several for colours
        self._edges = [np.cumsum((0, *sizes)) for sizes in result.chunks]

    def missing(self, finished: set[tuple[int, int, int]]) -> Iterator[_Chunk]:
        """Give the chunks of which a plane is not finished."""
        for number, stack_index in enumerate(np.ndindex(*self._stack)):
            first = number * self.n_planes
            for block in self.plan.grid.blocks():
                planes = range(first, first + self.n_planes)
                if any((plane, *block) not in finished for plane in planes):
                    along = iter(stack_index)
                    known = {"Y": block[0], "X": block[1], "S": 0}
                    position = (known[a] if a in known else next(along) for a in self._axes)
                    yield _Chunk(first, block, tuple(position))

    def volume(self, chunk: _Chunk) -> tuple[int, ...]:
        """Return the index along T and C of the volume that a chunk belongs to."""
        along = zip(self._axes, chunk.position, strict=True)
        return tuple(i for axis, i in along if axis in "TC")

    def pixels(self, chunk: _Chunk) -> tuple[slice, ...]:
        """Return the index of the chunk's pixels in the result."""
        edges = zip(self._edges, chunk.position, strict=True)
        return tuple(slice(int(edge[i]), int(edge[i + 1])) for edge, i in edges)
