"""Opens large images lazily: napari reads what the view shows, and no more."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any

import dask.array as da
import numpy as np
from napari.types import FullLayerData
from napari.utils.notifications import show_info

from napari_swintormer.imaging.carried import NOTHING, Carried
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import black_is_zero
from napari_swintormer.imaging.image import Image
from napari_swintormer.plugin.image_choice import IMAGE_NUMBER, chosen_number, offer_images
from napari_swintormer.plugin.layers.array_views import EveryNth, OwnedArray
from napari_swintormer.plugin.layers.layer_data import CARRIED
from napari_swintormer.plugin.layers.overview_cache import (
    OverviewLevels,
    overview_levels,
    redraw_until_made,
)
from napari_swintormer.plugin.layers.space_check import LARGEST_TEXTURE

_CHUNK = 1024  # pixels, smallest side of what is read at once
_OVERVIEW = 2048  # pixels, longest side of the coarsest level
_SAMPLE = 64  # pixels, side of the nine parts that the contrast limits are measured on


def get_reader(path: str | list[str]) -> Callable[[str], list[FullLayerData]] | None:
    """Return the reader of a file or folder; None for a list of files, which are several images."""
    return read if isinstance(path, str) else None


def read(path: str) -> list[FullLayerData]:
    """Read an image into the data of one layer, or of one layer per channel.

    The data are dask arrays: several levels, finest first, if the file has a pyramid or needs one.
    Of a file with several images the largest is read, and the window offers the others.
    """
    image = black_is_zero(open_image(path, image=chosen_number()))
    if image.images:
        offer_images(path, image)
    for said in image.left_out:
        show_info(said)
    levels, axes, making = _open_levels(image)
    rgb = axes.endswith("S")
    spatial = axes.removesuffix("S")
    shown = spatial.replace("C", "")
    arguments: dict[str, Any] = {
        "name": _name(image),
        "scale": [image.pixel_size.get(axis, 1.0) for axis in shown],
        "units": [image.unit.get(axis, "pixel") for axis in shown],
        "axis_labels": [axis.lower() for axis in shown],
        "cache": False,
        "multiscale": len(levels) > 1,
    }
    if "C" in spatial:
        arguments["channel_axis"] = spatial.index("C")
        sizes = dict(zip(image.axes, image.data.shape, strict=True))
        arguments |= _look_of_channels(image, sizes["C"])
    else:
        arguments["rgb"] = rgb
        if metadata := _metadata(image, image.carried):
            arguments["metadata"] = metadata
    if making is not None:
        if not rgb:  # napari would measure the limits on levels that are not made yet
            arguments.setdefault("contrast_limits", _contrast_limits(image))
        redraw_until_made(making, path)
    return [(levels if len(levels) > 1 else levels[0], arguments, "image")]


def _name(image: Image) -> str:
    """Name the layer of an image: by its file, and by its own name where there are several."""
    return f"{image.name} {image.images[image.number - 1]}" if image.images else image.name


def _metadata(image: Image, carried: Carried) -> dict[str, Any]:
    """Make the metadata of a layer: what its file holds, and which image of it this is."""
    metadata: dict[str, Any] = {} if carried == NOTHING else {CARRIED: carried}
    return metadata | ({IMAGE_NUMBER: image.number} if image.images else {})


def _look_of_channels(image: Image, n_channels: int) -> dict[str, Any]:
    """Make names, colours and limits of the layers of channels, as far as the file tells them."""
    carried, shape = image.carried, tuple(image.data.shape)
    parts = [carried.cut(image.axes, shape, {"C": (c, c + 1)}) for c in range(n_channels)]
    metadata = [_metadata(image, part) for part in parts]
    look: dict[str, Any] = {"metadata": metadata} if any(metadata) else {}
    channels = carried.channels
    if len(channels) != n_channels:
        return look
    if any(channel.name for channel in channels):
        names = (channel.name or f"channel {c}" for c, channel in enumerate(channels))
        look["name"] = [f"{_name(image)} {name}" for name in names]
    if all(channel.colour for channel in channels):
        colours = [channel.colour or (255, 255, 255) for channel in channels]
        look["colormap"] = [f"#{bytes(colour).hex()}" for colour in colours]
    if all(channel.display_range for channel in channels):
        look["contrast_limits"] = [channel.display_range for channel in channels]
    return look


def open_levels(path: str | os.PathLike[str], axes: str) -> Any:
    """Open an image that was written with certain axes: a dask array, or levels, finest first."""
    levels, order, _ = _open_levels(open_image(path))
    for axis in axes:
        if axis not in order:  # TIFF may leave out axes of size 1
            levels, order = [level[np.newaxis] for level in levels], axis + order
    levels = [level.transpose([order.index(axis) for axis in axes]) for level in levels]
    return levels if len(levels) > 1 else levels[0]


class _OpenFile:
    """Closes a file when the last array over it is gone."""

    def __init__(self, image: Image) -> None:
        weakref.finalize(self, image.close)


def _open_levels(image: Image) -> tuple[list[da.Array], str, OverviewLevels | None]:
    """Return the levels of a file as dask arrays, their axes, and the levels in the making.

    Planes larger than a texture need coarser levels. If the file has none, they are every second,
    fourth … pixel of an uncompressed file. Those of a compressed file are made in the background.
    """
    file: object = _OpenFile(image)
    stored: list[Any] = [image.data, *image.levels]
    size = dict(zip(image.axes, image.data.shape, strict=True))
    longest = max(size["Y"], size["X"])
    overview = None
    if len(stored) == 1 and longest > LARGEST_TEXTURE:
        if not isinstance(image.data, FlatArray):
            with suppress(OSError):  # the cache folder cannot be written
                overview = overview_levels(image, file)
        step = 2
        while overview is None and longest > _OVERVIEW * step // 2:
            steps = tuple(step if axis in "YX" else 1 for axis in image.axes)
            stored.append(EveryNth(image.data, steps))
            step *= 2
        if overview is not None:
            stored, file = stored + overview.arrays, overview
    colours = size.get("S", 0) in (3, 4)  # napari takes no other number of samples for colours
    order = "".join(axis for axis in ("TCZYXS" if colours else "TCSZYX") if axis in image.axes)
    levels = [_as_dask(OwnedArray(data, image.axes, order, file)) for data in stored]
    return levels, order, None if overview is None or overview.done.is_set() else overview


def _contrast_limits(image: Image) -> tuple[float, float]:
    """Measure contrast limits on nine small parts of the first plane."""
    along: list[list[int | slice]] = []
    for axis, n in zip(image.axes, image.data.shape, strict=True):
        starts = [max(0, n - _SAMPLE) * third // 2 for third in range(3)]
        along.append([slice(s, s + _SAMPLE) for s in starts] if axis in "YX" else [0])
    parts = [np.asarray(image.data[index], np.float64) for index in product(*along)]
    pixels = np.concatenate([part[np.isfinite(part)] for part in parts])
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 1.0)
    return low, max(high, low + 1e-6)


def _as_dask(array: OwnedArray) -> da.Array:
    """View an array of a file as a dask array whose chunks are whole chunks of the file."""
    stored = getattr(array.stored, "chunks", None) or (1,) * array.ndim
    side = dict(zip(array.stored_axes, stored, strict=True))
    chunks = []
    for axis, n in zip(array.axes, array.shape, strict=True):
        chunks.append(
            side[axis] * -(-_CHUNK // side[axis]) if axis in "YX" else n if axis == "S" else 1
        )
    meta = np.empty((0,) * array.ndim, array.dtype)
    lazy: da.Array = da.from_array(array, chunks=tuple(chunks), name=False, meta=meta)
    return lazy
