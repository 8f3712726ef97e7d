"""PNG and JPEG pictures and NumPy files."""

from __future__ import annotations

import struct
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_JPEG_QUALITY = 95
_BAND_BYTES = 64 * 2**20
# Deflate cannot compress further than this.
_DEFLATE_RATIO = 1032


def open_png(path: Path, axes: str | None = None) -> Image:
    """Decode a PNG picture of 8 or 16 bits."""
    import imagecodecs

    encoded = path.read_bytes()
    try:
        width, height, bits, colour = struct.unpack(">IIBB", encoded[16:26])
    except struct.error as error:
        raise FileError(f"{path} is a truncated PNG file.") from error
    samples = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}.get(colour, 4)
    nbytes = height * width * samples * max(1, bits // 8)
    stored_bits = height * width * bits * (1 if colour == 3 else samples)
    if stored_bits / 8 > _DEFLATE_RATIO * len(encoded):
        raise FileError(
            f"{path} is damaged: {len(encoded)} bytes cannot be {width} x {height} pixels."
        )
    _check_memory(path, nbytes)
    try:
        data = imagecodecs.png_decode(encoded)
    except (imagecodecs.PngError, ValueError) as error:
        raise FileError(f"{path} is a damaged or truncated PNG file ({error}).") from error
    return _picture(path, data, axes)


def open_jpeg(path: Path, axes: str | None = None) -> Image:
    """Decode a JPEG picture and turn it upright as its EXIF orientation says."""
    from PIL import ImageOps
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        # The class itself has no limit on the number of pixels, `_check_memory` is ours.
        with JpegImageFile(path) as picture:
            width, height = picture.size
            _check_memory(path, width * height * len(picture.getbands()))
            upright = ImageOps.exif_transpose(picture)
            data = np.asarray(upright if upright.mode in ("L", "RGB") else upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path} is a damaged or truncated JPEG file ({error}).") from error
    return _picture(path, data, axes)


def open_npy(path: Path, axes: str | None = None) -> Image:
    """Open a NumPy file in place."""
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise FileError(f"{path} is no NumPy file of numbers ({error}).") from error
    axes = resolve_axes(mapped.shape, mapped.dtype, axes)
    order: Literal["C", "F"] = "C" if mapped.flags.c_contiguous else "F"
    offset = np.array(mapped.offset, np.int64)
    return Image(FlatArray(path, mapped.dtype, offset, mapped.shape, order), axes, path)


def _picture(path: Path, data: NDArray[Any], axes: str | None) -> Image:
    known = "YX" if data.ndim == 2 else "YXS"
    return Image(data, resolve_axes(data.shape, data.dtype, axes or known), path)


def _check_memory(path: Path, nbytes: int) -> None:
    """Refuse a picture that would not fit in memory; these formats decode as a whole only."""
    import psutil

    available = psutil.virtual_memory().available
    if nbytes > available // 2:
        raise FileError(
            f"{path} would take {nbytes / 1e9:.1f} GB of memory to decode, and "
            f"{available / 1e9:.1f} GB are free; convert it to a tiled TIFF or OME-Zarr first."
        )


def write_picture(path: Path, data: Any, suffix: str) -> None:
    """Write one ``(Y, X)`` or ``(Y, X, S)`` picture, leading dimensions of size 1 aside."""
    import imagecodecs

    pixels = np.ascontiguousarray(data[(0,) * data.axes.index("Y")])
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if suffix == ".png":
        encoded = imagecodecs.png_encode(pixels)
    else:
        encoded = imagecodecs.jpeg_encode(pixels, level=_JPEG_QUALITY)
    path.write_bytes(encoded)


def write_npy(path: Path, data: Any) -> None:
    """Write a NumPy file band by band."""
    dtype = np.dtype(data.dtype)
    header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(map(int, data.shape))}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for band in _bands(data.shape, dtype.itemsize):
            file.write(np.ascontiguousarray(data[band], dtype).data)


def _bands(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[int | slice, ...]]:
    """Give indices of consecutive parts of an array, each one row or at most `_BAND_BYTES`."""
    axis = 0
    while axis < len(shape) - 1 and prod(shape[axis + 1 :]) * itemsize > _BAND_BYTES:
        axis += 1
    rows = max(1, _BAND_BYTES // (prod(shape[axis + 1 :]) * itemsize))
    for place in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], rows):
            yield (*place, slice(start, start + rows))
