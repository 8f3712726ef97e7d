"""Views of arrays for layers: one keeps its file open, the other skips pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_swintormer.imaging.views import Ordered, expand_index


@dataclass(frozen=True, eq=False)
class OwnedArray(Ordered):
    """A view of an array that keeps the owner of its pixels alive, such as an open file."""

    owner: object


@dataclass(frozen=True, eq=False)
class EveryNth:
    """Every n-th pixel of an array along each axis.

    The array reads these pixels itself. Slicing a dask array would read whole chunks instead.

    Attributes
    ----------
    data
        Array-like with `shape`, `dtype` and slicing.
    steps
        Distance of two pixels along each axis, at least 1.
    """

    data: Any
    steps: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of pixels that remain along each axis."""
        return tuple(-(-n // step) for n, step in zip(self.data.shape, self.steps, strict=True))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the array."""
        dtype: np.dtype[Any] = self.data.dtype
        return dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.steps)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        finer: list[int | slice] = []
        parts = expand_index(index, self.ndim)
        for part, step, n in zip(parts, self.steps, self.shape, strict=True):
            if isinstance(part, slice):
                start, stop, stride = part.indices(n)
                finer.append(slice(start * step, stop * step, stride * step))
            else:
                finer.append(part * step)
        return np.asarray(self.data[tuple(finer)])


def chunk_regions(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Return the regions of an array that its chunks cover, in C order."""
    along = [
        [slice(start, min(start + side, n)) for start in range(0, n, side)]
        for n, side in zip(shape, chunks, strict=True)
    ]
    return product(*along)
