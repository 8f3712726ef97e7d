"""A fixed sample of a large image: what ranges are measured on and images are known by."""

from __future__ import annotations

import hashlib
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari_swintormer.imaging.planes import Planes

REGION_SIDE = 192


def sample_regions(
    members: Sequence[int], shape: tuple[int, int], count: int
) -> Iterator[tuple[int, slice, slice]]:
    """Spread regions over planes, by a rule that knows nothing but their number and shape.

    Parameters
    ----------
    members
        Numbers of the planes.
    shape
        ``(Y, X)`` of a plane.
    count
        Most regions to give.

    Yields
    ------
    tuple[int, slice, slice]
        ``(plane, y, x)``: a region of 192 x 192 pixels, or of as many in a narrow image; together
        everything, where that is not more than `count` regions.
    """
    height, width = shape
    down, across = ceil(height / REGION_SIDE), ceil(width / REGION_SIDE)
    if len(members) * down * across <= count:
        for plane in members:
            for row in range(down):
                for column in range(across):
                    y = slice(row * REGION_SIDE, min((row + 1) * REGION_SIDE, height))
                    x = slice(column * REGION_SIDE, min((column + 1) * REGION_SIDE, width))
                    yield plane, y, x
        return
    # A region of a narrow image is as long as it takes to have as many pixels.
    side_y = min(height, REGION_SIDE)
    side_x = min(width, REGION_SIDE**2 // side_y)
    side_y = min(height, REGION_SIDE**2 // side_x)
    for k in range(count):
        # The R2 sequence covers the plane evenly and falls in step with no tiling of the image.
        y0 = int((0.5 + k * 0.7548776662466927) % 1 * (height - side_y + 1))
        x0 = int((0.5 + k * 0.5698402909980532) % 1 * (width - side_x + 1))
        plane = members[k * len(members) // count]
        yield plane, slice(y0, y0 + side_y), slice(x0, x0 + side_x)


def identify(planes: Planes) -> str:
    """Give the SHA-256 of an image's shape, axes, data type and sample.

    Tells with near certainty whether two images are the same, wherever they are stored, without
    reading all of them.
    """
    digest = hashlib.sha256(f"{len(planes)} {planes.shape} {planes.axes} {planes.dtype}".encode())
    for plane, y, x in sample_regions(range(len(planes)), planes.shape, 64):
        digest.update(planes.read(plane, y, x).tobytes())
    return digest.hexdigest()
