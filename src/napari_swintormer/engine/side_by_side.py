"""A CPU that restores several batches at once, each in a thread of its own."""

from __future__ import annotations

from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from functools import cache
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING

import torch

from napari_swintormer.engine.devices import Processor, processor_for, release_memory
from napari_swintormer.tiling.side_by_side import share_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from napari_swintormer.engine.devices import Pixels
    from napari_swintormer.models.prior.noise import TileOrigin
    from napari_swintormer.models.stepwise import Stepwise
    from napari_swintormer.models.tile_restorer import TileRestorer

    Wait = Callable[[], Pixels]

_CPU = torch.device("cpu")
_SETTING = Lock()  # held while a thread changes the number of threads that torch takes


def cpu_processor(restorer: TileRestorer, n_batches: int) -> Processor:
    """Make the processor for a CPU that restores `n_batches` batches, several of them at once."""
    at_once, threads = share_threads(torch.get_num_threads(), n_batches)
    if at_once > 1 and restorer.thread_safe and _threads_differ():
        return SideBySide(at_once, threads)
    return processor_for(_CPU)


class SideBySide(Processor):
    """Runs restorers on the CPU, several batches at once; steps are made in the background.

    Parameters
    ----------
    at_once
        Batches that are restored at the same time.
    threads
        Threads of torch that share a batch.
    """

    in_background = True

    def __init__(self, at_once: int, threads: int) -> None:
        super().__init__(_CPU)
        self.ahead = at_once  # one batch waits, so that no thread does
        self._pool = ThreadPoolExecutor(
            at_once,
            thread_name_prefix="swintormer-tile",
            initializer=_compute_with,
            initargs=(threads,),
        )
        self._stopped = Event()
        self._working: set[Future[Wait]] = set()

    def start(
        self,
        restorer: TileRestorer,
        dtype: torch.dtype,
        tiles: Pixels,
        origins: Sequence[TileOrigin] | None = None,
    ) -> Stepwise[Wait]:
        """Start a batch in a thread; each step of the generator waits for one of the restorer."""
        stepping = super().start(restorer, dtype, tiles, origins)
        made: SimpleQueue[bool] = SimpleQueue()
        working = self._pool.submit(self._work, stepping, made)
        self._working = {work for work in self._working if not work.done()} | {working}
        return _steps(working, made)

    def _work(self, stepping: Stepwise[Wait], made: SimpleQueue[bool]) -> Wait:
        try:
            while not self._stopped.is_set():
                try:
                    next(stepping)
                except StopIteration as done:
                    result: Wait = done.value
                    return result
                made.put(True)
            raise CancelledError
        finally:
            made.put(False)

    def release(self) -> None:
        """Wait for the batches in hand, and return all unused memory to the system."""
        wait(self._working)
        self._working.clear()
        release_memory(self.device)

    def close(self) -> None:
        """End all threads after their current step."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)


def _steps(working: Future[Wait], made: SimpleQueue[bool]) -> Stepwise[Wait]:
    while made.get():
        yield
    return working.result()


def _compute_with(threads: int) -> None:
    """Let torch take so many threads for what this thread computes, and for nothing else.

    torch also takes the number for threads that begin later. Another thread, which computes nothing
    itself, sets that back.
    """
    with _SETTING:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        setting_back = Thread(target=torch.set_num_threads, args=(before,))
        setting_back.start()
        setting_back.join()


@cache
def _threads_differ() -> bool:
    """Say whether threads of Python can have different numbers of threads of torch."""
    return "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
