"""A fixed sample of a large image, to measure ranges on and to identify images by."""

from __future__ import annotations

import hashlib
from itertools import product
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_swintormer.imaging.planes import Planes

REGION_SIDE = 192


def sample_regions(
    members: Sequence[int], shape: tuple[int, int], count: int
) -> Iterator[tuple[int, slice, slice]]:
    """Spread at most `count` regions over planes, by a rule of their number and shape alone.

    `members` are the numbers of the planes, `shape` is their ``(Y, X)`` in pixels. Yields ``(plane,
    y, x)``: regions of 192 x 192 pixels, or of as many pixels in a narrow image. If `count` regions
    are enough for everything, they cover everything.
    """
    height, width = shape
    down, across = ceil(height / REGION_SIDE), ceil(width / REGION_SIDE)
    if len(members) * down * across <= count:
        for plane, row, column in product(members, range(down), range(across)):
            y, x = row * REGION_SIDE, column * REGION_SIDE
            bottom, right = min(y + REGION_SIDE, height), min(x + REGION_SIDE, width)
            yield plane, slice(y, bottom), slice(x, right)
        return
    side_y = min(height, REGION_SIDE)
    side_x = min(width, REGION_SIDE**2 // side_y)
    side_y = min(height, REGION_SIDE**2 // side_x)
    for k in range(count):
        # The R2 sequence covers the plane evenly and never repeats the pattern of a tiling.
        y0 = int((0.5 + k * 0.7548776662466927) % 1 * (height - side_y + 1))
        x0 = int((0.5 + k * 0.5698402909980532) % 1 * (width - side_x + 1))
        plane = members[k * len(members) // count]
        yield plane, slice(y0, y0 + side_y), slice(x0, x0 + side_x)


def identify(planes: Planes) -> str:
    """Return the SHA-256 of an image's shape, axes, data type and sample.

    Equal images have equal ones wherever they are stored, and not all pixels are read.
    """
    digest = hashlib.sha256(f"{len(planes)} {planes.shape} {planes.axes} {planes.dtype}".encode())
    for plane, y, x in sample_regions(range(len(planes)), planes.shape, 64):
        digest.update(planes.read(plane, y, x).tobytes())
    return digest.hexdigest()
