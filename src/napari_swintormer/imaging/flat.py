"""Pixels that lie uncompressed in a file, read in place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


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
        if not pages:
            return np.empty(self.shape, self.dtype)[index]
        return np.stack(pages).reshape(offsets.shape + pages[0].shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def _read(self, offset: int, index: tuple[int | slice, ...]) -> NDArray[Any]:
        page: NDArray[Any] = np.memmap(
            self.path, self.dtype, "r", offset, self.page_shape, order=self.order
        )
        region: NDArray[Any] = np.array(page[index])
        return region


def expand_index(index: Any, ndim: int) -> tuple[int | slice, ...]:
    """Write an index of integers, slices and at most one ellipsis out for every dimension."""
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis in index:
        place = index.index(Ellipsis)
        missing = ndim - len(index) + 1
        index = index[:place] + (slice(None),) * missing + index[place + 1 :]
    return tuple(index) + (slice(None),) * (ndim - len(index))
