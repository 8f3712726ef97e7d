"""Views of arrays whose pixels are read when they are indexed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


class LazyArray(ABC):
    """An array-like that reads its pixels when it is indexed by integers and slices."""

    if TYPE_CHECKING:

        @property
        def shape(self) -> tuple[int, ...]:
            """Size along every dimension."""

        @property
        def dtype(self) -> np.dtype[Any]:
            """Data type of the pixels."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @abstractmethod
    def __getitem__(self, index: Any) -> NDArray[Any]: ...

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[...], dtype)


def expand_index(index: Any, ndim: int) -> tuple[int | slice, ...]:
    """Expand an index with at most one ellipsis to one integer or slice per dimension."""
    index = index if isinstance(index, tuple) else (index,)
    if Ellipsis in index:
        position = index.index(Ellipsis)
        missing = ndim - len(index) + 1
        index = index[:position] + (slice(None),) * missing + index[position + 1 :]
    return tuple(index) + (slice(None),) * (ndim - len(index))


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


@dataclass(frozen=True, eq=False)
class Part(LazyArray):
    """A view of a region of an array-like, from `starts` on and of the size `shape`."""

    data: Any
    starts: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the array."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        inner: list[int | slice] = []
        wanted = zip(expand_index(index, self.ndim), self.starts, self.shape, strict=True)
        for chosen, first, length in wanted:
            if isinstance(chosen, slice):
                start, stop, step = chosen.indices(length)
                inner.append(slice(first + start, first + max(start, stop), step))
            else:
                inner.append(first + range(length)[chosen])
        return np.asarray(self.data[tuple(inner)])


@dataclass(frozen=True, eq=False)
class Flipped(LazyArray):
    """A view of an array-like that is mirrored along some dimensions."""

    data: Any
    flipped: tuple[int, ...]  # numbers of the mirrored dimensions

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the array."""
        dtype: np.dtype[Any] = np.dtype(self.data.dtype)
        return dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        inner, turn = list(expand_index(index, self.ndim)), []
        for dimension, chosen in enumerate(inner):
            n = self.shape[dimension]
            mirrored = dimension in self.flipped
            if not isinstance(chosen, slice):
                inner[dimension] = n - 1 - range(n)[chosen] if mirrored else chosen
                continue
            if mirrored:
                steps = range(n)[chosen]
                last = steps[-1] if len(steps) else n - 1
                stop = n - steps[0] if len(steps) else 0
                inner[dimension] = slice(n - 1 - last, stop, steps.step)
            turn.append(slice(None, None, -1) if mirrored else slice(None))
        return np.asarray(self.data[tuple(inner)])[tuple(turn)]


@dataclass(frozen=True, eq=False)
class Mapped(LazyArray):
    """A view of an array-like whose pixels go through a function when they are read."""

    data: Any
    function: Callable[[NDArray[Any]], NDArray[Any]]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels after the function."""
        dtype: np.dtype[Any] = self.function(np.zeros(1, self.data.dtype)).dtype
        return dtype

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return self.function(np.asarray(self.data[index]))


def upright(data: Any, axes: str, orientation: int) -> Any:
    """View a stored array as its orientation, 1 to 8 as TIFF and EXIF count, shows it.

    The shape changes for 5 to 8: `axes` are those of the stored array and of the view.
    """
    if orientation >= 5:  # rows are columns
        swapped = axes.translate(str.maketrans("YX", "XY"))
        data = Ordered(data, swapped, axes)
    mirrored = {2: "X", 3: "YX", 4: "Y", 6: "X", 7: "YX", 8: "Y"}.get(orientation, "")
    return Flipped(data, tuple(axes.index(a) for a in mirrored)) if mirrored else data
