"""Saves an image layer of any size as OME-TIFF or OME-Zarr: chunk by chunk, with pixel sizes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from napari_swintormer.imaging.formats.writing import (
    ZARR_SUFFIX,
    check_fits,
    check_output,
    write_image,
)
from napari_swintormer.imaging.store.result import ResultStore
from napari_swintormer.plugin.layers.layer_data import guess_axes_of, pixel_sizes

_CHUNK = 1024  # pixels, side of what is in memory at once, and of the chunks of OME-Zarr


def write(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """Write one image layer; of a multiscale layer the finest level, OME-Zarr with a pyramid.

    Parameters
    ----------
    path
        ``.ome.tif``, ``.ome.tiff`` or ``.ome.zarr``; replaced if it exists, napari has asked.
    data, meta
        Of the layer, as napari gives them.

    Returns
    -------
    list of str
        What was written.

    Raises
    ------
    SwintormerError
        The format cannot hold the image, or the disk is full.
    """
    image = data[0] if meta.get("multiscale") else data
    labels = [str(label) for label in meta.get("axis_labels", ())]
    axes = guess_axes_of(image.shape, image.dtype, labels, rgb=bool(meta.get("rgb")))
    check_output(path, overwrite=True)
    check_fits(path, axes, image.shape, image.dtype)
    pixel_size, unit = pixel_sizes(axes, meta["scale"], meta["units"])
    if Path(path).suffix.lower() == ZARR_SUFFIX:
        _write_zarr(path, image, axes, pixel_size, unit)
    else:
        write_image(path, image, axes, pixel_size, unit, overwrite=True)
    return [path]


def _write_zarr(
    path: str, image: Any, axes: str, pixel_size: dict[str, float], unit: dict[str, str]
) -> None:
    dtype = np.dtype(image.dtype).newbyteorder("=")
    store = ResultStore.create(
        path, image.shape, dtype, axes, _CHUNK, {},
        pixel_size=pixel_size, unit=unit, overwrite=True,
    )  # fmt: skip
    steps = [
        {"Y": _CHUNK, "X": _CHUNK, "S": n}.get(axis, 1)
        for axis, n in zip(axes, image.shape, strict=True)
    ]
    starts = [range(0, n, step) for n, step in zip(image.shape, steps, strict=True)]
    stack = [i for i, axis in enumerate(axes) if axis in "TCZ"]
    y, x = axes.index("Y"), axes.index("X")
    try:
        for corner in product(*starts):
            region = tuple(
                slice(start, min(start + step, n))
                for start, step, n in zip(corner, steps, image.shape, strict=True)
            )
            store.array[region] = np.asarray(image[region])
            place = tuple(corner[i] for i in stack)
            plane = np.ravel_multi_index(place, [image.shape[i] for i in stack]) if stack else 0
            store.mark(int(plane), corner[y] // _CHUNK, corner[x] // _CHUNK)
        store.finish(overwrite=True)
    finally:
        store.discard()
