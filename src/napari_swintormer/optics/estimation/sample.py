"""Which parts of a plane the blur is measured on."""

from __future__ import annotations

from math import ceil, isqrt
from typing import NamedTuple

SIDE = 512  # pixels, of a window
_PER_AXIS = 3  # windows along an axis, at most
PLACE = 64  # pixels, side of a window whose own blur is measured
_STEP = 32  # pixels between such windows, at least
_PLACES = 1024  # about, on a plane


class Places(NamedTuple):
    """Windows of `PLACE` pixels along one axis: first pixels, and the mean distance in pixels."""

    starts: tuple[int, ...]
    step: float


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


def place_windows(shape: tuple[int, int]) -> tuple[Places, Places] | None:
    """Spread windows evenly over a plane, along Y and X, by a rule of its shape alone.

    They overlap on a small plane, and are a sample of a large one. None for a plane that is smaller
    than a window.
    """
    if min(shape) < PLACE:
        return None
    step = max(_STEP, isqrt(shape[0] * shape[1] // _PLACES))
    rows, columns = (_places(size, step) for size in shape)
    return rows, columns


def _places(size: int, step: int) -> Places:
    space = size - PLACE
    count = ceil(space / step) + 1
    starts = tuple(space * k // max(count - 1, 1) for k in range(count))
    return Places(starts, max(space / max(count - 1, 1), 1.0))
