"""Writing images into files: streamed beside the destination, and renamed when complete."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.ordered import Ordered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import DTypeLike

Compression = Literal["deflate", "zstd"]

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR_SUFFIX = ".zarr"
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")
# No room on the disk, or in the quota where the system has one.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_WRITABLE = ".tif, .ome.tif, .ome.zarr, .zarr, .npy, .png or .jpg"


def check_output(
    dst: str | os.PathLike[str], src: str | os.PathLike[str] | None = None, overwrite: bool = False
) -> None:
    """Refuse a destination that cannot be written, before any work begins.

    Parameters
    ----------
    dst
        File or folder to write; its suffix is the format.
    src
        The input, which is never overwritten.
    overwrite
        Whether an existing `dst` may be replaced.

    Raises
    ------
    OutputError
        When the suffix is unknown, the folder is missing or may not be written, `dst` exists, or
        is the input.
    """
    dst = Path(dst)
    if _suffix(dst) not in (*TIFF_SUFFIXES, ZARR_SUFFIX, ".npy", *PICTURE_SUFFIXES):
        raise OutputError(f"{dst} has no suffix of a format to write; name it {_WRITABLE}.")
    folder = dst.absolute().parent
    if not folder.is_dir():
        raise OutputError(f"The folder {folder} for {dst.name} does not exist; create it first.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder {folder} for {dst.name} may not be written to.")
    if src is not None:
        input_path, output_path = Path(src).resolve(), dst.resolve()
        if output_path == input_path:
            raise OutputError(f"{dst} is the input itself; give the output another name.")
        if input_path in output_path.parents:
            raise OutputError(f"{dst} lies inside the input {src}; put the output beside it.")
    if dst.exists() and not overwrite:
        raise OutputError(f"{dst} exists already; choose another name, or overwrite it on purpose.")
    if dst.is_dir() and _suffix(dst) != ZARR_SUFFIX:
        raise OutputError(f"{dst} is a folder; choose another name for the file.")


def check_fits(
    dst: str | os.PathLike[str], axes: str, shape: Sequence[int], dtype: DTypeLike
) -> None:
    """Refuse a format that cannot hold an image, before any work begins.

    Parameters
    ----------
    dst
        As in `check_output`.
    axes, shape, dtype
        Of the image.

    Raises
    ------
    OutputError
        With a format that can.
    """
    dst, dtype = Path(dst), np.dtype(dtype)
    stack = [a for a, n in zip(axes, shape, strict=True) if a in "TCZ" and n > 1]
    samples = dict(zip(axes, shape, strict=True)).get("S", 1)
    problem = None
    if _suffix(dst) in PICTURE_SUFFIXES and stack:
        problem = f"holds one picture, not a stack along {', '.join(stack)}"
    elif _suffix(dst) == ".png" and dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        problem = f"holds uint8 or uint16, not {dtype.name}"
    elif _suffix(dst) in (".jpg", ".jpeg") and dtype != np.uint8:
        problem = f"holds uint8, not {dtype.name}"
    elif _suffix(dst) in (".jpg", ".jpeg") and samples in (2, 4):
        problem = "has no transparency"
    elif _is_ome(dst) and dtype.name in ("int64", "uint64", "float16"):
        problem = f"has no data type {dtype.name}"
    if problem:
        raise OutputError(
            f"The format of {dst.name} {problem} (got an image {axes} of {dtype.name}); "
            "use .tif or .ome.zarr instead."
        )


def write_image(
    path: str | os.PathLike[str],
    data: Any,
    axes: str,
    pixel_size: Mapping[str, float] | None = None,
    unit: Mapping[str, str] | None = None,
    *,
    compression: Compression | None = None,
    overwrite: bool = False,
) -> None:
    """Write an image into one file.

    TIFF and NPY are streamed: a band of rows is in memory, never the image. TIFF and the pictures
    want Y, X and S last: other orders are written transposed. TIFF carries pixel sizes and axes as
    OME-XML in ``.ome.tif``; in ``.tif`` as ImageJ does it, or as OME-XML where ImageJ cannot read
    the image. Planes of more than 64 MiB are tiled and get a pyramid, in SubIFDs. BigTIFF is chosen
    where needed. PNG, JPEG and NPY carry no pixel sizes, nor does a ``.tif`` of int64, uint64 or
    float16, which OME-XML has no word for; stacks of these get no pyramid either.

    Parameters
    ----------
    path
        File whose suffix is the format: .tif, .tiff, .ome.tif, .ome.tiff, .npy, .png, .jpg, .jpeg.
    data
        Array-like with `shape`, `dtype` and slicing.
    axes
        One letter of ``TCZYXS`` per dimension.
    pixel_size, unit
        As in `napari_swintormer.imaging.image.Image`.
    compression
        Of a TIFF; lossless.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    OutputError
        When the file cannot be written, see `check_output` and `check_fits`, or the disk is full;
        nothing remains then under this name.
    """
    from napari_swintormer.imaging.formats import bitmap, tiff_writing

    path = Path(path)
    check_output(path, overwrite=overwrite)
    check_fits(path, axes, data.shape, data.dtype)
    with _beside(path) as partial:
        if _suffix(path) in TIFF_SUFFIXES:
            order = "".join(a for a in axes if a not in "YXS") + "YX" + ("S" if "S" in axes else "")
            tiff_writing.write_tiff(
                partial,
                Ordered(data, axes, order),
                order,
                dict(pixel_size or {}),
                dict(unit or {}),
                compression=compression,
                ome=_is_ome(path),
            )
        elif _suffix(path) == ".npy":
            bitmap.write_npy(partial, data)
        else:
            order = "".join(a for a in "TCZYXS" if a in axes)
            bitmap.write_picture(partial, Ordered(data, axes, order), _suffix(path))


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Tell what stopped the writing of a file in one sentence, as an `OutputError`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        if error.errno in _FULL:
            free = shutil.disk_usage(path.absolute().parent).free
            raise OutputError(
                f"The disk is full: {path} cannot be written ({free / 1e9:.1f} GB are free)."
            ) from error
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to, renamed at the end, or removed when that fails."""
    partial = path.with_name(f".{path.name}.writing")
    with disk_errors(path):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _is_ome(path: Path) -> bool:
    return path.name.lower().endswith((".ome.tif", ".ome.tiff"))
