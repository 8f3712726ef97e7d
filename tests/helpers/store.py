"""Small images, and a run that copies them into a result store."""

from __future__ import annotations

import numpy as np

from napari_swintormer.imaging.planes import Planes
from napari_swintormer.imaging.store.result import ResultStore

RUN = {"model": "tiny", "settings": {"tile_size": 64, "overlap": 16}}
SIZES = {"T": 2, "C": 2, "Z": 2, "Y": 50, "X": 71}
PIXEL_SIZE = {"T": 2.0, "Z": 0.5, "Y": 0.25, "X": 0.125}
UNIT = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}
BLOCK = 32


def image_of(axes, dtype="uint16", samples=3):
    shape = [SIZES.get(a, samples) for a in axes]
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def begin(destination, image, axes="YX", run=RUN, **options):
    size = {a: n for a, n in PIXEL_SIZE.items() if a in axes}
    unit = {a: UNIT[a] for a in size}
    return ResultStore.create(
        destination,
        image.shape,
        image.dtype,
        axes,
        BLOCK,
        run,
        pixel_size=size,
        unit=unit,
        **options,
    )


def chunks_of(planes):
    for plane in range(len(planes)):
        for row in range(-(-planes.shape[0] // BLOCK)):
            for column in range(-(-planes.shape[1] // BLOCK)):
                yield plane, row, column


def copy_chunks(image, axes, store, limit=None, channels=3, shuffled=False):
    """Stand in for a run that changes nothing: fill unfinished chunks, at most `limit`."""
    planes = Planes(image, axes, channels)
    done = store.finished()
    todo = [chunk for chunk in chunks_of(planes) if chunk not in done][:limit]
    if shuffled:  # as a cluster works
        np.random.default_rng(1).shuffle(todo)
    for plane, row, column in todo:
        y = slice(row * BLOCK, min((row + 1) * BLOCK, planes.shape[0]))
        x = slice(column * BLOCK, min((column + 1) * BLOCK, planes.shape[1]))
        planes.write(store.array, plane, y, x, planes.read(plane, y, x))
        store.mark(plane, row, column)
    return len(todo)
