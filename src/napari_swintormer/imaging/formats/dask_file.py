"""An image file as a dask array, which every process opens for itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import black_is_zero
from napari_swintormer.imaging.views import LazyArray

if TYPE_CHECKING:
    from pathlib import Path

    import dask.array as da
    from numpy.typing import NDArray

    from napari_swintormer.imaging.image import Image


def as_dask(image: Image, chunk_size: int) -> da.Array:
    """Give the pixels of an opened file as a dask array.

    The file must lie at the same path on every computer that takes part. Chunks have the side
    `chunk_size` along Y and X, and the size 1 along T, C and Z.
    """
    import dask.array as da

    pixels = _FilePixels(
        image.path.absolute(),
        image.axes,
        image.number if image.images else None,
        not image.carried.white_is_zero,
        tuple(image.data.shape),
        np.dtype(image.data.dtype),
    )
    sizes = {"Y": chunk_size, "X": chunk_size, "S": -1}
    chunks = tuple(sizes.get(axis, 1) for axis in image.axes)
    array: da.Array = da.from_array(pixels, chunks, meta=np.empty((0,) * pixels.ndim, pixels.dtype))
    return array


@dataclass(frozen=True)
class _FilePixels(LazyArray):
    """Pixels of a file, read by the process that asks for them."""

    path: Path
    axes: str
    number: int | None  # of the image in a file of several
    black_is_zero: bool
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, index: Any) -> NDArray[Any]:
        image = _open(self.path, self.axes, self.number)
        if self.black_is_zero:
            image = black_is_zero(image)
        return np.asarray(image.data[index])


@lru_cache(maxsize=4)  # two runs of two views
def _open(path: Path, axes: str, number: int | None) -> Image:
    return open_image(path, axes, number)
