"""Report how far a writer has come, and stop it, although it knows of neither."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.views import LazyArray

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray


def watch_reads(work: Callable[[Any], None], array: Any) -> Generator[int, None, None]:
    """Run work that reads an array once, part by part; yields the number of pixels of every part.

    `work` is called with an array-like that reads from `array`. It runs in a thread, which waits
    while the generator waits: libraries that write files call for pixels, and cannot be left in the
    middle otherwise. When the generator is closed, the next read raises, so that the work cleans
    up. What `work` raises comes out of the generator.
    """
    read: SimpleQueue[int | None] = SimpleQueue()  # pixels of a part; None: the work has ended
    go_on: SimpleQueue[bool] = SimpleQueue()

    def report(n: int) -> None:
        read.put(n)
        if not go_on.get():
            raise _StoppedError

    with ThreadPoolExecutor(1, thread_name_prefix="swintormer-writer") as thread:
        future = thread.submit(work, _WatchedArray(array, report))
        future.add_done_callback(lambda _: read.put(None))
        try:
            while (n := read.get()) is not None:
                yield n
                go_on.put(True)
        finally:
            go_on.put(False)
        future.result()


class _StoppedError(Exception):
    """Nobody wants the work any more."""


@dataclass(frozen=True, eq=False)
class _WatchedArray(LazyArray):
    """An array-like that reports how many pixels each read gave."""

    array: Any
    report: Callable[[int], None]

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.array.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        part = np.asarray(self.array[index])
        self.report(part.size)
        return part
