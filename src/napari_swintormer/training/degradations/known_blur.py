"""Synthetic blur with what a user or an estimator would know of it.

A network for a known blur sees the image, the image filtered with that blur, and maps of its size,
of how sure it is, and of the noise. What is known is seldom right: a third of the patches get what
is estimated from themselves, a third the true PSF, the others a wrong size, another kind of PSF, or
several candidates. Some photos show scenes in depth, of which a field is known. Of other patches
nothing is known, and they may be blurred in any way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_swintormer.optics import motion, psf
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_kinds import LARGEST
from napari_swintormer.optics.estimation.defocus_posterior import defocus_posterior
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.optics.light import GAMMA
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane
from napari_swintormer.training.degradations.camera import SensorNoise
from napari_swintormer.training.degradations.image_formation import flat_optics
from napari_swintormer.training.degradations.known_field import (
    DepthScene,
    KnownPlaces,
    draw_depth_scene,
)
from napari_swintormer.training.degradations.primitives import crop
from napari_swintormer.training.degradations.realistic import (
    Recording,
    draw_all,
    draw_aperture,
    draw_camera,
    draw_objective,
    draw_recording,
    draw_simple,
)
from napari_swintormer.training.degradations.simple import (
    UNBLURRED,
    Degradation,
    draw_psf,
    draw_radius,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_swintormer.training.degradations.primitives import FloatArray, Rng
    from napari_swintormer.training.degradations.realistic import Modality

    Candidates = tuple[tuple[float, FloatArray], ...]
    Drawn = Callable[[float], FloatArray]
    Record = Callable[[list[FloatArray]], Recording | Degradation]

UNKNOWN = 0.35
"""Share of the patches whose blur the network has to find; the shares below are of the others."""
# Shares of the patches.
_SIMPLE = 0.6  # with a simple camera; the others have the mosaic and the sharpening of a real one
_MOTION = 0.4  # of the photos
_GREY_SHAKE = 0.12  # of the photos; the other shares are of the rest
_TRUE, _WRONG_SIZE, _WRONG_KIND = 0.5, 0.12, 0.08  # the others get several candidates
_TWO_SIZES = 0.1
_SCENES = 0.2  # of the blurred photos: the blur changes with depth, and a field is known
_ESTIMATED = 0.35  # of lens blur and of none: what the estimator says is known
_FALSE_ALARM = 0.5  # of the unblurred ones: an estimator takes them for slightly blurred
# Pixels.
_EXTENT, _WIDE_EXTENT = (2.0, 26.0), (10.0, 26.0)  # of a motion
_GREY_EXTENT = 6.0, 30.0
_WIDE_RADIUS = 3.0, 9.0
_POINT = np.ones((1, 1), np.float32)


@dataclass(frozen=True)
class Knowledge:
    """What is known of the blur of a patch."""

    candidates: Candidates  # probabilities of sum 1, and PSFs; none leaves it to the estimator
    certainty: float
    gamma: float  # of the filter: `GAMMA` for photos, 1 for micrographs
    unknown: bool = False  # whether the network has to find the blur by itself
    places: KnownPlaces | None = None  # how the blur changes from place to place

    def blurs(self) -> list[tuple[float, Blur]]:
        """List the candidates as blurs."""
        return [(share, _as_blur(psf)) for share, psf in self.candidates]

    def of(self, image: FloatArray) -> PlaneBlur:
        """Give what the filters of a run need, for an image ``(C, Y, X)`` in [0, 1]."""
        photo = self.gamma != 1
        if self.places is not None:
            return self.places.of(image)
        if self.unknown:
            found = FoundBlur(Blur.none(), 0, unclear=True)
        elif self.candidates:
            found = FoundBlur(Blur.mixture(self.blurs()), self.certainty)
        else:
            posterior = defocus_posterior([image.mean(axis=0)], "photo" if photo else "micrograph")
            found = FoundBlur(posterior.blur(), min(posterior.certainty, 0.99))
        return PlaneBlur(found, PowerOfPlane.measured([image], photo=photo))


@dataclass(frozen=True)
class KnownBlur:
    """A degradation, and what is known of its PSF."""

    recording: Recording | Degradation
    known: Knowledge
    grey: bool = False  # whether a photo has to lose its colours

    @property
    def margin(self) -> int:
        """Pixels around a patch that optics, camera and filter reach."""
        return self.recording.margin + REACH

    def degrade(self, sharp: FloatArray, rng: Rng) -> tuple[FloatArray, FloatArray]:
        """Degrade a patch as `Recording.degrade` does, but keep `REACH` pixels around it."""
        return self.recording.degrade(sharp, rng)

    def record(self, sharp: FloatArray, rng: Rng) -> tuple[FloatArray, FloatArray, KnownBlur]:
        """Degrade a patch; also give this with the field, which is known of a scene by now."""
        if not isinstance(self.recording, DepthScene):
            return *self.degrade(sharp, rng), self
        blurred, target, places = self.recording.record(sharp, rng)
        return blurred, target, replace(self, known=replace(self.known, places=places))

    def describe(self, image: FloatArray) -> FloatArray:
        """Filter an image in [0, 1] as a run does, and add the maps.

        ``(C, Y + 2 * REACH, X + 2 * REACH)`` gives ``(C + 3, Y, X)``.
        """
        import torch

        from napari_swintormer.models.blur_filter import KnownBlurRestorer
        from napari_swintormer.models.prior.noise import TileOrigin

        known, (height, width) = self.known.of(image), image.shape[1:]
        shape = height - 2 * REACH, width - 2 * REACH
        restorer = KnownBlurRestorer({0: known}, shape, len(image))
        tile = torch.from_numpy(image)[None]
        filtered, maps = restorer.described(tile, known, [TileOrigin(0, 0, 0)])
        return np.concatenate([filtered[0].numpy(), maps[0].numpy()])


def describe_unknown(image: FloatArray, *, photo: bool) -> FloatArray:
    """Give what a network for a known blur sees beside an image whose blur is not known.

    ``(C, Y, X)`` in [0, 1] gives ``(C + 3, Y, X)``: the image again, which the network filters by
    itself, and the maps.
    """
    known = Knowledge((), 0.0, GAMMA if photo else 1.0, unknown=True).of(image)
    maps = np.broadcast_to(known.maps()[:, None, None], (3, *image.shape[1:]))
    return np.concatenate([image, maps])


def draw_known(
    modality: Modality,
    rng: Rng,
    unblurred: float = UNBLURRED,
    *,
    on_device: bool = False,
    unknown: float = UNKNOWN,
) -> KnownBlur:
    """Draw a blur, a camera, and what is known of the blur; of a share it is `unknown`.

    On a device only simple blur is unknown, and no field is known, because scenes with depth are
    not made there.
    """
    gamma = GAMMA if modality == "photo" else 1.0
    if rng.random() < unknown:
        recording = (draw_simple if on_device else draw_all)(modality, rng, unblurred)
        return KnownBlur(recording, Knowledge((), 0.0, gamma, unknown=True))
    if modality == "photo" and rng.random() < _GREY_SHAKE:
        return _draw_grey_shake(rng)
    draw = _draw_simple_camera if rng.random() < _SIMPLE else _draw_camera
    record = draw(modality, rng)
    if rng.random() < unblurred:
        return KnownBlur(record([]), Knowledge(*_estimated_or(_draw_false_alarm, rng), gamma))
    if modality == "photo" and not on_device and rng.random() < _SCENES:
        return KnownBlur(draw_depth_scene(record([]), rng), Knowledge((), 0.0, gamma))
    return _draw_blurred(modality, rng, record)


def draw_wide(modality: Modality, rng: Rng, unblurred: float = UNBLURRED) -> KnownBlur:
    """Draw wide blur, a camera, and what is known of the blur; for a prior, which it is for.

    No patch is sharp, whatever `unblurred` says.
    """
    draw = _draw_simple_camera if rng.random() < _SIMPLE else _draw_camera
    return _draw_blurred(modality, rng, draw(modality, rng), wide=True)


def _draw_blurred(modality: Modality, rng: Rng, record: Record, *, wide: bool = False) -> KnownBlur:
    gamma = GAMMA if modality == "photo" else 1.0
    if modality == "photo" and rng.random() < _MOTION:
        kernel = _draw_motion(rng, _WIDE_EXTENT if wide else _EXTENT)
        return KnownBlur(record([kernel]), Knowledge(*_draw_kernels(kernel, rng), gamma))
    drawn = _draw_lens(modality, rng, rng.uniform(*_WIDE_RADIUS) if wide else draw_radius(rng))
    if rng.random() < _TWO_SIZES:  # the size changes from place to place, and a mixture is known
        sizes = 1.0, math.exp(rng.uniform(-0.7, 0.7))
        kernels = [drawn(size) for size in sizes]
        known: Candidates = tuple((0.5, kernel) for kernel in kernels)
        return KnownBlur(record(kernels), Knowledge(known, 0.3, gamma))
    known_sizes = _estimated_or(lambda rng: _draw_sizes(drawn, rng), rng)
    return KnownBlur(record([drawn(1.0)]), Knowledge(*known_sizes, gamma))


def _draw_grey_shake(rng: Rng) -> KnownBlur:
    """Draw the shake of a grey photo, which a run takes for a micrograph.

    Its intensities are blurred, not its light. Without such patches a network gains 1.2 dB less
    than the filter alone on real grey images whose shake is told.
    """
    kernel = _draw_motion(rng, _GREY_EXTENT)
    record = _draw_simple_camera("brightfield", rng)
    return KnownBlur(record([kernel]), Knowledge(*_draw_kernels(kernel, rng), 1.0), grey=True)


def _estimated_or(
    draw: Callable[[Rng], tuple[Candidates, float]], rng: Rng
) -> tuple[Candidates, float]:
    """Leave what is known to the estimator, or draw it."""
    return ((), 0.0) if rng.random() < _ESTIMATED else draw(rng)


def _draw_camera(modality: Modality, rng: Rng) -> Record:
    camera = draw_camera(rng) if modality == "photo" else draw_recording(modality, rng).camera
    return lambda kernels: Recording(flat_optics(kernels) if kernels else None, camera)


def _draw_simple_camera(modality: Modality, rng: Rng) -> Record:
    """Draw a camera with little noise, which is even in the intensities of the file."""
    noise = SensorNoise(rng.uniform(0, 0.006), rng.uniform(0, 0.006) ** 2, normalized=False)
    gamma = rng.uniform(2.0, 2.4) if modality == "photo" else 1.0
    levels = 256 if rng.random() < 0.7 else None
    quality = int(rng.integers(88, 99)) if modality == "photo" and rng.random() < 0.25 else None
    return lambda kernels: Degradation(tuple(kernels), gamma, noise, levels, quality)


def _draw_lens(modality: Modality, rng: Rng, radius: float) -> Drawn:
    """Draw a lens or microscope: a function from the size, relative to the true one, to its PSF."""
    if modality == "photo":
        aperture = draw_aperture(rng)
        return lambda size: aperture(radius * size)
    seed = int(rng.integers(2**31))
    if rng.random() < 0.5:
        return lambda size: draw_psf("microscopy", radius * size, np.random.default_rng(seed))
    microscope = draw_objective(rng)
    side = 1 if rng.random() < 0.5 else -1
    confocal, condenser = rng.random() < 0.15, rng.uniform(0.1, 1.0)

    def form(size: float) -> FloatArray:
        depth = side * microscope.depth_of(radius * size)
        if modality == "fluorescence":
            return microscope.fluorescence(depth, confocal=confocal)
        return microscope.transmission(depth, condenser=condenser, phase=0.0)

    return form


def _draw_motion(rng: Rng, ends: tuple[float, float]) -> FloatArray:
    extent = math.exp(rng.uniform(*np.log(ends)))
    straight = rng.random() < 0.3
    return motion.motion_psf(
        (motion.object_motion if straight else motion.camera_shake)(extent, rng)
    )


def _draw_sizes(drawn: Drawn, rng: Rng) -> tuple[Candidates, float]:
    """Draw what is known of a lens whose true PSF is ``drawn(1)``."""
    share = rng.random()
    if share < _TRUE:
        return ((1.0, drawn(1.0)),), 1.0
    if share < _TRUE + _WRONG_SIZE:
        return ((1.0, drawn(math.exp(rng.normal(0, 0.12)))),), 1.0
    if share < _TRUE + _WRONG_SIZE + _WRONG_KIND:
        return ((1.0, _of_other_kind(drawn(1.0), rng)),), 1.0
    spread = rng.uniform(0.05, 0.35)
    sizes = np.exp(rng.normal(rng.normal(0, spread / 2), spread, int(rng.integers(3, 9))))
    kernels = [drawn(size) for size in sizes]
    kernels = [_of_other_kind(k, rng) if rng.random() < 0.3 else k for k in kernels]
    shares = rng.dirichlet(np.ones(len(sizes)))
    near = np.abs(np.log(sizes / np.average(sizes, weights=shares))) < math.log(1.2)
    return tuple(zip(map(float, shares), kernels, strict=True)), float(shares[near].sum())


def _draw_kernels(kernel: FloatArray, rng: Rng) -> tuple[Candidates, float]:
    """Draw what is known of a motion: the truth, or a kernel as blind estimates give it."""
    if rng.random() < _TRUE:
        return ((1.0, kernel),), 1.0
    wider = np.pad(kernel, min(3, (LARGEST - len(kernel)) // 2))
    soft = ndimage.gaussian_filter(wider, rng.uniform(0.3, 1.0))
    rough = soft * np.exp(rng.normal(0, rng.uniform(0, 0.5), soft.shape))
    rough = np.where(rough < rng.uniform(0, 0.08) * rough.max(), 0, rough)
    estimate = (rough / rough.sum()).astype(np.float32)
    wrong = float(np.abs(estimate - wider).sum()) / 2
    if rng.random() < 0.5:
        return ((1.0, estimate),), 1 - wrong / 2
    share = rng.uniform(0.5, 0.95)
    return ((share, estimate), (1 - share, _of_other_kind(kernel, rng))), share * (1 - wrong / 2)


def _draw_false_alarm(rng: Rng) -> tuple[Candidates, float]:
    """Draw what is known of a sharp image: that it is sharp, or that it may be blurred a little."""
    if rng.random() >= _FALSE_ALARM:
        return ((1.0, _POINT),), 1.0
    share, radius = rng.uniform(0, 0.7), rng.uniform(0.5, 1.3)
    return ((share, _POINT), (1 - share, psf.gaussian(radius))), rng.uniform(0.2, 0.7)


def _of_other_kind(kernel: FloatArray, rng: Rng) -> FloatArray:
    """Make a disk or a Gaussian with the variance of a PSF."""
    radius = min(_as_blur(kernel).radius * math.sqrt(2), 20.0)
    return (psf.disk if rng.random() < 0.5 else psf.gaussian)(max(radius, 0.3))


def _as_blur(kernel: FloatArray) -> Blur:
    """Make a blur of a PSF; what is negative or too far away for one is cut off."""
    return Blur.kernel(crop(kernel, max(0, (len(kernel) - LARGEST) // 2)).clip(min=0))
