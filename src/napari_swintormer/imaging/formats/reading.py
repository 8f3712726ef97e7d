"""Opening image files of any size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.registry import detect_format

if TYPE_CHECKING:
    import os

    from napari_swintormer.imaging.image import Image


def open_image(
    path: str | os.PathLike[str], axes: str | None = None, image: int | None = None
) -> Image:
    """Open an image lazily. The content of the file tells its format, not the suffix.

    Of a file with several images the largest is opened, of a pyramid the finest level.

    Parameters
    ----------
    path
        TIFF (also BigTIFF, OME-TIFF, ImageJ; compressed or flat), OME-Zarr or Zarr folder, NPY, PNG
        or JPEG.
    axes
        One letter of ``TCZYXS`` per dimension, to overrule the file. None takes the axes of the
        file, or guesses them (`napari_swintormer.imaging.axes.resolve_axes`).
    image
        Number of an image, from 1, in a file of several; None takes the largest.

    Raises
    ------
    FileError
        The file is missing, damaged, truncated or of another format.
    ImageError
        The file holds no image of real numbers, or its axes are not known.
    """
    path = Path(path)
    try:
        return detect_format(path).open(path, axes, image)
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist.") from error
    except PermissionError as error:
        raise FileError(f"{path} may not be read.") from error
