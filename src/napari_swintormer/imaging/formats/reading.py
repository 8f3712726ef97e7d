"""Opening image files of any size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.imaging.formats.boundary import GuardedArray, check_readable, read_errors
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.registry import detect_format
from napari_swintormer.imaging.web_path import as_path

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
        TIFF (also BigTIFF, OME-TIFF, ImageJ; compressed or flat), OME-Zarr or Zarr folder, NPY,
        PNG, JPEG, WebP or AVIF. With extras of the package: HEIC (``heif``), a camera's raw file
        (``raw``), CZI, ND2, LIF and more (``bioio``). With the extra ``remote`` also the address of
        an OME-Zarr image on the web, such as ``https://example.org/cells.ome.zarr``.
    axes
        One letter of ``TCZYXS`` per dimension, to overrule the file. None takes the axes of the
        file, or guesses them (`napari_swintormer.imaging.axes.resolve_axes`).
    image
        Number of an image, from 1, in a file of several; None takes the largest.

    Raises
    ------
    FileError
        The file is missing, damaged, truncated or of another format, or may not be read.
    ImageError
        The file holds no image of real numbers, or its axes are not known.
    """
    path = as_path(path)
    check_readable(path)
    with read_errors(path):
        form = detect_format(path)
    with read_errors(path, form.name):
        opened = form.open(path, axes, image)
    if not isinstance(opened.data, np.ndarray | FlatArray):
        opened.data = GuardedArray(opened.data, path, form.name)
    opened.levels = tuple(GuardedArray(level, path, form.name) for level in opened.levels)
    return opened
