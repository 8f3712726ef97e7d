"""Where patches come from: each is a pure function of the seed, the step and its number.

So a resumed training sees what an uninterrupted one would have seen, and the number of threads
that prepare patches ahead of the network changes nothing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import SwintormerError, TrainingError
from napari_swintormer.imaging.files import open_image
from napari_swintormer.imaging.intensity import measure_ranges
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.training.degradations import draw_defocus, draw_range
from napari_swintormer.training.pairs import drawing_weights

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.imaging.intensity import IntensityConvention, IntensityRange
    from napari_swintormer.training.pairs import Scene

    FloatArray = NDArray[np.float32]
    Patch = tuple[FloatArray, FloatArray]

_CACHE_BYTES = 512 * 2**20
_GREY_PHOTOS = 0.25
_HALF_SIZE = 0.15
# Enlarged before they are blurred, or left as they are: few real images are sharp to the pixel, and
# a model that knows only such images as sharp takes every other one for beyond its help.
_SOFT = 0.35
_AHEAD = 4  # batches prepared before they are asked for


class PatchSampler:
    """Draws pairs of blurred and sharp patches from scenes.

    Parameters
    ----------
    scenes
        Scenes to draw from, at least one.
    patch_size
        Side of the square patches, in pixels.
    channels
        Channels of the network.
    convention
        How intensities of an image become the unit range.
    seed
        Seed of everything that is drawn.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        patch_size: int,
        channels: int,
        convention: IntensityConvention,
        seed: int,
    ) -> None:
        self._scenes = list(scenes)
        self._patch_size = patch_size
        self._channels = channels
        self._images = ImageCache(channels, convention)
        self._seed = seed
        self._cumulative = np.cumsum(drawing_weights(scenes))

    def draw(self, step: int, index: int) -> Patch:
        """Draw patch number `index` of a training step.

        Returns
        -------
        blurred, sharp
            ``(C, patch_size, patch_size)`` float32. The blurred patch is cut to [0, 1], as a
            restorer cuts its tiles; what was cut off is taken from the sharp one too, because a
            restorer adds it again.
        """
        rng = np.random.default_rng([self._seed, step, index])
        k = int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], "right"))
        return self._patch(self._scenes[min(k, len(self._scenes) - 1)], rng)

    def draw_all(self, count: int) -> Patch:
        """Draw `count` blurred patches with the scenes in turn; a fixed set for validation."""
        pairs = []
        for index in range(count):
            rng = np.random.default_rng([self._seed, index])
            scene = self._scenes[index * len(self._scenes) // count]
            pairs.append(self._patch(scene, rng, unblurred=0.0))
        return np.stack([b for b, _ in pairs]), np.stack([s for _, s in pairs])

    def _patch(self, scene: Scene, rng: np.random.Generator, **share: float) -> Patch:
        if scene.blurred is None:
            degradation = draw_defocus(scene.kind, rng, **share)
            sharp = self._cut(scene, (scene.sharp,), degradation.margin, rng)[0]
            if scene.kind == "photo" and len(sharp) == 3 and rng.random() < _GREY_PHOTOS:
                sharp = sharp.mean(axis=0, keepdims=True)
            if rng.random() < _SOFT:
                sharp = _enlarged(sharp, rng)
            blurred = degradation.apply(sharp, rng)
            inner = slice(degradation.margin, degradation.margin + self._patch_size)
            # a patch without blur stays as it is, noise and all: sharp images are left alone
            sharp = sharp[:, inner, inner] if degradation.psfs else blurred
        else:
            blurred, sharp = self._cut(scene, (scene.blurred, scene.sharp), 0, rng)
        low, high = draw_range(rng)
        blurred, sharp = (blurred - low) / (high - low), (sharp - low) / (high - low)
        seen = np.clip(blurred, 0, 1)
        sharp = sharp - (blurred - seen)
        if len(seen) < self._channels:
            seen, sharp = (np.repeat(p, self._channels, axis=0) for p in (seen, sharp))
        return seen.astype(np.float32), sharp.astype(np.float32)

    def _cut(
        self, scene: Scene, files: tuple[Path, ...], margin: int, rng: np.random.Generator
    ) -> list[FloatArray]:
        """Cut the same patch with its margin from images of a scene, in unit range, and turn it.

        A small image is mirrored at its border. Some patches come from the image at half size:
        another sharpness and another scale of the same things. All images of a scene share the
        range of the first.
        """
        side = self._patch_size + 2 * margin
        halve = min(scene.shape) >= 2 * side and rng.random() < _HALF_SIZE
        read = 2 * side if halve else side
        corner = [int(rng.integers(0, max(1, n - read + 1))) for n in scene.shape]
        region = [slice(c, min(c + read, n)) for c, n in zip(corner, scene.shape, strict=True)]
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        patches = []
        intensity: IntensityRange | None = None
        for file in files:
            raw, own_range = self._images.read(file, scene.plane, region[0], region[1])
            intensity = intensity or own_range
            patch = intensity.to_unit(raw)
            missing = [(0, read - n) for n in patch.shape[1:]]
            if any(after for _, after in missing):
                patch = np.pad(patch, [(0, 0), *missing], mode="symmetric")
            if halve:
                patch = patch.reshape(len(patch), side, 2, side, 2).mean(axis=(2, 4))
            patch = np.rot90(patch, turns, axes=(1, 2))
            patches.append(np.ascontiguousarray(patch[:, :, ::-1] if mirror else patch))
        return patches


def _enlarged(patch: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Enlarge the middle of a ``(C, Y, X)`` patch to its full size."""
    from scipy.ndimage import zoom

    side = patch.shape[1]
    part = round(side / rng.uniform(1.2, 2.2))
    begin = (side - part) // 2
    middle = patch[:, begin : begin + part, begin : begin + part]
    enlarged: FloatArray = zoom(middle, (1, side / part, side / part), order=3, mode="mirror")
    return enlarged


class ImageCache:
    """Keeps decoded images and their intensity ranges, so that a patch seldom opens a file.

    Images too large to keep are read region by region. Safe to use from several threads.
    """

    def __init__(
        self, channels: int, convention: IntensityConvention, limit: int = _CACHE_BYTES
    ) -> None:
        self._channels = channels
        self._convention = convention
        self._limit = limit
        self._bytes = 0
        self._ranges: dict[Path, list[IntensityRange]] = {}
        self._images: OrderedDict[Path, tuple[NDArray[Any], str]] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self, file: Path, plane: int, y: slice, x: slice
    ) -> tuple[NDArray[Any], IntensityRange]:
        """Read a region ``(C, h, w)`` of a plane, with the range of the plane."""
        with self._lock:
            kept = self._images.get(file)
            if kept is not None:
                self._images.move_to_end(file)
        if kept is not None:
            return Planes(*kept, self._channels).read(plane, y, x), self._ranges[file][plane]
        try:
            with open_image(file) as image:
                size = int(np.prod(image.data.shape)) * np.dtype(image.data.dtype).itemsize
                keep = size <= self._limit // 8
                data = np.asarray(image.data[:]) if keep else image.data
                planes = Planes(data, image.axes, self._channels)
                if file not in self._ranges:
                    self._ranges[file] = measure_ranges(planes, self._convention)
                region = planes.read(plane, y, x)
        except SwintormerError as error:
            raise TrainingError(f"Training cannot use {file}: {error}") from error
        if keep:
            self._keep(file, data, image.axes)
        return region, self._ranges[file][plane]

    def _keep(self, file: Path, data: NDArray[Any], axes: str) -> None:
        with self._lock:
            if file not in self._images:
                self._images[file] = (data, axes)
                self._bytes += data.nbytes
            while self._bytes > self._limit:
                _, (oldest, _) = self._images.popitem(last=False)
                self._bytes -= oldest.nbytes


def batches(
    sampler: PatchSampler, batch_size: int, start: int, stop: int, workers: int
) -> Generator[Patch]:
    """Yield the batches of the steps `start` to `stop`, prepared ahead by threads.

    Yields
    ------
    blurred, sharp
        ``(B, C, patch_size, patch_size)`` float32.
    """

    def prepare(step: int) -> Patch:
        pairs = [sampler.draw(step, index) for index in range(batch_size)]
        return np.stack([b for b, _ in pairs]), np.stack([s for _, s in pairs])

    pool = ThreadPoolExecutor(workers, thread_name_prefix="patches")
    try:
        waiting = deque(pool.submit(prepare, step) for step in range(start, stop)[:_AHEAD])
        for step in range(start, stop):
            batch = waiting.popleft().result()
            if step + _AHEAD < stop:
                waiting.append(pool.submit(prepare, step + _AHEAD))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
