"""Pixels that lie uncompressed in a file, read in place."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.imaging.image import unreadable
from napari_swintormer.imaging.ordered import expand_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

# Of a file that are mapped at once for a read of rows that lie far apart.
_MAPPED_BYTES = 128 * 2**20


@dataclass(frozen=True, eq=False)
class FlatArray:
    """An image whose pages lie in a file as they are, each at its own offset.

    Every read maps the file anew and copies what was asked for: a mapping that stays open counts as
    memory of this process until the whole file is in it. Threads and processes may share one.

    Attributes
    ----------
    path
        The file.
    dtype
        Of the pixels, with their byte order.
    offsets
        Byte at which each page begins; the leading dimensions of the image.
    page_shape
        The other dimensions.
    order
        ``"F"`` for pages in Fortran order.
    """

    path: Path
    dtype: np.dtype[Any]
    offsets: NDArray[np.int64]
    page_shape: tuple[int, ...]
    order: Literal["C", "F"] = "C"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image."""
        return self.offsets.shape + self.page_shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        index = expand_index(index, self.ndim)
        leading = self.offsets.ndim
        offsets = np.asarray(self.offsets[index[:leading]])
        pages = [self._read(int(offset), index[leading:]) for offset in offsets.flat]
        page_shape = pages[0].shape if pages else self._read(0, index[leading:]).shape
        return np.array(pages, self.dtype).reshape(offsets.shape + page_shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def _read(self, offset: int, index: tuple[int | slice, ...]) -> NDArray[Any]:
        parts = []
        for band in self._bands(index[0]):
            page = self._map(offset)
            parts.append(np.array(page[(band, *index[1:])]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _map(self, offset: int) -> NDArray[Any]:
        try:
            return np.memmap(self.path, self.dtype, "r", offset, self.page_shape, order=self.order)
        except (OSError, ValueError) as error:  # ValueError: the file has become shorter
            raise unreadable(self.path, getattr(error, "strerror", None) or error) from error

    def _bands(self, rows: int | slice) -> Iterator[int | slice]:
        """Cut rows that lie far apart in the file: what is read at once counts as memory."""
        if not isinstance(rows, slice) or self.order == "F":
            yield rows
            return
        start, stop, step = rows.indices(self.page_shape[0])
        row = prod(self.page_shape[1:]) * self.dtype.itemsize
        height = max(1, _MAPPED_BYTES // max(1, row * step)) * step
        for first in range(start, stop, height) or [start]:
            yield slice(first, min(first + height, stop), step)
