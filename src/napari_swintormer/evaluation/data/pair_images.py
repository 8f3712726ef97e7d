"""Opens the images of a pair as a protocol wants them, and selects the region that is shown."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.formats.reading import open_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import DTypeLike, NDArray

    from napari_swintormer.evaluation.data.pair_files import PairFiles
    from napari_swintormer.evaluation.data.protocols import Protocol

CROP = 128  # pixels, side of the regions in a picture
_SEARCHED = 2048  # pixels, side of the middle in which that region is searched for


@dataclass(frozen=True)
class PairImages:
    """The images of a pair, as a protocol reads them.

    Images are array-likes of equal shape: float32 in [0, 1] if the protocol has a full scale, else
    lazy, with the data type of the file.
    """

    axes: str  # YX or YXS; ZYX for stacks
    blurred: Any
    sharp: Any
    protocol: Protocol
    views: tuple[Any, Any] | None = None  # left and right image of a dual-pixel camera
    psf: NDArray[np.float64] | None = None  # (h, w) of sum 1
    gamma: float = 1.0  # exponent of the intensity curve that the image was blurred under
    optics: dict[str, Any] = field(default_factory=dict)  # of a stack: options of `DeblurSettings`
    planes: tuple[int, int] | None = None  # of a stack: those that are scored


@contextmanager
def open_pair(
    files: PairFiles, protocol: Protocol, centre: int | None = None
) -> Iterator[PairImages]:
    """Open the images of a pair as a protocol reads them; they are closed when the block ends.

    `centre` is the side in pixels of the middle that is cut out; None takes the whole images.
    """
    with ExitStack() as stack:

        def read(file: Path) -> tuple[Any, str]:
            image = stack.enter_context(open_image(file, "ZYX" if protocol.volumes else None))
            if protocol.volumes:
                return _cut(image.data, protocol, centre, image.axes), image.axes
            if image.axes not in ("YX", "YXS"):
                raise ImageError(
                    f"{file} must be a single plane, grey or RGB (got the axes {image.axes}). Save "
                    "each plane as a file of its own."
                )
            data = _scaled(image.data, file, protocol)
            return _cut(data, protocol, centre, image.axes), image.axes

        sharp, axes = read(files.sharp)
        blurred, _ = read(files.blurred)
        views = files.views and (read(files.views[0])[0], read(files.views[1])[0])
        inputs = (files.blurred, *(files.views or ()))
        for file, image in zip(inputs, (blurred, *(views or ())), strict=True):
            if image.shape != sharp.shape:
                raise ImageError(
                    f"{file} and {files.sharp} must have the same shape (got {image.shape} and "
                    f"{sharp.shape}). Register and crop them first."
                )
        psf = None if files.psf is None or protocol.volumes else _read_psf(files.psf)
        if files.planes is not None and files.planes[1] > sharp.shape[0]:
            raise ImageError(
                f"{files.sharp} has {sharp.shape[0]} planes (got planes={files.planes[0]}:"
                f"{files.planes[1]}). Name planes that it has."
            )
        optics = dict(files.optics)
        if protocol.volumes and files.psf is not None:
            optics.setdefault("psf", str(files.psf))
        yield PairImages(
            axes, blurred, sharp, protocol, views, psf, files.gamma, optics, files.planes
        )


def _scaled(data: Any, file: Path, protocol: Protocol) -> Any:
    """Divide by the full scale, if the protocol has one."""
    if protocol.full_scale is None:
        return data
    pixels = np.asarray(data[...])
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
    if pixels.dtype == np.uint16 and protocol.full_scale == 8:
        pixels = (pixels >> 8).astype(np.uint8)  # drops the low byte, like 8-bit readers of PNG
    wanted = np.dtype(np.uint8 if protocol.full_scale == 8 else np.uint16)
    if pixels.dtype != wanted:
        raise ImageError(
            f"{file} must be {wanted} for the protocol {protocol.name} (got {pixels.dtype}). "
            "Use the files of the data set, or the protocol folders."
        )
    return np.divide(pixels, 2**protocol.full_scale - 1, dtype=np.float32)


def _cut(image: Any, protocol: Protocol, centre: int | None, axes: str) -> Any:
    """Crop to the protocol's multiple at the ends of the axes, then cut out the middle."""
    first = axes.index("Y")
    height, width = (n - n % protocol.multiple for n in image.shape[first : first + 2])
    side = max(height, width) if centre is None else centre
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    y, x = slice(top, min(top + side, height)), slice(left, min(left + side, width))
    whole = (y.stop - y.start, x.stop - x.start) == tuple(image.shape[first : first + 2])
    return image if whole else image[(slice(None),) * first + (y, x)]


def _read_psf(file: Path) -> NDArray[np.float64]:
    with open_image(file, "YX") as image:
        psf = np.asarray(image.data[...], np.float64)
    if not (np.isfinite(psf).all() and psf.min() >= 0 and psf.sum() > 0):
        raise ImageError(
            f"{file} is not a point-spread function. Its values must be finite, not negative, and "
            "not all zero."
        )
    kernel: NDArray[np.float64] = psf / psf.sum()
    return kernel


def most_detailed(sharp: Any, axes: str = "YX") -> tuple[int | slice, ...]:
    """Find the region of `CROP` pixels where neighbouring pixels differ most (sum of squares).

    Only the middle of a huge image is searched. Of a stack, the region lies in the plane with the
    highest contrast.
    """
    from scipy.ndimage import uniform_filter

    if "Z" in axes:
        plane = max(range(sharp.shape[0]), key=lambda z: float(np.std(np.asarray(sharp[z]))))
        return plane, *most_detailed(sharp[plane], "YX")
    offset = [max(0, (n - _SEARCHED) // 2) for n in sharp.shape[:2]]
    middle = tuple(slice(start, start + _SEARCHED) for start in offset)
    pixels = np.asarray(sharp[middle]).astype(np.float64)
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    detail = sum((g**2 for g in np.gradient(grey)), np.zeros(grey.shape))
    height, width = (min(CROP, n) for n in grey.shape)
    mean = uniform_filter(detail, (height, width), origin=(-(height // 2), -(width // 2)))
    inside = mean[: grey.shape[0] - height + 1, : grey.shape[1] - width + 1]
    at = np.unravel_index(int(np.argmax(inside)), inside.shape)
    y, x = (int(i) + start for i, start in zip(at, offset, strict=True))
    return slice(y, y + height), slice(x, x + width)


def to_rgb(crop: NDArray[Any], black: float, span: float) -> NDArray[np.uint8]:
    """Make an 8-bit RGB image in which `black` is 0 and ``black + span`` is 255."""
    unit = np.clip((crop.astype(np.float64) - black) / span, 0, 1)
    grey = np.rint(unit * 255).astype(np.uint8)
    return grey[..., :3] if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)


def to_dtype(image: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Convert an image; values of an integer data type are rounded and clipped first."""
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        image = np.clip(np.rint(image), limits.min, limits.max)
    return image.astype(dtype)
