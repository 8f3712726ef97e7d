"""Pixels that lie uncompressed in a file, read in place."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.imaging.formats.boundary import read_errors
from napari_swintormer.imaging.image import unreadable
from napari_swintormer.imaging.views import LazyArray, expand_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_MAPPED_BYTES = 128 * 2**20  # of a file that are mapped at once for rows that lie far apart


@dataclass(frozen=True, eq=False)
class FlatArray(LazyArray):
    """An image whose pages lie uncompressed in files, each at its own offset in bytes.

    `files` tells the number of every page's file among `paths`, `offsets` where the page begins in
    it. Both have the shape of the leading dimensions, `page_shape` is that of the others. `order`
    is ``"F"`` for pages in Fortran order. Every read maps the file anew and copies the pixels: an
    open mapping would count as memory of this process until it holds the whole file. Threads and
    processes may share one array.
    """

    paths: tuple[Path, ...]
    dtype: np.dtype[Any]
    files: NDArray[np.int32]
    offsets: NDArray[np.int64]
    page_shape: tuple[int, ...]
    order: Literal["C", "F"] = "C"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the image."""
        return self.offsets.shape + self.page_shape

    def __getitem__(self, index: Any) -> NDArray[Any]:
        index = expand_index(index, self.ndim)
        leading = self.offsets.ndim
        files = np.asarray(self.files[index[:leading]])
        offsets = np.asarray(self.offsets[index[:leading]])
        with read_errors(self.paths[0], opened=True):
            pages = [
                self._read(self.paths[file], int(offset), index[leading:])
                for file, offset in zip(files.flat, offsets.flat, strict=True)
            ]
            first = pages[0] if pages else self._read(self.paths[0], 0, index[leading:])
        page_shape = first.shape
        return np.array(pages, self.dtype).reshape(offsets.shape + page_shape)

    def _read(self, path: Path, offset: int, index: tuple[int | slice, ...]) -> NDArray[Any]:
        parts = []
        for band in self._bands(index[0]):
            page = self._map(path, offset)
            parts.append(np.array(page[(band, *index[1:])]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _map(self, path: Path, offset: int) -> NDArray[Any]:
        try:
            return np.memmap(path, self.dtype, "r", offset, self.page_shape, order=self.order)
        except (OSError, ValueError) as error:  # ValueError: the file has become shorter
            raise unreadable(path, getattr(error, "strerror", None) or error) from error

    def _bands(self, rows: int | slice) -> Iterator[int | slice]:
        """Cut rows that lie far apart in the file into bands of limited memory."""
        if not isinstance(rows, slice) or self.order == "F":
            yield rows
            return
        start, stop, step = rows.indices(self.page_shape[0])
        row = prod(self.page_shape[1:]) * self.dtype.itemsize
        height = max(1, _MAPPED_BYTES // max(1, row * step)) * step
        for first in range(start, stop, height) or [start]:
            yield slice(first, min(first + height, stop), step)
