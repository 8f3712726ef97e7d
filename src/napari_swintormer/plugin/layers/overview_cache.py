"""Coarser levels of large compressed files, made once in the background and kept in the cache.

An overview of a compressed plane needs the whole plane decoded. A thread does that while the viewer
shows what is made already. The next time the levels are there at once. The oldest levels are
removed when all files together take more than `LIMIT`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import napari
import numpy as np
from napari.layers import Image as ImageLayer
from qtpy.QtCore import QCoreApplication, QTimer

from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.image import Image
from napari_swintormer.imaging.store.pyramid import create_levels, halve, renew_levels
from napari_swintormer.plugin.layers.array_views import chunk_regions
from napari_swintormer.settings.preferences import cache_folder

LIMIT = 4 * 2**30  # bytes on disk, of all files together
FINEST = 4  # pixels of the image along Y and X per pixel of the finest level that is kept
_CHUNK = 512  # pixels
_COMPLETE = "complete"  # file in the folder of levels that are all made
_FORMAT = 3  # version of what is kept
_STALE = 24 * 3600  # seconds after which incomplete levels count as left behind
_REDRAW_EVERY = 500  # milliseconds


@dataclass(eq=False)
class OverviewLevels:
    """The coarser levels of one file.

    Attributes
    ----------
    arrays
        Zarr arrays in the axes of the image, finest first; zeros where nothing is made yet.
    done
        Set when all levels are made, or when making them has failed.
    file
        Keeps the file open.
    """

    arrays: list[Any]
    done: Event
    file: object


def overview_levels(image: Image, file: object) -> OverviewLevels:
    """Return the coarser levels of an image; a thread makes them if the cache has none.

    The thread stops when nothing refers to the returned object any more. `file` keeps the file of
    the image open.

    An `OSError` tells that the cache folder cannot be written.
    """
    folder, name = cache_folder() / "pyramids", _fingerprint(image)
    for mark in folder.glob(f"{name}-*/{_COMPLETE}"):
        mark.touch()  # the time of the last use
        levels = OverviewLevels(_open(mark.parent), Event(), file)
        levels.done.set()
        return levels
    folder.mkdir(parents=True, exist_ok=True)
    own = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
    levels, stop = OverviewLevels(_create(own, image), Event(), file), Event()
    weakref.finalize(levels, stop.set)
    arguments = (image, levels.arrays, own, stop, levels.done, file)
    Thread(target=_make, args=arguments, name="swintormer-levels", daemon=True).start()
    return levels


def redraw_until_made(levels: OverviewLevels, path: str | os.PathLike[str]) -> None:
    """Draw the layers of a file again and again until its levels are made.

    Without a window this does nothing.
    """
    application = QCoreApplication.instance()
    if application is None:
        return
    timer = QTimer(application, interval=_REDRAW_EVERY)
    done = levels.done  # a reference to the levels would keep them in the making

    def draw() -> None:
        if done.is_set():
            timer.stop()
            timer.deleteLater()
        viewer = napari.current_viewer()
        for layer in () if viewer is None else viewer.layers:
            if isinstance(layer, ImageLayer) and layer.source.path == str(path):
                layer.refresh(extent=False, highlight=False)

    timer.timeout.connect(draw)
    timer.start()


def _make(
    image: Image, arrays: list[Any], folder: Path, stop: Event, done: Event, _file: object
) -> None:
    """Make all levels, chunk by chunk of the finest, until `stop` is set."""
    try:
        for region in chunk_regions(arrays[0].shape, arrays[0].chunks):
            if stop.is_set():
                break
            finer = tuple(
                slice(FINEST * part.start, min(FINEST * part.stop, n)) if axis in "YX" else part
                for axis, part, n in zip(image.axes, region, image.data.shape, strict=True)
            )
            pixels = np.asarray(image.data[finer])
            pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
            arrays[0][region] = halve(halve(pixels, image.axes), image.axes)
            renew_levels(arrays, image.axes, region)
        else:
            (folder / _COMPLETE).touch()
            _prune(folder.parent, keep=folder)
    except (OSError, SwintormerError):
        pass  # the disk is full or the file is damaged: the layer shows what is made
    finally:
        if stop.is_set() and not (folder / _COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)
        done.set()


def _create(folder: Path, image: Image) -> list[Any]:
    import zarr

    group = zarr.open_group(folder, mode="w", zarr_format=3)
    shape = tuple(
        -(-n // FINEST) if axis in "YX" else n
        for axis, n in zip(image.axes, image.data.shape, strict=True)
    )
    return create_levels(group, shape, np.dtype(image.data.dtype), image.axes, _CHUNK)


def _open(folder: Path) -> list[Any]:
    import zarr

    group = zarr.open_group(folder, mode="r")
    numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    return [group[str(number)] for number in numbers]


def _fingerprint(image: Image) -> str:
    """Name an image by its file, the size of that and the time of its last change."""
    status = image.path.stat()
    file = (str(image.path.resolve()), status.st_size, status.st_mtime_ns)
    pixels = (tuple(image.data.shape), image.axes, str(np.dtype(image.data.dtype)), image.number)
    return hashlib.sha256(repr((_FORMAT, *file, *pixels)).encode()).hexdigest()[:32]


def _prune(folder: Path, keep: Path) -> None:
    """Remove the levels that were used longest ago until the rest fits, and incomplete old ones."""
    used: dict[Path, float] = {}
    for path in folder.iterdir():
        mark = path / _COMPLETE
        if mark.exists():
            used[path] = mark.stat().st_mtime
        elif time.time() - path.stat().st_mtime > _STALE:
            shutil.rmtree(path, ignore_errors=True)
    sizes = {path: sum(f.stat().st_size for f in path.rglob("*")) for path in used}
    total = sum(sizes.values())
    for path in sorted(used, key=lambda path: used[path]):
        if total > LIMIT and path != keep:
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]
