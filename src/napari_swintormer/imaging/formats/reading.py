"""Opening and writing image files of any size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.writing import check_fits, check_output, write_image
from napari_swintormer.imaging.image import Image

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

__all__ = ["Image", "check_fits", "check_output", "open_image", "write_image"]

_READABLE = "TIFF, OME-Zarr and Zarr, NPY, PNG and JPEG"


def open_image(path: str | os.PathLike[str], axes: str | None = None) -> Image:
    """Open an image lazily; what the file is decides its content, not its suffix.

    Of a file with several images the largest is opened, of a pyramid the finest level.

    Parameters
    ----------
    path
        TIFF (also BigTIFF, OME-TIFF, ImageJ; compressed or flat), OME-Zarr or Zarr folder, NPY, PNG
        or JPEG.
    axes
        One letter of ``TCZYXS`` per dimension, to overrule what the file says; None takes the axes
        of the file, or guesses (`napari_swintormer.imaging.axes.resolve_axes`).

    Returns
    -------
    Image
        A context manager; closing it closes the file.

    Raises
    ------
    FileError
        When the file is missing, damaged, truncated or of another format.
    ImageError
        When it holds no image that can be worked on, or its axes are not known.
    """
    path = Path(path)
    try:
        return _reader(path)(path, axes)
    except FileNotFoundError as error:
        raise FileError(f"{path} does not exist.") from error
    except PermissionError as error:
        raise FileError(f"{path} may not be read.") from error


def _reader(path: Path) -> Callable[[Path, str | None], Image]:
    from napari_swintormer.imaging.formats import bitmap, ome_zarr, tiff

    if path.is_dir():
        return ome_zarr.open_zarr
    with path.open("rb") as file:
        magic = file.read(8)
    if magic[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return tiff.open_tiff
    if magic == b"\x89PNG\r\n\x1a\n":
        return bitmap.open_png
    if magic.startswith(b"\xff\xd8\xff"):
        return bitmap.open_jpeg
    if magic.startswith(b"\x93NUMPY"):
        return bitmap.open_npy
    what = "is empty" if not magic else "is of an unknown format"
    raise FileError(f"{path} {what}; {_READABLE} can be opened.")
