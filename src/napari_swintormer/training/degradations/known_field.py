"""Photos of scenes in depth, and what an estimator would know of the blur of their places.

The true radius of every place is known when the scene is made. An estimate is coarser, its sizes
are off by smooth errors, and whole areas can be wrong: sharp ones are taken for blurred ones, and
blurred ones stay as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.estimation.blur_places import SIZES, blur_of_size
from napari_swintormer.optics.estimation.defocus_posterior import defocus_posterior
from napari_swintormer.optics.estimation.sample import PLACE
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.optics.light import to_light
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane
from napari_swintormer.training.degradations.camera import Camera
from napari_swintormer.training.degradations.image_formation import (
    depth_optics,
    draw_depth_map,
    smooth_noise,
)
from napari_swintormer.training.degradations.primitives import crop
from napari_swintormer.training.degradations.realistic import Recording, draw_aperture

if TYPE_CHECKING:
    from napari_swintormer.training.degradations.primitives import FloatArray, Rng
    from napari_swintormer.training.degradations.simple import Degradation

_LAYERS = 6
_STRONGEST = math.log(2), math.log(10)  # pixels, of the largest blur circle
_LEAST = 0.3  # pixels; a lens is never sharper
_KNOTS = np.log([0.6, *SIZES])  # the first counts as no blur
_TRUE = 0.3  # of the fields: as good as a grid allows
_STEPS = 32.0, 64.0  # pixels between places
# Errors of the others.
_SMOOTH, _EACH = 0.3, 0.15  # of the logarithm of the radius, at most: over areas, and by place
_WRONG_AREA = 0.25  # how often an area has another size
_TAKEN_FOR_SHARP, _TAKEN_FOR_BLURRED = 0.3, 0.2
_SPREAD = 0.6  # at most, of the logarithm of the sizes that stay possible
_CAREFUL = 0.6  # share, at most, that is left as it is where the size is not sure


@dataclass(frozen=True)
class KnownPlaces:
    """How probable each size is at the places of a patch; `start` counts from the inner patch."""

    shares: FloatArray  # (1 + sizes, rows, columns), no blur first
    start: tuple[float, float]
    step: float

    def of(self, image: FloatArray) -> PlaneBlur:
        """Give what the filters of a run need, for a photo with `REACH` pixels around the patch."""
        posterior = defocus_posterior([image.mean(axis=0)], "photo")
        blurs = (Blur.none(), *(blur_of_size(posterior, size) for size in SIZES))
        radii = np.tensordot(np.array([0, *SIZES]), self.shares, 1)
        field = BlurField.of(blurs, self.start, (self.step, self.step), self.shares, radii)
        power = PowerOfPlane.measured([image], photo=True)
        places = power.in_places([image], [(-REACH, -REACH)], field)
        return PlaneBlur(FoundBlur.of_field(field), power, places=places)


@dataclass(frozen=True)
class DepthScene(Recording):
    """A recording of a scene in depth; `kernels` and `radii` are those of the layers, far first."""

    kernels: tuple[FloatArray, ...] = ()
    radii: tuple[float, ...] = ()

    def record(self, sharp: FloatArray, rng: Rng) -> tuple[FloatArray, FloatArray, KnownPlaces]:
        """Degrade a patch as `degrade` does, and give what is known of its places.

        The patch has `REACH` pixels more on each side than the grid starts from.
        """
        depth = draw_depth_map(to_light(sharp, self.camera.gamma), rng)
        made = replace(self, optics=depth_optics(self.kernels, depth=depth))
        blurred, target = made.degrade(sharp, rng)
        layers = np.arange(len(self.radii))
        radius = np.interp(crop(depth, self.margin) * layers[-1], layers, self.radii)
        return blurred, target, draw_places(radius.astype(np.float32), rng)


def draw_depth_scene(camera_of: Recording | Degradation, rng: Rng) -> DepthScene:
    """Draw a lens that is in focus at one depth, for the camera of another recording."""
    if isinstance(camera_of, Recording):
        taken = camera_of.camera
    else:
        taken = Camera(
            camera_of.gamma,
            camera_of.noise,
            levels=camera_of.levels,
            jpeg_quality=camera_of.jpeg_quality,
        )
    aperture = draw_aperture(rng)
    distances = np.abs(np.linspace(0, 1, _LAYERS) - rng.random())
    strongest = math.exp(rng.uniform(*_STRONGEST))
    radii = np.maximum(strongest * distances / distances.max(), _LEAST)
    kernels = tuple(aperture(float(radius)) for radius in radii)
    return DepthScene(depth_optics(kernels), taken, kernels, tuple(map(float, radii)))


def draw_places(radius: FloatArray, rng: Rng) -> KnownPlaces:
    """Draw what is known of a true radius ``(Y, X)``, which reaches `REACH` around the patch."""
    step = float(rng.uniform(*_STEPS))
    seen = ndimage.uniform_filter(np.log(np.maximum(radius, _LEAST)), PLACE // 2, mode="nearest")
    first = rng.uniform(0, step, 2)
    rows, columns = (
        np.arange(begin, size, step).round().astype(int).clip(0, size - 1)
        for begin, size in zip(first, radius.shape, strict=True)
    )
    logs = seen[np.ix_(rows, columns)]
    spread, careful = 0.25, np.zeros(logs.shape)
    if rng.random() >= _TRUE:
        logs, careful = _with_errors(logs, rng)
        spread = rng.uniform(0.2, _SPREAD)
    near = np.exp(-0.5 * ((logs - _KNOTS[:, None, None]) / spread) ** 2) + 1e-9
    shares = near / near.sum(axis=0) * (1 - careful)
    shares[0] += careful
    start = float(first[0]) - REACH, float(first[1]) - REACH
    return KnownPlaces(shares.astype(np.float32), start, step)


def _with_errors(logs: FloatArray, rng: Rng) -> tuple[FloatArray, FloatArray]:
    """Change logarithms of radii as an estimator errs; also give the share that stays unblurred."""
    shape = logs.shape
    wrong = logs + rng.uniform(0, _SMOOTH) * smooth_noise(shape, rng)
    wrong = wrong + rng.uniform(0, _EACH) * rng.standard_normal(shape)
    if rng.random() < _WRONG_AREA:
        wrong = np.where(smooth_noise(shape, rng) > 0.5, wrong + rng.normal(0, 0.5), wrong)
    area = smooth_noise(shape, rng) > 0.3
    if rng.random() < _TAKEN_FOR_BLURRED:
        wrong = np.where(area & (logs < 0), rng.uniform(0.2, 1.2), wrong)
    careful = rng.uniform(0, _CAREFUL) * (smooth_noise(shape, rng) > 0)
    if rng.random() < _TAKEN_FOR_SHARP:
        careful = np.where(area & (logs > 0), rng.uniform(0.7, 1), careful)
    return wrong.clip(_KNOTS[0], _KNOTS[-1]).astype(np.float32), careful.astype(np.float32)
