"""How a volume that does not fit into memory is divided over Y and X, and what memory it takes."""

from __future__ import annotations

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
    return min(half, max(4, half // 3))


def is_whole(object_shape: tuple[int, int, int], psf_shape: tuple[int, int, int]) -> bool:
    """Say whether an object ``(Z, Y, X)`` is worked on in one region."""
    return _bytes(object_shape, psf_shape) <= REGION_BYTES


def region_side(psf_shape: tuple[int, int, int], depth: int) -> int:
    """Choose the side of the regions of an object of `depth` planes, in pixels, without margins."""
    period = depth + psf_shape[0] // 2 - further_planes(psf_shape[0])
    outer = int((REGION_BYTES / (4 * ARRAYS * period)) ** 0.5) - psf_shape[2] // 2
    return max(SMALLEST_SIDE, outer - 2 * (psf_shape[2] - 1))


def stack_bytes(psf_shape: tuple[int, int, int], n_planes: int, shape: tuple[int, int]) -> int:
    """Give the most bytes of main memory that volumes take while they are restored.

    `shape` is ``(Y, X)`` of the image, `n_planes` the planes of a volume.
    """
    depth, height, width = object_shape(psf_shape, n_planes, shape)
    chunk = 4 * 4 * n_planes * min(512, shape[0]) * min(512, shape[1])
    if not is_whole((depth, height, width), psf_shape):
        side = region_side(psf_shape, depth)
        height = min(height, side + 2 * (psf_shape[1] - 1))
        width = min(width, side + 2 * (psf_shape[2] - 1))
    return _bytes((depth, height, width), psf_shape) + chunk


def state_bytes(psf_shape: tuple[int, int, int], n_planes: int, shape: tuple[int, int]) -> int:
    """Give the bytes on disk that a volume takes between its iterations; 0 if it fits memory."""
    depth, height, width = object_shape(psf_shape, n_planes, shape)
    if is_whole((depth, height, width), psf_shape):
        return 0
    return 4 * _STATE * depth * height * width


def object_shape(
    psf_shape: tuple[int, int, int], n_planes: int, shape: tuple[int, int]
) -> tuple[int, int, int]:
    """Give the shape ``(Z, Y, X)`` of the object behind an image."""
    height, width = (n + 2 * margin(side) for n, side in zip(shape, psf_shape[1:], strict=True))
    return n_planes + further_planes(psf_shape[0]), height, width


def _bytes(region: tuple[int, int, int], psf_shape: tuple[int, int, int]) -> int:
    """Give the bytes of all arrays of a region ``(Z, Y, X)``, margins included."""
    depth, height, width = region
    period = depth + psf_shape[0] // 2 - further_planes(psf_shape[0])
    return 4 * ARRAYS * period * (height + psf_shape[1] // 2) * (width + psf_shape[2] // 2)
