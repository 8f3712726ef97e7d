"""How a volume that does not fit into memory is divided over Y and X, and what memory it takes."""

from __future__ import annotations

REGION_BYTES = 1_200_000_000  # for the arrays of one region
ARRAYS = 9  # of the size of a region, at the same time
SMALLEST_SIDE = 64  # pixels


def is_whole(object_shape: tuple[int, int, int]) -> bool:
    """Say whether an object ``(Z, Y, X)`` is worked on in one region."""
    depth, height, width = object_shape
    return 4 * ARRAYS * depth * height * width <= REGION_BYTES


def region_side(psf_shape: tuple[int, int, int], depth: int) -> int:
    """Choose the side of the regions of an object of `depth` planes, in pixels, without margins."""
    side = int((REGION_BYTES / (4 * ARRAYS * depth)) ** 0.5) - 5 * (psf_shape[2] // 2)
    return max(SMALLEST_SIDE, side // 64 * 64)


def stack_bytes(psf_shape: tuple[int, int, int], n_planes: int, shape: tuple[int, int]) -> int:
    """Give the most bytes of main memory that volumes take while they are restored.

    `shape` is ``(Y, X)`` of the image, `n_planes` the planes of a volume.
    """
    depth = n_planes + psf_shape[0] // 2
    height, width = (n + side - 1 for n, side in zip(shape, psf_shape[1:], strict=True))
    chunk = 4 * 4 * n_planes * min(512, shape[0]) * min(512, shape[1])
    whole = 4 * ARRAYS * depth * height * width
    if is_whole((depth, height, width)):
        return whole + chunk
    side = region_side(psf_shape, depth) + 5 * (psf_shape[2] // 2)
    return 4 * ARRAYS * depth * side * side + chunk
