"""Time and memory, measured so that a busy machine misleads as little as possible."""

from __future__ import annotations

import statistics
import time
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def seconds(work: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def turn_by_turn(works: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time several works in turns, so that whatever else the machine does slows them alike."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            taken[name].append(seconds(work))
    return taken


def ratio(over: list[float], under: list[float]) -> float:
    """Median of the ratios of each turn."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def peak_bytes(work: Callable[[], object]) -> int | None:
    """Do some work; give how far the memory of this process rose meanwhile, in bytes.

    Memory of earlier work that the process has not given back is used again and not counted. None
    where the system, unlike Linux, keeps no peak that can be reset.
    """
    before: int = psutil.Process().memory_info().rss
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        work()
        status = Path("/proc/self/status").read_text(encoding="ascii")
        peak = 1024 * int(status.split("VmHWM:")[1].split()[0])
        return max(0, peak - before)
    work()
    return None


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the memory of the tensors that are made inside, the same in every run.

    What a kernel takes for itself while it works is not seen.

    Attributes
    ----------
    live, peak
        Bytes of those that are alive, and the most there were at the same time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: int = 0
        self.peak: int = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do what was asked for, and count the memory of its results."""
        out = func(*args, **(kwargs or {}))
        given = {id(storage) for storage in _storages((args, kwargs))}  # a view of one is none
        for storage in _storages(out):
            if id(storage) not in self._known | given:
                self._known.add(id(storage))
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._gone, id(storage), storage.nbytes())
        return out

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [
        leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)
    ]
