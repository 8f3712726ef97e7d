"""From an image and its result to the file of what the result does not explain."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.evaluation.residual import BLOCK, blocks, pair_of_planes, residual_region
from napari_swintormer.events import Clock
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import check_fits, check_output
from napari_swintormer.imaging.store.result import ResultStore

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from napari_swintormer.events import Event
    from napari_swintormer.imaging.image import Image

_DTYPE = np.dtype(np.float32)


def residual_file(
    src: Path, result: Path, dst: Path, axes: str | None = None, *, overwrite: bool = False
) -> Generator[Event, None, None]:
    """Write the residual map of a result, see `napari_swintormer.evaluation.residual`.

    Neither file is held in memory. Closing the generator leaves nothing behind.

    Parameters
    ----------
    src, result
        Files of the image and of what was made of it.
    dst
        File to write, float32: .ome.zarr, .tif, .ome.tif or .npy.
    axes
        One letter of ``TCZYXS`` per dimension of the image; None takes those of its file.
    overwrite
        Whether an existing `dst` may be replaced.

    Yields
    ------
    Progress
        In regions, and then in chunks while the file is put in its place.

    Raises
    ------
    SwintormerError
        The files cannot be read or do not belong together, or `dst` cannot be written.
    """
    for file in (src, result):
        check_output(dst, file, overwrite)
    with open_image(src, axes) as image, open_image(result, axes) as made:
        check_fits(dst, image.axes, image.data.shape, _DTYPE)
        store = _create(image, dst, overwrite)
        try:
            with closing(_filling(image, made, store)) as events:
                yield from events
            yield from store.finishing(overwrite=overwrite)
        finally:
            store.discard()  # what is in its place stays


def _create(image: Image, dst: Path, overwrite: bool) -> ResultStore:
    return ResultStore.create(
        dst,
        image.data.shape,
        _DTYPE,
        image.axes,
        BLOCK,
        {"holds": "what the result does not explain"},
        pixel_size=image.pixel_size,
        unit=image.unit,
        overwrite=overwrite,
    )


def _filling(image: Image, made: Image, store: ResultStore) -> Generator[Event, None, None]:
    blurred, sharp = pair_of_planes(image.data, made.data, image.axes)
    regions = blocks(blurred.shape)
    clock = Clock(len(blurred) * len(regions), "regions")
    for plane in range(len(blurred)):
        for y, x in regions:
            left = residual_region(blurred, sharp, plane, y, x).residual
            blurred.write_beside(store.array, plane, y, x, left)
            store.mark(plane, y.start // BLOCK, x.start // BLOCK)
            yield clock.after(1)
