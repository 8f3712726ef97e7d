"""Saves an image layer of any size as OME-TIFF or OME-Zarr: chunk by chunk, with pixel sizes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from napari.utils.notifications import show_info

from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.carried import NOTHING, Carried
from napari_swintormer.imaging.formats.ome_zarr import ZARR_SUFFIX
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.registry import loss_notice
from napari_swintormer.imaging.formats.writing import (
    check_fits,
    check_output,
    write_image,
)
from napari_swintormer.imaging.image import Image as ImageFile
from napari_swintormer.imaging.store.result import ResultStore
from napari_swintormer.plugin.layers.array_views import chunk_regions
from napari_swintormer.plugin.layers.layer_data import CARRIED, guess_axes_of, pixel_sizes

_CHUNK = 1024  # pixels, side of what is in memory at once, and of the chunks of OME-Zarr


def write(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one image layer at full resolution; an OME-Zarr image gets a pyramid.

    An existing file is replaced: napari has asked the user.
    """
    if said := save_layer(Path(path), data, meta, overwrite=True):
        show_info(said)
    return [path]


def save_layer(
    path: Path,
    data: Any,
    meta: Mapping[str, Any],
    *,
    src: str | None = None,
    overwrite: bool = False,
) -> str | None:
    """Write an image layer; return a sentence on what its file cannot hold of it, if anything.

    `data` and `meta` are the first parts of ``layer.as_layer_data_tuple()``. `src` is the file that
    the image comes from, which is never replaced; what it holds beside pixels is carried over.

    Raises
    ------
    OutputError
        The file cannot be written, or exists and may not be replaced.
    """
    image = data[0] if meta.get("multiscale") else data
    labels = [str(label) for label in meta.get("axis_labels", ())]
    axes = guess_axes_of(image.shape, image.dtype, labels, rgb=bool(meta.get("rgb")))
    check_output(path, src, overwrite=overwrite)
    check_fits(path, axes, image.shape, image.dtype)
    pixel_size, unit = pixel_sizes(axes, meta["scale"], meta["units"])
    carried = (meta.get("metadata") or {}).get(CARRIED)
    if carried is None:
        carried = NOTHING if src is None else _carried_of(src, tuple(image.shape))
    if path.suffix.lower() == ZARR_SUFFIX:
        _write_zarr(path, image, axes, pixel_size, unit, carried, overwrite=overwrite)
    else:
        write_image(path, image, axes, pixel_size, unit, carried=carried, overwrite=overwrite)
    return loss_notice(path, ImageFile(image, axes, path, carried=carried))


def _carried_of(src: str, shape: tuple[int, ...]) -> Carried:
    """Read what a file holds beside its pixels; nothing if it is not the image of this shape."""
    with suppress(SwintormerError), open_image(src) as image:
        if tuple(image.data.shape) == shape:
            return image.carried
    return NOTHING


def _write_zarr(
    path: Path,
    image: Any,
    axes: str,
    pixel_size: dict[str, float],
    unit: dict[str, str],
    carried: Carried,
    *,
    overwrite: bool,
) -> None:
    dtype = np.dtype(image.dtype).newbyteorder("=")
    store = ResultStore.create(
        path, image.shape, dtype, axes, _CHUNK, {},
        pixel_size=pixel_size, unit=unit, overwrite=overwrite,
    )  # fmt: skip
    size = dict(zip(axes, image.shape, strict=True))
    side = {"Y": _CHUNK, "X": _CHUNK, "S": size.get("S", 1)}
    stack = [axis for axis in axes if axis in "TCZ"]
    try:
        for region in chunk_regions(image.shape, [side.get(axis, 1) for axis in axes]):
            store.array[region] = np.asarray(image[region])
            start = {axis: part.start for axis, part in zip(axes, region, strict=True)}
            index, shape = [start[a] for a in stack], [size[a] for a in stack]
            plane = int(np.ravel_multi_index(index, shape)) if stack else 0
            store.mark(plane, start["Y"] // _CHUNK, start["X"] // _CHUNK)
        store.finish(carried=carried, overwrite=overwrite)
    finally:
        store.discard()
