"""Opens large TIFF and OME-Zarr images lazily: what the view shows is read, and no more."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.reading import Image, open_image
from napari_swintormer.imaging.ordered import expand_index
from napari_swintormer.plugin.layers.kept_levels import KeptLevels
from napari_swintormer.plugin.layers.levels_on_show import follow
from napari_swintormer.plugin.layers.results import LARGEST_TEXTURE

LayerData = tuple[Any, dict[str, Any], str]

_CHUNK = 1024  # pixels, side of what is read at once, at least
_OVERVIEW = 2048  # pixels, longest side of the coarsest level


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """Give the reader of a file or folder; None for a list of files, which is no one image."""
    return read if isinstance(path, str) else None


def read(path: str) -> list[LayerData]:
    """Read an image into the data of one layer, or of one per channel.

    Parameters
    ----------
    path
        TIFF file, OME-Zarr or Zarr folder.

    Returns
    -------
    list of (data, arguments of the layer, "image")
        Data are dask arrays: several levels where the file has a pyramid or needs one.

    Raises
    ------
    FileError, ImageError
        As `napari_swintormer.imaging.formats.reading.open_image`; one sentence.
    """
    image = open_image(path)
    levels, axes, making = _levels(image)
    rgb = axes.endswith("S")
    spatial = axes.removesuffix("S")
    shown = spatial.replace("C", "")
    arguments: dict[str, Any] = {
        "name": image.name,
        "scale": [image.pixel_size.get(axis, 1.0) for axis in shown],
        "units": [image.unit.get(axis, "pixel") for axis in shown],
        "axis_labels": [axis.lower() for axis in shown],
        "cache": False,
        "multiscale": len(levels) > 1,
    }
    if "C" in spatial:
        arguments["channel_axis"] = spatial.index("C")
    else:
        arguments["rgb"] = rgb
    if making is not None:
        if not rgb:  # napari would measure levels that are not made yet
            arguments["contrast_limits"] = _limits(image)
        follow(making, path)
    return [(levels if len(levels) > 1 else levels[0], arguments, "image")]


def open_levels(path: str | os.PathLike[str], axes: str) -> Any:
    """Open an image that was written with certain axes, lazily.

    Parameters
    ----------
    path
        File or folder.
    axes
        One letter of ``TCZYXS`` per dimension of what is returned.

    Returns
    -------
    dask array, or list of them
        Where the file has a pyramid or needs one its levels, finest first.
    """
    levels, order, _ = _levels(open_image(path))
    for axis in axes:
        if axis not in order:  # TIFF may leave out axes of size 1
            levels, order = [level[np.newaxis] for level in levels], axis + order
    levels = [level.transpose([order.index(axis) for axis in axes]) for level in levels]
    return levels if len(levels) > 1 else levels[0]


class _OpenFile:
    """Closes a file when the last array over it is gone."""

    def __init__(self, image: Image) -> None:
        weakref.finalize(self, image.close)


class _Level:
    """The pixels of one level of an open file."""

    def __init__(self, data: Any, file: _OpenFile) -> None:
        self._data, self._file = data, file
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self._data[index])


class _Sparse:
    """Every n-th pixel of an array, n along each dimension.

    The array reads them at once: through dask, every chunk would be read whole for a few of its
    pixels.
    """

    def __init__(self, data: Any, steps: tuple[int, ...]) -> None:
        self._data, self._steps = data, steps
        self.dtype, self.ndim = data.dtype, data.ndim
        self.shape = tuple(-(-n // step) for n, step in zip(data.shape, steps, strict=True))

    def __getitem__(self, index: Any) -> NDArray[Any]:
        finer: list[int | slice] = []
        for part, step, n in zip(
            expand_index(index, self.ndim), self._steps, self.shape, strict=True
        ):
            if isinstance(part, slice):
                start, stop, stride = part.indices(n)
                finer.append(slice(start * step, stop * step, stride * step))
            else:
                finer.append(part * step)
        return np.asarray(self._data[tuple(finer)])


def _levels(image: Image) -> tuple[list[da.Array], str, KeptLevels | None]:
    """View the pyramid of a file as dask arrays in napari's order of axes, and give that order.

    A plane larger than a texture that has no pyramid gets coarser levels: from every second, fourth
    … pixel where pixels can be read one by one, else made in the background. Those are given, too,
    while they are being made.
    """
    file = _OpenFile(image)
    stored: list[Any] = [image.data, *image.levels]
    size = dict(zip(image.axes, image.data.shape, strict=True))
    longest = max(size["Y"], size["X"])
    kept = None
    if len(stored) == 1 and longest > LARGEST_TEXTURE:
        if not isinstance(image.data, FlatArray):
            with suppress(OSError):  # the cache folder may not be written to
                kept = KeptLevels(image, _OVERVIEW, file)
        stored += _sparse_levels(image, longest) if kept is None else kept.levels
    colours = size.get("S", 0) in (3, 4)  # one or two samples are no colours to napari
    order = "".join(axis for axis in ("TCZYXS" if colours else "TCSZYX") if axis in image.axes)
    transposed = [image.axes.index(axis) for axis in order]
    levels = [_as_dask(data, image.axes, file).transpose(transposed) for data in stored]
    return levels, order, None if kept is None or kept.done.is_set() else kept


def _sparse_levels(image: Image, longest: int) -> list[_Sparse]:
    """View every second, fourth … pixel, down to the size of an overview."""
    levels, step = [], 2
    while longest > _OVERVIEW * step // 2:
        steps = tuple(step if axis in "YX" else 1 for axis in image.axes)
        levels.append(_Sparse(image.data, steps))
        step *= 2
    return levels


def _limits(image: Image) -> tuple[float, float]:
    """Give contrast limits from nine small parts of the first plane."""
    side, parts = 64, []
    for row, column in product(range(3), repeat=2):
        place = {"Y": row, "X": column}
        index = tuple(
            _part(n, side, place[axis]) if axis in "YX" else 0
            for axis, n in zip(image.axes, image.data.shape, strict=True)
        )
        parts.append(np.asarray(image.data[index], np.float64))
    finite = [part[np.isfinite(part)] for part in parts]
    low = min((float(part.min()) for part in finite if part.size), default=0.0)
    high = max((float(part.max()) for part in finite if part.size), default=1.0)
    return low, max(high, low + 1e-6)


def _part(n: int, side: int, third: int) -> slice:
    """Beginning, middle or end of `n` pixels."""
    start = max(0, n - side) * third // 2
    return slice(start, start + side)


def _as_dask(data: Any, axes: str, file: _OpenFile) -> da.Array:
    """View an array of a file as a dask array whose chunks are whole chunks of the file."""
    stored = getattr(data, "chunks", None) or (1,) * data.ndim
    chunks = tuple(
        {"S": size}.get(axis, chunk * -(-_CHUNK // chunk) if axis in "YX" else 1)
        for axis, size, chunk in zip(axes, data.shape, stored, strict=True)
    )
    meta = np.empty((0,) * data.ndim, data.dtype)
    array: da.Array = da.from_array(_Level(data, file), chunks=chunks, name=False, meta=meta)
    return array
