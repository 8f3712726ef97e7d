"""Arrays whose pixels are read when they are indexed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
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
