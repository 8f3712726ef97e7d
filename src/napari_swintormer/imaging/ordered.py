"""An array seen with its axes in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ordered:
    """A view of an array-like with its axes in another order; reads and writes go through.

    Attributes
    ----------
    stored
        Array-like with `shape`, `dtype` and slicing.
    stored_axes, axes
        Letters of its axes, and the same letters in the order to show.
    """

    stored: Any
    stored_axes: str
    axes: str

    @property
    def shape(self) -> tuple[int, ...]:
        """In the order of `axes`."""
        return tuple(self.stored.shape[self.stored_axes.index(a)] for a in self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored array."""
        dtype: np.dtype[Any] = np.dtype(self.stored.dtype)
        return dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.axes)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        inner, order = self._translate(index)
        return np.asarray(self.stored[inner]).transpose(order)

    def __setitem__(self, index: Any, value: NDArray[Any]) -> None:
        inner, order = self._translate(index)
        self.stored[inner] = np.asarray(value).transpose(np.argsort(order))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)

    def _translate(self, index: Any) -> tuple[tuple[int | slice, ...], list[int]]:
        """Index into the stored array, and the order that brings its dimensions to `axes`."""
        by_axis = dict(zip(self.axes, expand_index(index, self.ndim), strict=True))
        kept = [a for a in self.stored_axes if isinstance(by_axis[a], slice)]
        order = [kept.index(a) for a in self.axes if a in kept]
        return tuple(by_axis[a] for a in self.stored_axes), order


def expand_index(index: Any, ndim: int) -> tuple[int | slice, ...]:
    """Write an index of integers, slices and at most one ellipsis out for every dimension."""
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis in index:
        place = index.index(Ellipsis)
        missing = ndim - len(index) + 1
        index = index[:place] + (slice(None),) * missing + index[place + 1 :]
    return tuple(index) + (slice(None),) * (ndim - len(index))
