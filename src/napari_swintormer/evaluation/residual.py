"""The residual map: what a result does not explain of the image that it was made from.

A sharp image explains a blurred one if some blur turns the one into the other. That blur is unknown
and changes from place to place. So in small overlapping windows, the disk or Gaussian with the
least squared error is fitted. The residual is the image minus the result after that blur. Where the
result explains the image, only noise is left; where it contradicts the image, structure is left.

The map has limits. It shows whether the result agrees with the image, not whether it is sharp: the
blurred image itself agrees perfectly. Invented detail that the blur would remove leaves no trace.
A correct result leaves a trace if the blur is of another kind (motion, a ring) or changes within a
window.
"""

from __future__ import annotations

from contextlib import closing
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_swintormer.errors import ImageError
from napari_swintormer.events import Clock
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import check_fits, check_output
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.optics import psf

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.events import Event, Progress

    Floats = NDArray[np.float32]

# Radii of the blur circle in pixels, each √2 times the one before.
_RADII = (0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.7, 8.0, 11.3)
_WINDOW, _STEP = 64, 32  # Hann windows at half their size from each other add up to one
BLOCK = 512  # pixels, side of the regions that are computed one by one
_MARGIN = 20  # pixels, the reach of the largest blur


class Unexplained(NamedTuple):
    """The residual of a region, and the blur that was fitted there."""

    residual: Floats
    """The image minus the blurred result, (C, h, w) in the units of the image."""
    radius: Floats
    """Radius in pixels of the best blur, (h, w); 0 where no blur is better than none."""


def residual_map(image: Any, result: Any, axes: str | None = None) -> Floats:
    """Show where a result does not explain the image that it was made from.

    Both have the same shape and units. `axes` has one letter of ``TCZYXS`` per dimension; None
    guesses them from the shape. The map is float32, in the image's shape and units; 0 for alpha.
    """
    blurred, sharp = pair_of_planes(image, result, axes)
    out = np.zeros(image.shape, np.float32)
    for _ in fill_residual(blurred, sharp, out):
        pass
    return out


def residual_file(
    src: Path, result: Path, dst: Path, axes: str | None = None, *, overwrite: bool = False
) -> Generator[Event, None, None]:
    """Write the residual map of a file in float32, without holding either image in memory.

    `dst` ends with .ome.zarr, .tif, .ome.tif or .npy. `axes` are those of the image; None takes the
    ones of its file. The progress is in regions, and then in chunks while the file is put in its
    place. Closing the generator leaves nothing behind.
    """
    from napari_swintormer.imaging.store.result import ResultStore

    for file in (src, result):
        check_output(dst, file, overwrite)
    with open_image(src, axes) as image, open_image(result, axes) as made:
        check_fits(dst, image.axes, image.data.shape, np.dtype(np.float32))
        store = ResultStore.create(
            dst,
            image.data.shape,
            np.dtype(np.float32),
            image.axes,
            BLOCK,
            {"holds": "what the result does not explain"},
            pixel_size=image.pixel_size,
            unit=image.unit,
            overwrite=overwrite,
        )
        try:
            blurred, sharp = pair_of_planes(image.data, made.data, image.axes)
            with closing(fill_residual(blurred, sharp, store.array, store.mark)) as events:
                yield from events
            yield from store.finishing(overwrite=overwrite)
        finally:
            store.discard()  # a finished file stays


def pair_of_planes(image: Any, result: Any, axes: str | None) -> tuple[Planes, Planes]:
    """Wrap image and result as planes, after a check that their shapes are equal."""
    if tuple(image.shape) != tuple(result.shape):
        raise ImageError(
            f"A result has the shape of its image (got {tuple(result.shape)} for "
            f"{tuple(image.shape)}). Give the image that it was made from."
        )
    blurred = Planes(image, axes or resolve_axes(image.shape, image.dtype, None), 3)
    return blurred, Planes(result, blurred.axes, 3)


def fill_residual(
    image: Planes,
    result: Planes,
    out: Any,
    finished: Callable[[int, int, int], object] = lambda plane, row, column: None,
) -> Generator[Progress, None, None]:
    """Write the residual into `out`, an array of the image's shape, and yield the progress.

    `finished` is called with the plane, row and column of every finished block.
    """
    blocks = list(_blocks(image.shape))
    clock = Clock(len(image) * len(blocks), "regions")
    for plane in range(len(image)):
        for y, x in blocks:
            left = residual_region(image, result, plane, y, x).residual
            image.write_beside(out, plane, y, x, left)
            finished(plane, y.start // BLOCK, x.start // BLOCK)
            yield clock.after(1)


def _blocks(shape: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    height, width = shape
    for top in range(0, height, BLOCK):
        for left in range(0, width, BLOCK):
            yield slice(top, min(top + BLOCK, height)), slice(left, min(left + BLOCK, width))


def residual_region(image: Planes, result: Planes, plane: int, y: slice, x: slice) -> Unexplained:
    """Compute a region of the residual; the pixels do not depend on how regions are cut."""
    windows = [_windows(part, n) for part, n in zip((y, x), image.shape, strict=True)]
    inner = [
        slice(max(0, starts[0]), min(n, starts[-1] + _WINDOW))
        for (starts, _), n in zip(windows, image.shape, strict=True)
    ]
    blurred = image.read(plane, *inner).astype(np.float32)
    finite = np.isfinite(blurred)
    blurred = np.where(finite, blurred, 0)
    candidates = _blurred_again(result, plane, inner)
    residuals = [np.where(finite, blurred - candidate, 0) for candidate in candidates]
    to_windows = [weights for _, weights in windows]
    squares = np.stack([(left**2).sum(axis=0) for left in residuals])
    best = (to_windows[0] @ squares @ to_windows[1].T).argmin(axis=0)

    residual, radius = np.zeros_like(blurred), np.zeros(blurred.shape[1:], np.float32)
    for number, left in enumerate(residuals):
        share = to_windows[0].T @ (best == number).astype(np.float32) @ to_windows[1]
        residual += share * left
        radius += share * (_RADII[(number - 1) // 2] if number else 0.0)
    rows, columns = (
        slice(part.start - whole.start, part.stop - whole.start)
        for part, whole in zip((y, x), inner, strict=True)
    )
    return Unexplained(residual[:, rows, columns], radius[rows, columns])


def _windows(part: slice, length: int) -> tuple[range, Floats]:
    """Give the starts of the windows that overlap a span of an axis, and their weights.

    The weights are (windows, pixels), for the pixels of the axis that lie in any of the windows.
    """
    first = part.start // _STEP * _STEP - _STEP
    starts = range(first, (part.stop - 1) // _STEP * _STEP + 1, _STEP)
    pixels = np.arange(max(0, first), min(length, starts[-1] + _WINDOW))
    offset = pixels[None, :] - np.array(starts)[:, None]
    inside = (offset >= 0) & (offset < _WINDOW)
    hann = np.sin(np.pi * (offset + 0.5) / _WINDOW) ** 2
    return starts, np.where(inside, hann, 0).astype(np.float32)


def _blurred_again(result: Planes, plane: int, inner: list[slice]) -> list[Floats]:
    """Give a region of the result as it is, and blurred by every kernel; borders are mirrored."""
    from scipy.signal import oaconvolve

    indices = [_mirrored(part, n) for part, n in zip(inner, result.shape, strict=True)]
    y, x = (slice(int(i.min()), int(i.max()) + 1) for i in indices)
    read = result.read(plane, y, x).astype(np.float32)
    finite = np.isfinite(read)
    middle = np.float32(np.median(read[finite]) if finite.any() else 0)
    sharp: Floats = (np.where(finite, read, middle) - middle).astype(np.float32)
    sharp = sharp[:, indices[0] - y.start][:, :, indices[1] - x.start]
    again = [sharp[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN] + middle]
    for kernel in _kernels():
        cut = _MARGIN - len(kernel) // 2
        enlarged = sharp[:, cut : sharp.shape[1] - cut, cut : sharp.shape[2] - cut]
        again.append(oaconvolve(enlarged, kernel[None], mode="valid", axes=(1, 2)) + middle)
    return again


def _mirrored(part: slice, length: int) -> NDArray[np.intp]:
    """Give the indices of a span with its margin; indices outside the axis are mirrored."""
    indices = np.arange(part.start - _MARGIN, part.stop + _MARGIN)
    period = max(1, 2 * (length - 1))
    indices = np.abs(indices) % period
    return np.minimum(indices, period - indices) if length > 1 else np.zeros_like(indices)


@lru_cache(maxsize=1)
def _kernels() -> tuple[Floats, ...]:
    """Make a disk and a Gaussian of every radius."""
    return tuple(shape(radius) for radius in _RADII for shape in (psf.disk, psf.gaussian))
