"""Which parts of a plane the blur is measured on."""

from __future__ import annotations

from math import ceil

SIDE = 512  # pixels, of a window
_PER_AXIS = 3  # windows along an axis, at most


def sample_windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Spread at most nine windows evenly over a plane, by a rule of its shape ``(Y, X)`` alone.

    Windows have sides of 512 pixels, or of the plane where it is smaller. A small plane is covered.
    """
    rows, columns = (_spans(size) for size in shape)
    return [(row, column) for row in rows for column in columns]


def _spans(size: int) -> list[slice]:
    side = min(size, SIDE)
    count = min(_PER_AXIS, ceil(size / side))
    starts = [(size - side) * k // max(count - 1, 1) for k in range(count)]
    return [slice(start, start + side) for start in starts]
