"""Time and memory, measured so that a busy machine misleads as little as possible."""

from __future__ import annotations

import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

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
