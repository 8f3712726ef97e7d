"""Several devices at work on one run: each takes the next block when it has done its own."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from napari_swintormer.engine.processors import float32_products
from napari_swintormer.engine.protocol import Steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.engine.protocol import Tile
    from napari_swintormer.engine.tile_runner import TileRunner

    Changes = list[NDArray[np.float32]]


class RunnerTeam:
    """Runners on devices of their own that work like one.

    All take as many tiles at once as the least of them has memory for, so that it makes no
    difference which of them restores a block: the results have the same bits as those of one.

    Parameters
    ----------
    runners
        At least one, with the same restorer.
    tf32
        As for `napari_swintormer.engine.processors.CudaProcessor`; of all of them.

    Attributes
    ----------
    batch_size
        Tiles in one forward pass of each.
    steps
        As for a `TileRunner`; a team tells no steps.
    """

    def __init__(self, runners: Sequence[TileRunner], *, tf32: bool = False) -> None:
        self._runners, self._tf32 = runners, tf32
        self.batch_size = min(runner.batch_size for runner in runners)
        for runner in runners:
            runner.batch_size = self.batch_size
        self._notices: list[str] = []
        self.steps = Steps(0, 1, 0)

    def take_notices(self) -> list[str]:
        """Give the sentences on what was done about memory since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def close(self) -> None:
        """Let go of the restorers; see `TileRunner.close`."""
        for runner in self._runners:
            runner.close()

    def changes(self, groups: Iterable[list[Tile]]) -> Iterator[Changes]:
        """Restore tiles and give what the restorer adds to them, in their order.

        Twice as many groups as there are runners are under way: what is done before its turn waits,
        and no runner waits for another, unless that one is much slower.

        Parameters
        ----------
        groups, yields, raises
            As `napari_swintormer.engine.tile_runner.TileRunner.changes`. Groups are taken, and
            batches given, in the thread that asks.
        """
        work = _Work()
        under_way, coming = deque[_Group](), filter(None, groups)
        with (
            float32_products(tf32=self._tf32),
            ThreadPoolExecutor(len(self._runners), thread_name_prefix="swintormer-device") as pool,
        ):
            try:
                for runner in self._runners:
                    pool.submit(work.do, runner)
                while True:
                    while len(under_way) < 2 * len(self._runners):
                        if (tiles := next(coming, None)) is None:
                            break
                        under_way.append(_Group(tiles))
                        work.to_do.put(under_way[-1])
                    if not under_way:
                        return
                    self._take(work.done.get())
                    while under_way and (restored := under_way[0].restored):
                        yield restored.popleft()
                        if under_way[0].complete:
                            under_way.popleft()
            finally:
                work.stop(len(self._runners))

    def _take(self, done: _Done | Exception) -> None:
        """Put a batch to its group; raise what ended a runner."""
        if isinstance(done, Exception):
            raise done
        self._notices += done.notices
        done.group.restored.append(done.changes)
        done.group.n_restored += len(done.changes)


@dataclass
class _Group:
    """Tiles of a block, and the batches of them that are restored and not yet given."""

    tiles: list[Tile]
    restored: deque[Changes] = field(default_factory=deque)
    n_restored: int = 0

    @property
    def complete(self) -> bool:
        """Whether all batches are restored and given."""
        return self.n_restored == len(self.tiles) and not self.restored


class _Done(NamedTuple):
    """A batch, and what was done about memory meanwhile."""

    group: _Group
    changes: Changes
    notices: list[str]


class _Work:
    """What the threads of the runners share."""

    def __init__(self) -> None:
        self.to_do: SimpleQueue[_Group | None] = SimpleQueue()  # None: there will be no more
        self.done: SimpleQueue[_Done | Exception] = SimpleQueue()
        self._stopped = Event()

    def do(self, runner: TileRunner) -> None:
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
        except Exception as error:  # raised again where the run is asked for
            self.done.put(error)

    def stop(self, n_runners: int) -> None:
        """Let the runners end after the batch at hand."""
        self._stopped.set()
        for _ in range(n_runners):
            self.to_do.put(None)

    def _groups(self, first: _Group, mine: deque[_Group]) -> Iterator[list[Tile]]:
        """Give a group, and as long as there are any, more: a device works best without a pause."""
        group: _Group | None = first
        while group is not None:
            mine.append(group)
            yield group.tiles
            try:
                group = self.to_do.get_nowait()
            except Empty:
                return
        self.to_do.put(None)  # for the one that waits for it
