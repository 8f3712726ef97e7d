"""Tell how far a writer has come, and stop it, although it knows of neither."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray


def watch_reads(work: Callable[[Any], None], array: Any) -> Generator[int, None, None]:
    """Do work that reads an array once, part by part, and tell of every part.

    The work has a thread of its own, which waits while the generator does: libraries that write
    files call for pixels, and cannot be left in the middle otherwise. Closing the generator makes
    the next read fail, so that the work cleans up, and returns when it has.

    Parameters
    ----------
    work
        Called with an array-like that reads from `array`.
    array
        Array-like with `shape`, `dtype` and slicing.

    Yields
    ------
    int
        Number of pixels of a part, when it has been read.

    Raises
    ------
    Exception
        What `work` raises.
    """
    read: SimpleQueue[int | None] = SimpleQueue()  # pixels of a part; None: the work has ended
    go_on: SimpleQueue[bool] = SimpleQueue()

    def tell(n: int) -> None:
        read.put(n)
        if not go_on.get():
            raise _StoppedError

    with ThreadPoolExecutor(1, thread_name_prefix="swintormer-writer") as thread:
        future = thread.submit(work, _WatchedArray(array, tell))
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
class _WatchedArray:
    """An array-like that tells how many pixels each read gave."""

    array: Any
    tell: Callable[[int], None]

    @property
    def shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.array.shape
        return shape

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self.array.dtype)
        return dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        part = np.asarray(self.array[index])
        self.tell(part.size)
        return part
