"""How a CPU shares its threads among tiles that it restores at the same time."""

from __future__ import annotations

# A tile's Python code takes up to a sixth of its time, and Python runs in one thread at a time.
_MOST_AT_ONCE = 6


def share_threads(threads: int, n_batches: int) -> tuple[int, int]:
    """Give how many batches a CPU restores at once, and the threads of each.

    Threads that share a batch wait for each other after every operation, so each batch gets as few
    as possible. The answer depends on the numbers alone, so that a resumed run computes alike.

    Examples
    --------
    >>> share_threads(2, 12), share_threads(16, 100), share_threads(8, 1)
    ((2, 1), (5, 3), (1, 8))
    """
    fewest = -(-threads // _MOST_AT_ONCE)
    at_once = max(1, min(threads // fewest, n_batches))
    return at_once, threads // at_once
