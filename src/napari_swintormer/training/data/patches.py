"""Where patches come from: each is a pure function of the seed, the step and its number.

So a resumed training sees what an uninterrupted one would have seen, and the number of threads
that prepare patches ahead of the network changes nothing.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from napari_swintormer.training.data.annotations import LEAVE_OUT, Marks, plane_of_mask
from napari_swintormer.training.data.image_cache import ImageCache
from napari_swintormer.training.data.pairs import drawing_weights
from napari_swintormer.training.data.sources import open_planes
from napari_swintormer.training.degradations.patterns import draw_pattern
from napari_swintormer.training.degradations.realistic import DEGRADATIONS
from napari_swintormer.training.degradations.simple import draw_range

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.imaging.intensity import IntensityConvention
    from napari_swintormer.training.data.pairs import PlanePair
    from napari_swintormer.training.degradations.realistic import Modality

    FloatArray = NDArray[np.float32]
    Patch = tuple[FloatArray, FloatArray]

_GREY_PHOTOS = 0.25
# Shrunk, by as much as the image is large enough for: another sharpness and another scale of the
# same things, as few photos as there are to train on do not show by themselves.
_SHRUNK, _SHRUNK_MOST = 0.25, 2.0
# Enlarged before they are blurred, or left as they are: few real images are sharp to the pixel, and
# a model that knows only such images as sharp takes every other one for beyond its help. Of too
# many it learns that sharp images are soft, and restores half of what a sharp one is missing.
_SOFT = 0.2
# Drawn instead, most of them to stay as they are.
_FIGURES, _FIGURES_UNBLURRED = 0.1, 0.7
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
    synthesize
        How scenes without a blurred image are blurred, see `realistic.DEGRADATIONS`; None where
        there are no such scenes.
    """

    def __init__(
        self,
        scenes: Sequence[PlanePair],
        patch_size: int,
        channels: int,
        convention: IntensityConvention,
        seed: int,
        synthesize: str | None = "defocus",
    ) -> None:
        self._scenes = list(scenes)
        self._patch_size = patch_size
        self._channels = channels
        self._images = ImageCache(channels, convention)
        self._seed = seed
        self._degrade = None if synthesize is None else DEGRADATIONS[synthesize]
        self._cumulative = np.cumsum(drawing_weights(scenes))
        self._marks = {s: _marks(s, channels) for s in scenes if s.annotations is not None}

    def draw(self, step: int, index: int, side: int | None = None) -> Patch:
        """Draw patch number `index` of a training step, of another `side` than usual if given.

        Returns
        -------
        blurred, sharp
            ``(C, side, side)`` float32. The blurred patch is cut to [0, 1], as a restorer cuts its
            tiles; what was cut off is taken from the sharp one too, because a restorer adds it
            again. Of a scene with two views the blurred patch has the channels of both. The sharp
            one is NaN where annotations leave pixels out.
        """
        rng = np.random.default_rng([self._seed, step, index])
        k = int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], "right"))
        scene = self._scenes[min(k, len(self._scenes) - 1)]
        return self._patch(scene, rng, side or self._patch_size)

    def draw_all(self, count: int) -> Patch:
        """Draw `count` blurred patches with the scenes in turn; a fixed set for validation."""
        pairs = []
        for index in range(count):
            rng = np.random.default_rng([self._seed, index])
            scene = self._scenes[index * len(self._scenes) // count]
            pairs.append(self._patch(scene, rng, self._patch_size, unblurred=0.0))
        return np.stack([b for b, _ in pairs]), np.stack([s for _, s in pairs])

    def _patch(
        self, scene: PlanePair, rng: np.random.Generator, side: int, **share: float
    ) -> Patch:
        if scene.blurred is None:
            assert self._degrade is not None
            figure = not share and rng.random() < _FIGURES
            if figure:
                share = {"unblurred": _FIGURES_UNBLURRED}
            degradation = self._degrade(self._modality(scene), rng, **share)
            place = self._place(scene, side + 2 * degradation.margin, rng)
            sharp = self._cut(scene, place)[0]
            if scene.kind == "photo" and len(sharp) == 3 and rng.random() < _GREY_PHOTOS:
                sharp = sharp.mean(axis=0, keepdims=True)
            if figure:
                sharp = draw_pattern(sharp.shape, rng)
            elif rng.random() < _SOFT:
                sharp = _enlarged(sharp, rng)
            blurred, sharp = degradation.degrade(sharp, rng)
            views = [blurred]
            inner = slice(degradation.margin, degradation.margin + side)
        else:
            place = self._place(scene, side, rng)
            inner = slice(None)
            sharp, *views = self._cut(scene, place)
        low, high = draw_range(rng)
        sharp, *views = ((patch - low) / (high - low) for patch in (sharp, *views))
        seen = [np.clip(view, 0, 1) for view in views]
        sharp = sharp - (views[0] - seen[0])
        if scene.annotations is not None:
            left_out = self._left_out(scene, place)[:, inner, inner]
            sharp = np.where(left_out, np.nan, sharp)
        if len(sharp) < self._channels:
            sharp, *seen = (np.repeat(p, self._channels, axis=0) for p in (sharp, *seen))
        return np.concatenate(seen).astype(np.float32), sharp.astype(np.float32)

    def _modality(self, scene: PlanePair) -> Modality:
        if scene.kind == "photo":
            return "photo"
        dark = self._images.is_dark(scene.sharp, scene.plane, scene.bounds)
        return "fluorescence" if dark else "brightfield"

    def _place(self, scene: PlanePair, side: int, rng: np.random.Generator) -> _Place:
        """Draw where a patch is cut that has `side` pixels with its margin, and how it is turned.

        Some patches come from the image at a smaller size.
        """
        (top, bottom), (left, right) = scene.bounds
        sizes = bottom - top, right - left
        most = min(_SHRUNK_MOST, min(sizes) / side)
        read = side
        if most > 1 and rng.random() < _SHRUNK:
            read = round(side * rng.uniform(1, most))
        corner = [int(rng.integers(0, max(1, n - read + 1))) for n in sizes]
        if scene.annotations is not None:
            centre = self._draw_centre(scene, rng)
            corner = [
                max(0, min(c - begin - read // 2, n - read))
                for c, begin, n in zip(centre, (top, left), sizes, strict=True)
            ]
        y, x = (
            slice(begin + c, min(begin + c + read, end))
            for c, (begin, end) in zip(corner, scene.bounds, strict=True)
        )
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        if scene.second is not None:  # the two views differ along X: no quarter turns
            turns = turns // 2 * 2
        return _Place(y, x, read, side, turns, mirror)

    def _draw_centre(self, scene: PlanePair, rng: np.random.Generator) -> tuple[int, int]:
        marks, plane = self._marks[scene]
        assert scene.annotations is not None
        mask = scene.annotations
        return marks.draw(rng, lambda y, x: self._images.read(mask, plane, y, x, 1)[0])

    def _cut(self, scene: PlanePair, place: _Place) -> list[FloatArray]:
        """Cut a patch from the images of a scene, sharp one first, in unit range.

        All share the range of the blurred one, which is all that a restorer knows later. What the
        left view sees is mirrored what the right one sees: in a patch that is mirrored along X the
        two views change places.
        """
        known = scene.sharp if scene.blurred is None else scene.blurred
        intensity = self._images.range_of(known, scene.plane)
        raw = self._images.read_moved(
            scene.sharp, scene.plane, place.y, place.x, scene.shift, scene.shape
        )
        if (scene.gain, scene.offset) != (1.0, 0.0):
            raw = (raw.astype(np.float64) - scene.offset) / scene.gain
        patches = [place.turn(intensity.to_unit(raw))]
        views = [view for view in (scene.blurred, scene.second) if view is not None]
        for view in reversed(views) if place.mirrors_x else views:
            raw = self._images.read(view, scene.plane, place.y, place.x)
            patches.append(place.turn(intensity.to_unit(raw)))
        return patches

    def _left_out(self, scene: PlanePair, place: _Place) -> NDArray[np.bool_]:
        assert scene.annotations is not None
        labels = self._images.read(
            scene.annotations, self._marks[scene][1], place.y, place.x, channels=1
        )
        return place.turn((labels == LEAVE_OUT).astype(np.float32)) > 0


@dataclass(frozen=True)
class _Place:
    """Where a patch is cut, and how it is turned.

    Attributes
    ----------
    y, x
        Region to read; smaller than `read` in a small image, which is mirrored at its border.
    read
        Side of the region, in pixels.
    side
        What it is shrunk to.
    turns, mirror
        How many quarters to turn, and whether to mirror.
    """

    y: slice
    x: slice
    read: int
    side: int
    turns: int
    mirror: bool

    @property
    def mirrors_x(self) -> bool:
        """Whether left and right change places; without quarter turns."""
        return (self.turns == 2) != self.mirror

    def turn(self, patch: FloatArray) -> FloatArray:
        """Bring a region ``(C, Y, X)`` as read to what the network sees."""
        missing = [(0, self.read - n) for n in patch.shape[1:]]
        if any(after for _, after in missing):
            patch = np.pad(patch, [(0, 0), *missing], mode="symmetric")
        if self.read > self.side:
            patch = _shrunk(patch, self.side)
        patch = np.rot90(patch, self.turns, axes=(1, 2))
        return np.ascontiguousarray(patch[:, :, ::-1] if self.mirror else patch)


def with_marks(scenes: Sequence[PlanePair], channels: int) -> list[PlanePair]:
    """Leave out scenes whose annotations allow no patch in their region."""
    return [s for s in scenes if s.annotations is None or _marks(s, channels)[0].total]


def _marks(scene: PlanePair, channels: int) -> tuple[Marks, int]:
    """Where patches of a scene are centred, and the plane of its mask."""
    assert scene.annotations is not None
    with open_planes(scene.sharp, channels) as planes:
        n_planes = len(planes)
    with open_planes(scene.annotations, 1) as mask:
        plane = plane_of_mask(mask, scene.plane, n_planes)
        return Marks(mask, plane, *(slice(*ends) for ends in scene.bounds)), plane


def _enlarged(patch: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Enlarge the middle of a ``(C, Y, X)`` patch to its full size."""
    from scipy.ndimage import zoom

    side = patch.shape[1]
    part = round(side / rng.uniform(1.2, 2.2))
    begin = (side - part) // 2
    middle = patch[:, begin : begin + part, begin : begin + part]
    enlarged: FloatArray = zoom(middle, (1, side / part, side / part), order=3, mode="mirror")
    return enlarged


def _shrunk(patch: FloatArray, side: int) -> FloatArray:
    """Shrink a square ``(C, Y, X)`` patch to `side` pixels, each the mean of what it covers."""
    size = (side, side)
    planes = [Image.fromarray(p).resize(size, Image.Resampling.BOX) for p in patch]
    return np.stack([np.asarray(p, np.float32) for p in planes])


def batches(
    sampler: PatchSampler, steps: range, workers: int, sizes: Callable[[int], tuple[int, range]]
) -> Generator[Patch]:
    """Yield the batches of some steps, prepared ahead by threads.

    Parameters
    ----------
    sampler
        Draws the patches.
    steps
        Numbers of the steps.
    workers
        Threads.
    sizes
        Side of the patches of a step, and their numbers.

    Yields
    ------
    blurred, sharp
        ``(B, C, side, side)`` float32.
    """

    def prepare(step: int) -> Patch:
        side, numbers = sizes(step)
        pairs = [sampler.draw(step, number, side) for number in numbers]
        if not pairs:  # more processes than patches
            return (np.empty((0, 0, side, side), np.float32),) * 2
        return np.stack([b for b, _ in pairs]), np.stack([s for _, s in pairs])

    pool = ThreadPoolExecutor(workers, thread_name_prefix="patches")
    try:
        waiting = deque(pool.submit(prepare, step) for step in steps[:_AHEAD])
        for later in range(_AHEAD, _AHEAD + len(steps)):
            batch = waiting.popleft().result()
            if later < len(steps):
                waiting.append(pool.submit(prepare, steps[later]))
            yield batch
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
