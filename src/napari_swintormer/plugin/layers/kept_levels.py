"""Coarser levels of large compressed files: made once in the background, and kept in the cache.

A compressed plane has to be decoded whole for an overview of it. So that is done in a thread, while
the viewer shows what is made; the next time the levels are there at once. They are kept under a
fingerprint of the file, and the oldest go when all of them take more than `LIMIT`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.image import Image
from napari_swintormer.imaging.store.pyramid import create_level, halve, renew_levels
from napari_swintormer.settings.preferences import cache_folder

LIMIT = 4 * 2**30  # bytes on disk, of all files together
FIRST_STEP = 4  # pixels of the image per pixel of the finest level that is kept
_CHUNK = 512
_COMPLETE = "complete"
_FORMAT = 1  # of what is kept
_STALE = 24 * 3600  # seconds, after which what another process began counts as left behind


class KeptLevels:
    """The coarser levels of one file.

    Parameters
    ----------
    image
        A plane of it is too large for one texture.
    overview
        Longest side of the coarsest level, in pixels.
    file
        Keeps the file open; held while levels are made.

    Attributes
    ----------
    levels
        Array-likes in the axes of `image`, finest first; zeros where nothing is made yet.
    done
        Set when all is made, or making has ended.
    """

    def __init__(self, image: Image, overview: int, file: object) -> None:
        shapes = _shapes(image, overview)
        self.done = Event()
        stop = Event()
        weakref.finalize(self, stop.set)
        state = _State()
        self.levels = [_KeptLevel(self, state, i, s, image) for i, s in enumerate(shapes)]
        folder = cache_folder() / "pyramids"
        kept = folder / _fingerprint(image)
        if (kept / _COMPLETE).exists():
            (kept / _COMPLETE).touch()  # when it was used last
            state.arrays = _open(kept, len(shapes))
            self.done.set()
            return
        folder.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix="making-", dir=folder))
        state.arrays = _create(making, image, shapes)
        arguments = (image, state, making, kept, stop, self.done, file)
        Thread(target=_make, args=arguments, name="swintormer-levels", daemon=True).start()


class _State:
    """Where the levels lie at the moment."""

    def __init__(self) -> None:
        self.arrays: list[Any] = []
        self.lock = Lock()


class _KeptLevel:
    """One level, read from wherever it lies."""

    def __init__(
        self, owner: KeptLevels, state: _State, number: int, shape: tuple[int, ...], image: Image
    ) -> None:
        self._owner, self._state, self._number = owner, state, number
        self.shape, self.ndim = shape, len(shape)
        self.dtype = np.dtype(image.data.dtype).newbyteorder("=")

    def __getitem__(self, index: Any) -> NDArray[Any]:
        with self._state.lock:
            return np.asarray(self._state.arrays[self._number][index])


def _make(
    image: Image,
    state: _State,
    making: Path,
    kept: Path,
    stop: Event,
    done: Event,
    _file: object,
) -> None:
    """Make all levels, chunk by chunk of the finest; stops where they are not wanted any more."""
    try:
        for region in _regions(state.arrays[0]):
            if stop.is_set():
                break
            finer = tuple(
                slice(FIRST_STEP * r.start, min(FIRST_STEP * r.stop, n)) if axis in "YX" else r
                for axis, r, n in zip(image.axes, region, image.data.shape, strict=True)
            )
            pixels = np.asarray(image.data[finer])
            pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
            with state.lock:
                state.arrays[0][region] = halve(halve(pixels, image.axes), image.axes)
                renew_levels(state.arrays, image.axes, region)
        else:
            (making / _COMPLETE).touch()
            with state.lock:
                if not kept.exists():  # another process may have been faster
                    making.rename(kept)
                    state.arrays = _open(kept, len(state.arrays))
            _prune(kept.parent, keep=kept)
    except (OSError, SwintormerError):
        pass  # a full disk, or a damaged file: what is made stays as long as the layer
    finally:
        done.set()
        if stop.is_set():
            shutil.rmtree(making, ignore_errors=True)


def _shapes(image: Image, overview: int) -> list[tuple[int, ...]]:
    shapes, shape = [], image.data.shape
    for level in range(64):
        halvings = 2 if level == 0 else 1
        for _ in range(halvings):
            shape = tuple(
                -(-n // 2) if axis in "YX" else n for axis, n in zip(image.axes, shape, strict=True)
            )
        shapes.append(shape)
        if max(n for axis, n in zip(image.axes, shape, strict=True) if axis in "YX") <= overview:
            break
    return shapes


def _create(folder: Path, image: Image, shapes: Sequence[tuple[int, ...]]) -> list[Any]:
    import zarr

    group = zarr.open_group(folder, mode="w", zarr_format=3)
    dtype = np.dtype(image.data.dtype).newbyteorder("=")
    return [
        create_level(
            group,
            number,
            shape,
            dtype,
            tuple(
                _CHUNK if axis in "YX" else n if axis == "S" else 1
                for axis, n in zip(image.axes, shape, strict=True)
            ),
            image.axes,
        )
        for number, shape in enumerate(shapes)
    ]


def _open(folder: Path, n_levels: int) -> list[Any]:
    import zarr

    group = zarr.open_group(folder, mode="r")
    return [group[str(number)] for number in range(n_levels)]


def _regions(array: Any) -> list[tuple[slice, ...]]:
    starts = [range(0, n, c) for n, c in zip(array.shape, array.chunks, strict=True)]
    return [
        tuple(
            slice(start, min(start + c, n))
            for start, c, n in zip(corner, array.chunks, array.shape, strict=True)
        )
        for corner in product(*starts)
    ]


def _fingerprint(image: Image) -> str:
    """Name a file by its place, its size and the time of its last change."""
    status = image.path.stat()
    parts = (
        _FORMAT,
        str(image.path.resolve()),
        status.st_size,
        status.st_mtime_ns,
        tuple(image.data.shape),
        image.axes,
        str(np.dtype(image.data.dtype)),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def _prune(folder: Path, keep: Path) -> None:
    """Remove what was used longest ago until the rest fits, and what was left behind."""
    sizes: dict[Path, int] = {}
    used: dict[Path, float] = {}
    for path in folder.iterdir():
        mark = path / _COMPLETE
        if path.name.startswith("making-"):
            if time.time() - path.stat().st_mtime > _STALE:
                shutil.rmtree(path, ignore_errors=True)
        elif mark.exists():
            used[path] = mark.stat().st_mtime
            sizes[path] = sum(
                os.path.getsize(Path(at, name)) for at, _, names in os.walk(path) for name in names
            )
    total = sum(sizes.values())
    for path in sorted(used, key=lambda path: used[path]):
        if total <= LIMIT:
            return
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)
            total -= sizes[path]
