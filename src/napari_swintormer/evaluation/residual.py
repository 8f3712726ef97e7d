"""What a result does not explain: the image minus the result, blurred again as it best fits.

A sharp image explains a blurred one if some blur turns the one into the other. Nobody knows that
blur, and it differs from place to place, so it is fitted in small overlapping windows: of a family
of disks and Gaussians the one that leaves the least squares. What is left then is noise where the
result explains the image, and structure where it contradicts it.

The map has limits. It asks only whether the result agrees with the image, not whether it is sharp:
the image itself explains the image. Detail that the blur would wipe out may be made up and leaves
no trace. And a true result leaves one where the blur is of another kind (motion, a ring), or
changes within a window.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.optics import psf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

# Radii of the blur circle in pixels, each √2 of the one before.
_RADII = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0, 11.3)
_WINDOW, _STEP = 64, 32  # Hann windows: with half a window between them they sum to one
BLOCK = 512
"""Side of the regions that are worked on at once, in pixels."""
_MARGIN = 20  # pixels that the largest of the family reaches


class Unexplained(NamedTuple):
    """What `residual_region` gives.

    Attributes
    ----------
    residual
        The image minus the result blurred again, (C, h, w) float32 in the units of the image.
    radius
        Radius of the blur that fits best, (h, w) float32 in pixels; 0 where none does better.
    """

    residual: Floats
    radius: Floats


def residual_map(image: Any, result: Any, axes: str | None = None) -> Floats:
    """Show where a result does not explain the image that it was made from.

    Parameters
    ----------
    image, result
        Arrays of the same shape, in the same units.
    axes
        One letter of ``TCZYXS`` per dimension; None to guess from the shape.

    Returns
    -------
    ndarray
        The image minus the result blurred again, float32, of the same shape and in its units; 0
        for alpha. As large as the noise where the result explains the image.

    Raises
    ------
    ImageError
        The shapes differ, or are none of an image.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_swintormer.evaluation.residual import residual_map
    >>> image = np.random.default_rng(0).random((80, 80))
    >>> float(abs(residual_map(image, image)).max()) < 1e-6
    True
    """
    blurred, sharp = pair_of_planes(image, result, axes)
    out = np.zeros(image.shape, np.float32)
    for plane in range(len(blurred)):
        for y, x in blocks(blurred.shape):
            blurred.write_beside(out, plane, y, x, residual_region(blurred, sharp, plane, y, x)[0])
    return out


def pair_of_planes(image: Any, result: Any, axes: str | None) -> tuple[Planes, Planes]:
    """See image and result as planes, after checking that they belong together."""
    if tuple(image.shape) != tuple(result.shape):
        raise ImageError(
            f"A result has the shape of its image (got {tuple(result.shape)} for "
            f"{tuple(image.shape)}). Give the image that it was made from."
        )
    blurred = Planes(image, axes or _guess(image), 3)
    return blurred, Planes(result, blurred.axes, 3)


def _guess(image: Any) -> str:
    from napari_swintormer.imaging.axes import resolve_axes

    return resolve_axes(image.shape, image.dtype, None)


def blocks(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Cut a plane into the regions that are worked on one by one."""
    y, x = (
        [slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
        for length in shape
    )
    return [(rows, columns) for rows in y for columns in x]


def residual_region(image: Planes, result: Planes, plane: int, y: slice, x: slice) -> Unexplained:
    """Find what is left of a region; the same whatever region it is cut from.

    Parameters
    ----------
    image, result
        Of `pair_of_planes`.
    plane, y, x
        As in `Planes.read`.
    """
    windows = [_windows(part, n) for part, n in zip((y, x), image.shape, strict=True)]
    inner = [
        slice(max(0, starts[0]), min(n, starts[-1] + _WINDOW))
        for (starts, _), n in zip(windows, image.shape, strict=True)
    ]
    blurred = image.read(plane, *inner).astype(np.float32)
    known = np.isfinite(blurred)
    blurred = np.where(known, blurred, 0)
    family = [np.where(known, blurred - again, 0) for again in _blurred_again(result, plane, inner)]
    to_windows = [weights for _, weights in windows]
    squares = np.stack([(left**2).sum(axis=0) for left in family])
    best = (to_windows[0] @ squares @ to_windows[1].T).argmin(axis=0)

    residual, radius = np.zeros_like(blurred), np.zeros(blurred.shape[1:], np.float32)
    for number, left in enumerate(family):
        share = to_windows[0].T @ (best == number).astype(np.float32) @ to_windows[1]
        residual += share * left
        radius += share * _radius(number)
    rows, columns = (
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip((y, x), inner, strict=True)
    )
    return Unexplained(residual[:, rows, columns], radius[rows, columns])


def _windows(part: slice, length: int) -> tuple[range, Floats]:
    """Give the starts of the windows that meet a span of an axis, and their weights.

    The weights are (windows, pixels), of the pixels of the axis that lie in any of the windows.
    """
    first = part.start // _STEP * _STEP - _STEP
    starts = range(first, (part.stop - 1) // _STEP * _STEP + 1, _STEP)
    pixels = np.arange(max(0, first), min(length, starts[-1] + _WINDOW))
    place = pixels[None, :] - np.array(starts)[:, None]
    inside = (place >= 0) & (place < _WINDOW)
    hann = np.sin(np.pi * (place + 0.5) / _WINDOW) ** 2
    return starts, np.where(inside, hann, 0).astype(np.float32)


def _blurred_again(result: Planes, plane: int, inner: list[slice]) -> list[Floats]:
    """Blur a region of the result with the whole family; beyond the plane it is mirrored."""
    from scipy.signal import oaconvolve

    indices = [_mirrored(part, n) for part, n in zip(inner, result.shape, strict=True)]
    y, x = (slice(int(i.min()), int(i.max()) + 1) for i in indices)
    read = result.read(plane, y, x).astype(np.float32)
    finite = np.isfinite(read)
    middle = np.float32(np.median(read[finite]) if finite.any() else 0)
    sharp: Floats = (np.where(finite, read, middle) - middle).astype(np.float32)
    sharp = sharp[:, indices[0] - y.start][:, :, indices[1] - x.start]
    again = [sharp[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN] + middle]
    for kernel in _family():
        cut = _MARGIN - len(kernel) // 2
        enlarged = sharp[:, cut : sharp.shape[1] - cut, cut : sharp.shape[2] - cut]
        again.append(oaconvolve(enlarged, kernel[None], mode="valid", axes=(1, 2)) + middle)
    return again


def _mirrored(part: slice, length: int) -> NDArray[np.intp]:
    """Give the indices of a span and its margin; those outside are mirrored at the border."""
    indices = np.arange(part.start - _MARGIN, part.stop + _MARGIN)
    period = max(1, 2 * (length - 1))
    indices = np.abs(indices) % period
    return np.minimum(indices, period - indices) if length > 1 else np.zeros_like(indices)


@lru_cache(maxsize=1)
def _family() -> tuple[Floats, ...]:
    """Disks and Gaussians of every radius; the image as it is comes before them."""
    return tuple(shape(radius) for radius in _RADII for shape in (psf.disk, psf.gaussian))


def _radius(number: int) -> float:
    return 0.0 if number == 0 else _RADII[(number - 1) // 2]
