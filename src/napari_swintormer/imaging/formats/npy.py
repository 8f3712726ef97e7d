"""NumPy files."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.format import Format
from napari_swintormer.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BAND_BYTES = 64 * 2**20


class Npy(Format):
    """NumPy's own format: one array."""

    name = "NPY"
    suffixes = (".npy",)
    signatures = (b"\x93NUMPY",)

    def open(self, path: Path, axes: str | None, image: int | None = None) -> Image:
        """Open an array in place."""
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise FileError(f"{path} is not a NumPy file of numbers ({error}).") from error
        axes = resolve_axes(mapped.shape, mapped.dtype, axes)
        order: Literal["C", "F"] = "C" if mapped.flags.c_contiguous else "F"
        offset = np.array(mapped.offset, np.int64)
        file = np.zeros((), np.int32)
        data = FlatArray((path,), mapped.dtype, file, offset, mapped.shape, order)
        return Image(data, axes, path)

    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Write an array band by band."""
        data, dtype = image.data, np.dtype(image.data.dtype)
        header = {"descr": dtype.str, "fortran_order": False, "shape": tuple(map(int, data.shape))}
        with file.open("wb") as out:
            np.lib.format.write_array_header_1_0(out, header)
            for band in _bands(data.shape, dtype.itemsize):
                out.write(np.ascontiguousarray(data[band], dtype).data)


def _bands(shape: tuple[int, ...], itemsize: int) -> Iterator[tuple[int | slice, ...]]:
    """Cut an array into consecutive parts, each one row or at most `_BAND_BYTES`."""
    axis = 0
    while axis < len(shape) - 1 and prod(shape[axis + 1 :]) * itemsize > _BAND_BYTES:
        axis += 1
    rows = max(1, _BAND_BYTES // (prod(shape[axis + 1 :]) * itemsize))
    for position in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], rows):
            yield (*position, slice(start, start + rows))
