"""How a volume that does not fit into memory is divided over Y and X, and what memory it takes."""

from __future__ import annotations

from math import ceil, prod

REGION_BYTES = 2_400_000_000  # for the arrays of one region
ARRAYS = 8  # of the size of a region, at the same time
SMALLEST_SIDE = 64  # pixels
_STATE = 4  # arrays of the size of the object that lie on disk between two iterations


def margin(psf_side: int) -> int:
    """Pixels that the object goes on beyond the image at each end of Y or X."""
    return psf_side // 4


def further_planes(psf_planes: int) -> int:
    """Planes that the object has beyond the image, above and below together."""
    half = psf_planes // 2
    return min(half, max(4, half // 2))


def divide(object_shape: tuple[int, int, int], psf_shape: tuple[int, int, int]) -> tuple[int, int]:
    """Give the rows and columns of regions that an object ``(Z, Y, X)`` is worked on in."""
    if _bytes(object_shape, psf_shape) <= REGION_BYTES:
        return 1, 1
    outer = int((REGION_BYTES / (4 * ARRAYS * _period(psf_shape, object_shape[0]))) ** 0.5)
    side = max(SMALLEST_SIDE, outer - psf_shape[2] // 2 - 2 * (psf_shape[2] - 1))
    return ceil(object_shape[1] / side), ceil(object_shape[2] / side)


def region_shape(
    object_shape: tuple[int, int, int], psf_shape: tuple[int, int, int]
) -> tuple[int, int]:
    """Give the size ``(Y, X)`` of the regions of an object, with their margins."""
    tall, wide = (
        min(n, ceil(n / parts) + 2 * (side - 1))
        for n, parts, side in zip(
            object_shape[1:], divide(object_shape, psf_shape), psf_shape[1:], strict=True
        )
    )
    return tall, wide


def step_voxels(psf_shape: tuple[int, int, int], n_planes: int, shape: tuple[int, int]) -> int:
    """Count the voxels of a region with its margins, which one step of an iteration works on."""
    whole = object_shape(psf_shape, n_planes, shape)
    tall, wide = region_shape(whole, psf_shape)
    return whole[0] * tall * wide


def stack_bytes(psf_shape: tuple[int, int, int], n_planes: int, shape: tuple[int, int]) -> int:
    """Give the most bytes of main memory that volumes take while they are restored.

    `shape` is ``(Y, X)`` of the image, `n_planes` the planes of a volume.
    """
    whole = object_shape(psf_shape, n_planes, shape)
    chunk = 4 * 4 * n_planes * min(512, shape[0]) * min(512, shape[1])
    return _bytes((whole[0], *region_shape(whole, psf_shape)), psf_shape) + chunk


def state_bytes(psf_shape: tuple[int, int, int], n_planes: int, shape: tuple[int, int]) -> int:
    """Give the bytes on disk that a volume takes between its iterations; 0 if it fits memory."""
    whole = object_shape(psf_shape, n_planes, shape)
    return 0 if divide(whole, psf_shape) == (1, 1) else 4 * _STATE * prod(whole)


def object_shape(
    psf_shape: tuple[int, int, int], n_planes: int, shape: tuple[int, int]
) -> tuple[int, int, int]:
    """Give the shape ``(Z, Y, X)`` of the object behind an image."""
    height, width = (n + 2 * margin(side) for n, side in zip(shape, psf_shape[1:], strict=True))
    return n_planes + further_planes(psf_shape[0]), height, width


def _bytes(region: tuple[int, int, int], psf_shape: tuple[int, int, int]) -> int:
    """Give the bytes of all arrays of a region ``(Z, Y, X)``, margins included."""
    depth, height, width = region
    plane = (height + psf_shape[1] // 2) * (width + psf_shape[2] // 2)
    return 4 * ARRAYS * _period(psf_shape, depth) * plane


def _period(psf_shape: tuple[int, int, int], depth: int) -> int:
    """Planes that are transformed together for an object of `depth` planes."""
    return depth + psf_shape[0] // 2 - further_planes(psf_shape[0])
