"""An array seen with its axes in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.lazy import LazyArray, expand_index

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Ordered(LazyArray):
    """A view of an array-like with its axes in another order, to read and to write.

    `stored_axes` are the letters of the array's axes, `axes` the same letters in the new order.
    """

    stored: Any
    stored_axes: str
    axes: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in the order of `axes`."""
        return tuple(self.stored.shape[self.stored_axes.index(a)] for a in self.axes)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the stored array."""
        dtype: np.dtype[Any] = np.dtype(self.stored.dtype)
        return dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        inner, order = self._translate(index)
        return np.asarray(self.stored[inner]).transpose(order)

    def __setitem__(self, index: Any, value: NDArray[Any]) -> None:
        inner, order = self._translate(index)
        self.stored[inner] = np.asarray(value).transpose(np.argsort(order))

    def _translate(self, index: Any) -> tuple[tuple[int | slice, ...], list[int]]:
        """Index into the stored array, and the order that brings its dimensions to `axes`."""
        by_axis = dict(zip(self.axes, expand_index(index, self.ndim), strict=True))
        kept = [a for a in self.stored_axes if isinstance(by_axis[a], slice)]
        order = [kept.index(a) for a in self.axes if a in kept]
        return tuple(by_axis[a] for a in self.stored_axes), order
