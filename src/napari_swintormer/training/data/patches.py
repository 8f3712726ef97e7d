"""Draw training patches: each is a pure function of the seed, the step and its number.

So a resumed training gets the patches of an uninterrupted one, and the number of threads that
prepare patches changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 (a module-level name needs it)
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import ndimage

from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.training.data.annotations import LEAVE_OUT, read_marks
from napari_swintormer.training.data.image_cache import ImageCache
from napari_swintormer.training.data.pairs import drawing_weights
from napari_swintormer.training.degradations.known_blur import (
    UNKNOWN,
    KnownBlur,
    describe_unknown,
    draw_known,
    draw_wide,
)
from napari_swintormer.training.degradations.patterns import draw_pattern
from napari_swintormer.training.degradations.primitives import crop
from napari_swintormer.training.degradations.realistic import DEGRADATIONS
from napari_swintormer.training.degradations.simple import UNBLURRED, draw_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_swintormer.imaging.intensity import IntensityConvention
    from napari_swintormer.models.network.network_settings import SwintormerSettings
    from napari_swintormer.training.data.pairs import PlanePair
    from napari_swintormer.training.data.prior_cache import PriorCache
    from napari_swintormer.training.degradations.on_device import RawPatch
    from napari_swintormer.training.degradations.realistic import Modality, Recording
    from napari_swintormer.training.degradations.simple import Degradation

    FloatArray = NDArray[np.float32]
    Patch = tuple[FloatArray, FloatArray]  # blurred, sharp

_GREY_PHOTOS = 0.25
# Shrunk patches show the same things at another scale and sharpness. Few photos are at hand, so
# their own scales are not enough. The image size limits the factor.
_SHRUNK, _SHRUNK_MOST = 0.25, 2.0
# Soft patches are enlarged before they are blurred. Few real images are sharp to the pixel, and a
# model that never saw a soft one takes every real image for beyond help. With too many, a model
# learns that sharp images are soft, and restores half of what a sharp image lost.
_SOFT = 0.2
# Some patches are drawn patterns; most of these stay unblurred.
_PATTERNS, _PATTERNS_UNBLURRED = 0.1, 0.7
_WITHOUT_PRIOR = 0.05
DRAWN: dict[str, Callable[..., Any]] = {**DEGRADATIONS, "known": draw_known, "wide": draw_wide}


class PatchSampler:
    """Draws pairs of blurred and sharp patches, for a network of these channels and convention.

    `synthesize` names the blur in `DRAWN` for pairs without a blurred image; None if there
    are no such pairs. `pair_share` is the share of the others; None leaves it to the folders.
    `priors` has the latents of all blurred images; patches then keep their scale
    and their intensities, as the latents do. `network` are the sizes of a network that is told the
    blur, which of pairs is not known. With `raw`, blur is left to the device: patches are
    those of `napari_swintormer.training.degradations.on_device.draw_raw`.
    """

    def __init__(
        self,
        pairs: Sequence[PlanePair],
        patch_size: int,
        channels: int,
        convention: IntensityConvention,
        seed: int,
        synthesize: str | None = "defocus",
        priors: PriorCache | None = None,
        *,
        raw: bool = False,
        network: SwintormerSettings | None = None,
        pair_share: float | None = None,
    ) -> None:
        self._pairs, self._pair_share = list(pairs), pair_share
        self._patch_size = patch_size
        self._channels = channels
        self._images = ImageCache(channels, convention)
        self._seed = seed
        self._degrade = None if synthesize is None else DRAWN[synthesize]
        self._known = synthesize == "known"
        if self._known:
            unknown = 0.0 if network is not None and network.all_told else UNKNOWN
            self._degrade = partial(draw_known, on_device=raw, unknown=unknown)
        self._priors, self._raw = priors, raw
        self._known_blur = network is not None and network.known_blur
        self._cumulative = np.cumsum(drawing_weights(pairs, pair_share))
        self._marks = {p: read_marks(p, channels) for p in pairs if p.annotations is not None}

    def draw(self, step: int, index: int, side: int | None = None) -> Patch | RawPatch:
        """Draw patch number `index` of a training step; None takes the usual side.

        Returns
        -------
        blurred, sharp
            ``(C, side, side)`` float32. The blurred patch is clipped to [0, 1], as a restorer clips
            its tiles. What was clipped is subtracted from the sharp patch, because a restorer adds
            it again. A pair with two views has the channels of both in the blurred patch. The
            sharp patch is NaN where annotations leave pixels out. With a known blur the
            filtered image and the maps follow the blurred patch, with a prior its latent does.
        """
        rng = np.random.default_rng([self._seed, step, index])
        k = int(np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], "right"))
        pair = self._pairs[min(k, len(self._pairs) - 1)]
        side = side or self._patch_size
        return self._raw_patch(pair, side, rng) if self._raw else self._patch(pair, side, rng)

    def draw_validation(self, count: int) -> Patch:
        """Draw `count` blurred patches with the pairs in turn: the same ones at every call."""
        patches = []
        for index, pair in enumerate(self._in_turn(count)):
            rng = np.random.default_rng([self._seed, index])
            patches.append(self._patch(pair, self._patch_size, rng, validation=True))
        return np.stack([b for b, _ in patches]), np.stack([s for _, s in patches])

    def _in_turn(self, count: int) -> list[PlanePair]:
        """List the pairs of `count` patches, taken in turn; the share of pairs is kept."""
        paired = [pair for pair in self._pairs if pair.blurred is not None]
        made = [pair for pair in self._pairs if pair.blurred is None]
        parts = [(self._pairs, count)]
        if paired and made and self._pair_share is not None:
            first = round(count * self._pair_share)
            parts = [(paired, first), (made, count - first)]
        return [half[k * len(half) // n] for half, n in parts for k in range(n)]

    def _patch(
        self, pair: PlanePair, side: int, rng: np.random.Generator, *, validation: bool = False
    ) -> Patch:
        margin, degradation = 0, None
        if pair.blurred is None:
            blurred, sharp, cut, degradation = self._degraded(pair, side, rng, validation)
            views, margin = [blurred], degradation.margin
        else:
            cut = self._draw_crop(pair, side, rng)
            sharp, *views = self._read(pair, cut)
        low, high = draw_range(rng) if self._priors is None else (0.0, 1.0)
        sharp, *views = ((patch - low) / (high - low) for patch in (sharp, *views))
        clipped = [np.clip(view, 0, 1) for view in views]
        sharp = sharp - (views[0] - clipped[0])
        if pair.annotations is not None:
            sharp = np.where(crop(self._left_out(pair, cut), margin), np.nan, sharp)
        if len(sharp) < self._channels:
            sharp, *clipped = (np.repeat(p, self._channels, axis=0) for p in (sharp, *clipped))
        if isinstance(degradation, KnownBlur):
            clipped = [crop(clipped[0], REACH), degradation.describe(clipped[0].astype(np.float32))]
            sharp = crop(sharp, REACH)
        elif self._known_blur:
            image = clipped[0].astype(np.float32)
            clipped = [image, describe_unknown(image, photo=pair.kind == "photo")]
        if self._priors is not None:
            clipped.append(self._prior(pair, cut, rng, validation))
        return np.concatenate(clipped).astype(np.float32), sharp.astype(np.float32)

    def _prior(
        self, pair: PlanePair, cut: _Crop, rng: np.random.Generator, validation: bool
    ) -> FloatArray:
        """Cut the latent of a patch; of some patches it is zero, so that none is needed later."""
        assert self._priors is not None
        latent = cut.turn(self._priors.read(pair, cut.y, cut.x))
        return 0 * latent if not validation and rng.random() < _WITHOUT_PRIOR else latent

    def _degraded(
        self, pair: PlanePair, side: int, rng: np.random.Generator, validation: bool
    ) -> tuple[FloatArray, FloatArray, _Crop, Degradation | Recording | KnownBlur]:
        """Synthesize the blur of a patch; return also its crop, and the degradation."""
        sharp, cut, degradation = self._scene(pair, side, rng, validation=validation)
        if isinstance(degradation, KnownBlur):
            blurred, target, degradation = degradation.record(sharp, rng)
            return blurred, target, cut, degradation
        return *degradation.degrade(sharp, rng), cut, degradation

    def _raw_patch(self, pair: PlanePair, side: int, rng: np.random.Generator) -> RawPatch:
        """Draw a sharp patch and its degradation, and blur nothing."""
        from napari_swintormer.training.degradations.on_device import draw_raw, raw_margin

        margin = raw_margin(known=self._known)
        sharp, _, degradation = self._scene(pair, side, rng, margin=margin)
        return draw_raw(degradation, sharp, draw_range(rng), rng)

    def _scene(
        self,
        pair: PlanePair,
        side: int,
        rng: np.random.Generator,
        *,
        margin: int | None = None,
        validation: bool = False,
    ) -> tuple[FloatArray, _Crop, Degradation | Recording | KnownBlur]:
        """Draw a degradation, and the scene that it degrades.

        The margin around the patch is that of the degradation, or a given one.
        """
        assert self._degrade is not None
        pattern = not validation and rng.random() < _PATTERNS
        unblurred = 0.0 if validation else _PATTERNS_UNBLURRED if pattern else UNBLURRED
        degradation = self._degrade(self._modality(pair), rng, unblurred)
        margin = degradation.margin if margin is None else margin
        cut = self._draw_crop(pair, side + 2 * margin, rng)
        sharp = self._read(pair, cut)[0]
        grey = isinstance(degradation, KnownBlur) and degradation.grey
        if pair.kind == "photo" and len(sharp) == 3 and (grey or rng.random() < _GREY_PHOTOS):
            sharp = sharp.mean(axis=0, keepdims=True)
        if pattern:
            sharp = draw_pattern(sharp.shape, rng)
        elif rng.random() < _SOFT:
            sharp = _enlarged(sharp, rng)
        return sharp, cut, degradation

    def _modality(self, pair: PlanePair) -> Modality:
        if pair.kind == "photo":
            return "photo"
        dark = self._images.is_dark(pair.sharp, pair.plane, pair.bounds)
        return "fluorescence" if dark else "brightfield"

    def _draw_crop(self, pair: PlanePair, side: int, rng: np.random.Generator) -> _Crop:
        """Draw where a patch of `side` pixels, margin included, is cut and how it is turned."""
        (top, bottom), (left, right) = pair.bounds
        sizes = bottom - top, right - left
        most = min(_SHRUNK_MOST, min(sizes) / side)
        read = side
        if self._priors is None and most > 1 and rng.random() < _SHRUNK:
            read = round(side * rng.uniform(1, most))
        corner = [int(rng.integers(0, max(1, n - read + 1))) for n in sizes]
        if pair.annotations is not None:
            corner = [
                max(0, min(c - begin - read // 2, n - read))
                for c, begin, n in zip(
                    self._draw_centre(pair, rng), (top, left), sizes, strict=True
                )
            ]
        y, x = (
            slice(begin + c, min(begin + c + read, end))
            for c, (begin, end) in zip(corner, pair.bounds, strict=True)
        )
        turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
        if pair.second is not None:  # the two views differ along X: no quarter turns
            turns = turns // 2 * 2
        return _Crop(y, x, read, side, turns, mirror)

    def _draw_centre(self, pair: PlanePair, rng: np.random.Generator) -> tuple[int, int]:
        marks, mask = self._marks[pair], pair.annotations
        assert mask is not None
        return marks.draw(rng, lambda y, x: self._images.read(mask, marks.plane, y, x, 1)[0])

    def _read(self, pair: PlanePair, cut: _Crop) -> list[FloatArray]:
        """Read the patches of a pair in unit range, the sharp one first.

        All use the intensity range of the blurred image, the only range that a restorer knows. The
        left view of a scene is the mirrored right view of the mirrored scene: a patch that is
        mirrored along X has its views swapped.
        """
        known = pair.sharp if pair.blurred is None else pair.blurred
        intensity = self._images.range_of(known, pair.plane)
        raw = self._images.read_shifted(
            pair.sharp, pair.plane, (cut.y, cut.x), pair.shift, pair.shape
        )
        if (pair.gain, pair.offset) != (1.0, 0.0):
            raw = (raw.astype(np.float64) - pair.offset) / pair.gain
        patches = [cut.turn(intensity.to_unit(raw))]
        views = [view for view in (pair.blurred, pair.second) if view is not None]
        for view in reversed(views) if cut.mirrors_x else views:
            raw = self._images.read(view, pair.plane, cut.y, cut.x)
            patches.append(cut.turn(intensity.to_unit(raw)))
        return patches

    def _left_out(self, pair: PlanePair, cut: _Crop) -> NDArray[np.bool_]:
        assert pair.annotations is not None
        plane = self._marks[pair].plane
        labels = self._images.read(pair.annotations, plane, cut.y, cut.x, channels=1)
        return cut.turn((labels == LEAVE_OUT).astype(np.float32)) > 0


@dataclass(frozen=True)
class _Crop:
    """Where a patch is cut and how it is turned."""

    y: slice  # region to read; in a small image it is smaller than `read`, and then mirrored
    x: slice
    read: int  # side of the region, in pixels
    side: int  # side that the region is shrunk to
    turns: int  # quarter turns
    mirror: bool  # whether the patch is mirrored after the turns

    @property
    def mirrors_x(self) -> bool:
        """Whether left and right are swapped, in a crop without quarter turns."""
        return (self.turns == 2) != self.mirror

    def turn(self, patch: FloatArray) -> FloatArray:
        """Pad, shrink, turn and mirror a region ``(C, Y, X)``."""
        missing = [(0, self.read - n) for n in patch.shape[1:]]
        if any(after for _, after in missing):
            patch = np.pad(patch, [(0, 0), *missing], mode="symmetric")
        if self.read > self.side:
            patch = _shrunk(patch, self.side)
        patch = np.rot90(patch, self.turns, axes=(1, 2))
        return np.ascontiguousarray(patch[:, :, ::-1] if self.mirror else patch)


def _enlarged(patch: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Enlarge the middle of a ``(C, Y, X)`` patch to its full size."""
    side = patch.shape[1]
    part = round(side / rng.uniform(1.2, 2.2))
    begin = (side - part) // 2
    middle = patch[:, begin : begin + part, begin : begin + part]
    factors = (1, side / part, side / part)
    enlarged: FloatArray = ndimage.zoom(middle, factors, order=3, mode="mirror")
    return enlarged


def _shrunk(patch: FloatArray, side: int) -> FloatArray:
    """Shrink a square ``(C, Y, X)`` patch to `side` pixels by the means of areas."""
    size = (side, side)
    planes = [Image.fromarray(p).resize(size, Image.Resampling.BOX) for p in patch]
    return np.stack([np.asarray(p, np.float32) for p in planes])
