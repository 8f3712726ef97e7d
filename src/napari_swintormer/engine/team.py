"""Several devices share a run: each one takes the next block when it has finished its own."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from napari_swintormer.engine.protocol import Steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.engine.protocol import Tile
    from napari_swintormer.engine.tile_runner import TileRunner
    from napari_swintormer.events import Notice

    Changes = list[NDArray[np.float32]]


class RunnerTeam:
    """A `Runner` made of one runner per device.

    The device with the least free memory sets the batch size for all. So the result has the same
    bits whichever device restores a block. A team reports no steps of its batches.
    """

    def __init__(self, runners: Sequence[TileRunner]) -> None:
        self._runners = runners
        self.batch_size = min(runner.batch_size for runner in runners)
        for runner in runners:
            runner.batch_size = self.batch_size
        self._notices: list[Notice] = []
        self.steps = Steps(0, 1, 0)

    @property
    def n_taken(self) -> int:
        """Tiles that were taken over from a preview so far."""
        return sum(runner.n_taken for runner in self._runners)

    def take_notices(self) -> list[Notice]:
        """Return what is to be told of precision and memory since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def close(self) -> None:
        """Release the restorers and the memory of their devices."""
        for runner in self._runners:
            runner.close()

    def changes(self, groups: Iterable[list[Tile]]) -> Iterator[Changes]:
        """Restore tiles and give the change that the restorer makes to each, in their order.

        Twice as many groups as there are runners are started. Finished groups wait for their turn,
        so that no runner waits for another one unless that one is much slower. Groups are taken and
        batches given in the calling thread.
        """
        queues = _Queues()
        started, coming = deque[_Group](), filter(None, groups)
        with ThreadPoolExecutor(
            len(self._runners), thread_name_prefix="swintormer-device"
        ) as threads:
            try:
                for runner in self._runners:
                    threads.submit(queues.serve, runner)
                while True:
                    while len(started) < 2 * len(self._runners):
                        if (tiles := next(coming, None)) is None:
                            break
                        started.append(_Group(tiles))
                        queues.to_do.put(started[-1])
                    if not started:
                        return
                    self._take(queues.done.get())
                    while started and (restored := started[0].restored):
                        yield restored.popleft()
                        if started[0].complete:
                            started.popleft()
            finally:
                queues.stop(len(self._runners))

    def _take(self, done: _Done | Exception) -> None:
        """Add a batch to its group; raise the error that ended a runner."""
        if isinstance(done, Exception):
            raise done
        self._notices += done.notices
        done.group.restored.append(done.changes)
        done.group.n_restored += len(done.changes)


@dataclass
class _Group:
    """Tiles of a block, and their batches that are restored but not yet given."""

    tiles: list[Tile]
    restored: deque[Changes] = field(default_factory=deque)
    n_restored: int = 0

    @property
    def complete(self) -> bool:
        """Whether all batches are restored and given."""
        return self.n_restored == len(self.tiles) and not self.restored


class _Done(NamedTuple):
    """A restored batch, with the notices of its runner."""

    group: _Group
    changes: Changes
    notices: list[Notice]


class _Queues:
    """Groups to do and batches done, shared by the threads of the runners."""

    def __init__(self) -> None:
        self.to_do: SimpleQueue[_Group | None] = SimpleQueue()  # None: no group will follow
        self.done: SimpleQueue[_Done | Exception] = SimpleQueue()
        self._stopped = Event()

    def serve(self, runner: TileRunner) -> None:
        """Restore groups until there are no more, or all is stopped."""
        try:
            while (first := self.to_do.get()) is not None and not self._stopped.is_set():
                mine = deque[_Group]()
                n_left = 0
                for changes in runner.changes(self._groups(first, mine)):
                    if self._stopped.is_set():
                        return
                    if not changes:  # a step of a batch
                        continue
                    n_left = n_left or len(mine[0].tiles)
                    n_left -= len(changes)
                    group = mine[0] if n_left else mine.popleft()
                    self.done.put(_Done(group, changes, runner.take_notices()))
        except Exception as error:  # raised again in the calling thread
            self.done.put(error)

    def stop(self, n_runners: int) -> None:
        """Let each runner end after its current batch."""
        self._stopped.set()
        for _ in range(n_runners):
            self.to_do.put(None)

    def _groups(self, first: _Group, mine: deque[_Group]) -> Iterator[list[Tile]]:
        """Give groups as long as there are any: a device works best without a pause."""
        group: _Group | None = first
        while group is not None:
            mine.append(group)
            yield group.tiles
            try:
                group = self.to_do.get_nowait()
            except Empty:
                return
        self.to_do.put(None)  # for `serve`, which waits for it
