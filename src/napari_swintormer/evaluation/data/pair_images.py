"""Reading the images of a scene the way a protocol wants them, and cutting out what is shown."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.formats.reading import open_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.evaluation.data.pair_files import PairFiles
    from napari_swintormer.evaluation.data.protocols import Protocol

CROP = 128  # pixels of the image in one field of a picture
_SEARCHED = 2048  # side of the middle in which the crop is looked for


@dataclass(frozen=True)
class PairImages:
    """The images of a scene, as a protocol reads them.

    Attributes
    ----------
    axes
        ``YX`` or ``YXS``.
    blurred, sharp
        Array-likes of equal shape: float32 in [0, 1] where the protocol has a full scale, else
        lazy and as in the file.
    protocol
        That they were read for.
    views
        Left and right image of a dual-pixel camera, read alike, or None.
    psf
        Point-spread function ``(h, w)`` of sum 1, or None.
    gamma
        Exponent of the intensity curve that the image was blurred under, see
        `napari_swintormer.training.degradations.simple.Degradation`.
    """

    axes: str
    blurred: Any
    sharp: Any
    protocol: Protocol
    views: tuple[Any, Any] | None = None
    psf: NDArray[np.float64] | None = None
    gamma: float = 1.0


@contextmanager
def open_pair(
    scene: PairFiles, protocol: Protocol, centre: int | None = None
) -> Iterator[PairImages]:
    """Open the images of a scene; they are closed when the block ends.

    Parameters
    ----------
    scene
        From `napari_swintormer.evaluation.data.protocols.Protocol.scenes`.
    protocol
        Says how values are read and images cropped.
    centre
        Side in pixels of the middle that is looked at; None takes all.

    Raises
    ------
    FileError
        A file cannot be read.
    ImageError
        The images are no single planes, or differ in shape.
    """
    with ExitStack() as files:

        def read(file: Path) -> tuple[Any, str]:
            image = files.enter_context(open_image(file))
            if image.axes not in ("YX", "YXS"):
                raise ImageError(
                    f"{file} must be a single plane, grey or RGB, to be compared (got the axes "
                    f"{image.axes}). Save its planes as files of their own."
                )
            return _cut(_scaled(image.data, file, protocol), protocol, centre), image.axes

        sharp, axes = read(scene.sharp)
        blurred, _ = read(scene.blurred)
        views = scene.views and (read(scene.views[0])[0], read(scene.views[1])[0])
        files_of_inputs = (scene.blurred, *(scene.views or ()))
        for file, image in zip(files_of_inputs, (blurred, *(views or ())), strict=True):
            if image.shape != sharp.shape:
                raise ImageError(
                    f"{file} and {scene.sharp} must have the same shape (got {image.shape} and "
                    f"{sharp.shape}). Register and crop them first."
                )
        psf = None if scene.psf is None else _read_psf(scene.psf)
        yield PairImages(axes, blurred, sharp, protocol, views, psf, scene.gamma)


def _scaled(data: Any, file: Path, protocol: Protocol) -> Any:
    """Divide by the full scale, if the protocol has one."""
    if protocol.full_scale is None:
        return data
    pixels = np.asarray(data[...])
    if pixels.ndim == 3:
        pixels = pixels[..., :3]
    if pixels.dtype == np.uint16 and protocol.full_scale == 8:
        pixels = (pixels >> 8).astype(np.uint8)  # as 8-bit readers of PNG do: the low byte goes
    wanted = np.dtype(np.uint8 if protocol.full_scale == 8 else np.uint16)
    if pixels.dtype != wanted:
        raise ImageError(
            f"{file} must be {wanted} for the protocol {protocol.name} (got {pixels.dtype}). "
            "Use the files of the data set, or the protocol folders."
        )
    return np.divide(pixels, 2**protocol.full_scale - 1, dtype=np.float32)


def _cut(image: Any, protocol: Protocol, centre: int | None) -> Any:
    height, width = (n - n % protocol.multiple for n in image.shape[:2])
    side = max(height, width) if centre is None else centre
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    y, x = slice(top, min(top + side, height)), slice(left, min(left + side, width))
    whole = (y.stop - y.start, x.stop - x.start) == tuple(image.shape[:2])
    return image if whole else image[y, x]


def _read_psf(file: Path) -> NDArray[np.float64]:
    with open_image(file, "YX") as image:
        psf = np.asarray(image.data[...], np.float64)
    if not (np.isfinite(psf).all() and psf.min() >= 0 and psf.sum() > 0):
        raise ImageError(
            f"{file} is no point-spread function: its values must be finite, not negative and not "
            "all zero."
        )
    kernel: NDArray[np.float64] = psf / psf.sum()
    return kernel


def most_detailed(sharp: Any) -> tuple[slice, slice]:
    """Give the region of `CROP` pixels with the largest sum of squared differences of neighbours.

    Parameters
    ----------
    sharp
        ``(Y, X)`` or ``(Y, X, S)``; of a huge one the middle is searched.
    """
    from scipy.ndimage import uniform_filter

    before = [max(0, (n - _SEARCHED) // 2) for n in sharp.shape[:2]]
    middle = tuple(slice(start, start + _SEARCHED) for start in before)
    pixels = np.asarray(sharp[middle]).astype(np.float64)
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    detail = sum((g**2 for g in np.gradient(grey)), np.zeros(grey.shape))
    height, width = (min(CROP, n) for n in grey.shape)
    mean = uniform_filter(detail, (height, width))
    top, left = height // 2, width // 2  # of the window around a pixel, as scipy places it
    inside = mean[top : top + grey.shape[0] - height + 1, left : left + grey.shape[1] - width + 1]
    y, x = (int(i) for i in np.unravel_index(int(np.argmax(inside)), inside.shape))
    y, x = y + before[0], x + before[1]
    return slice(y, y + height), slice(x, x + width)


def display(crop: NDArray[Any], black: float, span: float) -> NDArray[np.uint8]:
    """8-bit RGB of a crop; `black` becomes 0 and ``black + span`` 255."""
    unit = np.clip((crop.astype(np.float64) - black) / span, 0, 1)
    grey = np.rint(unit * 255).astype(np.uint8)
    return grey[..., :3] if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)
