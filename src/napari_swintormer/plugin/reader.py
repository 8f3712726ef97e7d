"""Opens large TIFF and OME-Zarr images lazily: what the view shows is read, and no more."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from napari_swintormer.imaging.files import Image, open_image
from napari_swintormer.plugin.results import LARGEST_TEXTURE

LayerData = tuple[Any, dict[str, Any], str]

_ORDER = "TCZYXS"  # as napari wants it: the plane in view last, then the colours of a pixel
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
        Data are dask arrays, of several levels where a plane is larger than a texture.

    Raises
    ------
    FileError, ImageError
        As `napari_swintormer.imaging.files.open_image`; one sentence.
    """
    image = open_image(path)
    data, axes = _ordered(_as_dask(image), image.axes)
    rgb = axes.endswith("S")
    spatial = axes.removesuffix("S")
    levels = _levels(data, spatial)
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
    return [(levels if len(levels) > 1 else levels[0], arguments, "image")]


class _OpenFile:
    """The pixels of an open file, which is closed when the last array over them is gone."""

    def __init__(self, image: Image) -> None:
        self._data = image.data
        self.shape, self.dtype, self.ndim = image.data.shape, image.data.dtype, image.data.ndim
        weakref.finalize(self, image.close)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return np.asarray(self._data[index])


def _as_dask(image: Image) -> da.Array:
    """View a file as a dask array whose chunks are whole chunks of the file."""
    stored = getattr(image.data, "chunks", None) or (1,) * image.data.ndim
    chunks = tuple(
        {"S": size}.get(axis, chunk * -(-_CHUNK // chunk) if axis in "YX" else 1)
        for axis, size, chunk in zip(image.axes, image.data.shape, stored, strict=True)
    )
    meta = np.empty((0,) * image.data.ndim, image.data.dtype)
    array: da.Array = da.from_array(_OpenFile(image), chunks=chunks, name=False, meta=meta)
    return array


def _ordered(data: da.Array, axes: str) -> tuple[da.Array, str]:
    """Bring the axes into the order of napari; one or two samples are no colours to napari."""
    colours = "S" in axes and data.shape[axes.index("S")] in (3, 4)
    order = "".join(a for a in (_ORDER if colours else "TCSZYX") if a in axes)
    return data.transpose([axes.index(a) for a in order]), order


def _levels(data: da.Array, axes: str) -> list[da.Array]:
    """Make coarser levels of planes larger than a texture, from every second, fourth … pixel.

    They are as lazy as the image: zoomed in, napari reads only the part of the level in view.
    """
    y, x = axes.index("Y"), axes.index("X")
    levels = [data]
    if max(data.shape[y], data.shape[x]) > LARGEST_TEXTURE:
        step = 1
        while max(levels[-1].shape[y], levels[-1].shape[x]) > _OVERVIEW:
            step *= 2
            every = tuple(
                slice(None, None, step if axis in (y, x) else 1) for axis in range(len(data.shape))
            )
            levels.append(data[every])
    return levels
