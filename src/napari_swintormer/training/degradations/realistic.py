"""Degradations as real lenses, microscopes and cameras make them.

Optics turn a scene into light on a sensor, and a camera turns the light into a file. The ranges of
noise were measured on real images: light-sheet images have noise of 1.5 % of their range in the
dark and 7 % in the light, and photos have 0.3 to 1 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_swintormer.optics import motion, psf
from napari_swintormer.optics.light import from_light, to_light
from napari_swintormer.optics.microscope import Microscope
from napari_swintormer.training.degradations import camera
from napari_swintormer.training.degradations.camera import Camera, SensorNoise, draw_noise
from napari_swintormer.training.degradations.image_formation import (
    Optics,
    depth_optics,
    flat_optics,
    motion_optics,
)
from napari_swintormer.training.degradations.primitives import crop
from napari_swintormer.training.degradations.simple import (
    UNBLURRED,
    Degradation,
    draw_defocus,
    draw_psf,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_swintormer.training.degradations.primitives import FloatArray, Rng

Modality = Literal["photo", "fluorescence", "brightfield"]
"""How an image was taken. Fluorescence has a dark background; other microscopy is brightfield."""

_LAYERS = 4  # layers of a scene with depth
_MOVED = 0.15  # share of the pairs whose halves lie a part of a pixel apart
_SHARP = 0.3  # blur below this radius, in pixels, is none
# Moderate, even blur with little noise can be restored best. A model that only learns from hard
# cases gains a third less on such images.
_SIMPLE = 0.4
_MOTION = 0.2  # share of motion among the photos of the mixture "all"
_POINT = np.ones((1, 1), np.float32)

# Numerical apertures and refractive indices of common objectives.
_OBJECTIVES = (
    *((0.1, 1.0), (0.16, 1.0), (0.3, 1.0), (0.45, 1.0), (0.75, 1.0), (0.95, 1.0)),
    *((0.8, 1.33), (1.2, 1.33), (1.05, 1.41), (1.3, 1.52), (1.4, 1.52)),
)


@dataclass(frozen=True)
class Recording:
    """A degradation by optics, None for a sharp scene, and a camera that makes the file."""

    optics: Optics | None
    camera: Camera

    @property
    def margin(self) -> int:
        """Pixels around a patch that optics and camera reach."""
        return camera.MARGIN + (self.optics.margin if self.optics else 0)

    def degrade(self, sharp: FloatArray, rng: Rng) -> tuple[FloatArray, FloatArray]:
        """Make a blurred and a sharp ``(C, Y, X)`` of ``(C, Y + 2 * margin, X + 2 * margin)``.

        Without optics both are the recorded image, noise included: a network must leave sharp
        images alone.
        """
        light = to_light(sharp, self.camera.gamma)
        if self.optics is None:
            image = self.camera.develop(light, rng)
            return image, image
        blurred, in_focus = self.optics.form(light, rng)
        target = from_light(crop(in_focus, camera.MARGIN), self.camera.gamma)
        return self.camera.develop(blurred, rng), target


# Every function below takes the modality, the generator, and the share of patches that stay sharp.


def draw_simple(modality: Modality, rng: Rng, unblurred: float = UNBLURRED) -> Degradation:
    """Draw from the simple mixture, which is the same for all of microscopy."""
    return draw_defocus("photo" if modality == "photo" else "microscopy", rng, unblurred)


def draw_optics(
    modality: Modality, rng: Rng, unblurred: float = UNBLURRED
) -> Degradation | Recording:
    """Draw 40 % from the simple mixture, and otherwise a recording."""
    draw = draw_simple if rng.random() < _SIMPLE else draw_recording
    return draw(modality, rng, unblurred)


def draw_recording(modality: Modality, rng: Rng, unblurred: float = UNBLURRED) -> Recording:
    """Draw the defocus of a lens or microscope, and a camera."""
    sharp = rng.random() < unblurred
    if modality == "photo":
        return Recording(None if sharp else _draw_lens(rng), draw_camera(rng))
    optics = None if sharp else _draw_microscope(modality, rng)
    if modality == "fluorescence":
        noise = draw_noise((0.0005, 0.03), (0.002, 0.1), rng)
        return Recording(optics, Camera(noise=noise, levels=256 if rng.random() < 0.5 else None))
    noise = draw_noise((0.0005, 0.006), (0.001, 0.015), rng)
    return Recording(optics, draw_camera(rng, linear=0.5, processed=0.4, noise=noise))


def draw_motion(modality: Modality, rng: Rng, unblurred: float = UNBLURRED) -> Recording:
    """Draw the shake of a camera, the motion of an object, or both."""
    taken = draw_camera(rng) if modality == "photo" else draw_recording(modality, rng).camera
    if rng.random() < unblurred:
        return Recording(None, taken)
    extent = _draw_extent(rng)
    moves = rng.random() < 0.35
    corners: list[FloatArray] = []
    if not moves or rng.random() < 0.5:
        path = motion.camera_shake(extent, rng)
        paths = [path]
        if rng.random() < 0.5:
            paths = motion.corner_paths(path, motion.camera_roll(rng.uniform(0, 0.5) * extent, rng))
        corners = [motion.motion_psf(p) for p in paths]
    moving = motion.motion_psf(motion.object_motion(_draw_extent(rng), rng)) if moves else None
    return Recording(motion_optics(tuple(corners), moving), taken)


def draw_all(modality: Modality, rng: Rng, unblurred: float = UNBLURRED) -> Degradation | Recording:
    """Draw motion for 20 % of the photos, and otherwise optics: microscopes do not shake."""
    moves = modality == "photo" and rng.random() < _MOTION
    return (draw_motion if moves else draw_optics)(modality, rng, unblurred)


DEGRADATIONS: dict[str, Callable[..., Degradation | Recording]] = {
    "defocus": draw_simple,
    "optics": draw_optics,
    "motion": draw_motion,
    "all": draw_all,
}
"""Functions that draw a degradation, by their names in `TrainSettings.synthesize`."""


def draw_wide_radius(rng: Rng) -> float:
    """Draw a blur radius in pixels: 20 % below 1.2, 36 % to 4, 26 % to 8 and 18 % to 20."""
    ends = (0.3, 1.2), (1.2, 4.0), (4.0, 8.0), (8.0, 20.0)
    return float(rng.uniform(*ends[rng.choice(4, p=(0.2, 0.36, 0.26, 0.18))]))


def draw_aperture(rng: Rng) -> Callable[[float], FloatArray]:
    """Draw a photo lens: a function from the blur radius in pixels to the PSF."""
    family = rng.choice(6, p=(0.2, 0.2, 0.25, 0.15, 0.05, 0.15))
    rotation = rng.uniform(0, 2 * math.pi)
    blades, cut, inner = int(rng.integers(5, 10)), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.6)
    cutoff, (spherical, astigmatism) = rng.uniform(0.4, 1.0), rng.normal(0, 0.08, 2)
    halo = rng.uniform(0.1, 0.5) if rng.random() < 0.2 else 0.0
    shift = rng.uniform(-0.35, 0.35, 2) if rng.random() < _MOVED else np.zeros(2)

    def draw(radius: float) -> FloatArray:
        if radius < _SHARP:
            return _POINT
        drawn = (
            lambda: psf.gaussian(radius),
            lambda: psf.disk(radius),
            lambda: psf.polygon(radius, blades, rotation),
            lambda: psf.cats_eye(radius, cut, rotation),
            lambda: psf.ring(radius, inner),
            lambda: psf.defocus(
                radius, cutoff, spherical=spherical, astigmatism=astigmatism, axis=rotation
            ),
        )[family]()
        if halo:
            drawn = psf.with_halo(drawn, halo, radius)
        return psf.shifted(drawn, *shift) if shift.any() else drawn

    return draw


def _draw_lens(rng: Rng) -> Optics:
    """Draw defocus that grows with the distance from the plane in focus, or is even."""
    aperture, radius = draw_aperture(rng), draw_wide_radius(rng)
    if rng.random() < 0.45:
        radii = np.full(1, radius)
    else:
        distances = np.abs(np.linspace(0, 1, _LAYERS) - rng.uniform(-0.4, 1.4))
        radii = radius * distances / distances.max()
    occluder = None
    if rng.random() < 0.25:
        occluder = aperture(draw_wide_radius(rng) if rng.random() < 0.5 else 0.0)
    glare = rng.uniform(1, 8) if rng.random() < 0.15 else 1.0
    return depth_optics(tuple(aperture(r) for r in radii), occluder, glare)


def _draw_microscope(modality: Modality, rng: Rng) -> Optics:
    """Draw wave optics of a common objective for 60 %, and simple PSFs otherwise."""
    radius = draw_wide_radius(rng)
    haze, haze_kernel = 0.0, None
    if modality == "fluorescence" and rng.random() < 0.3:
        haze, haze_kernel = rng.uniform(0.05, 0.6), psf.gaussian(rng.uniform(6, 16))
    radii = [radius]
    if rng.random() < 0.4:
        radii.append(0.0 if rng.random() < 0.5 else draw_wide_radius(rng))
    if rng.random() < 0.4:
        kernels = tuple(_shifted(draw_psf("microscopy", r, rng), rng) for r in radii)
        return flat_optics(kernels, None, haze, haze_kernel)
    microscope = draw_objective(rng)
    side = 1 if rng.random() < 0.5 else -1  # above or below the plane in focus
    if modality == "brightfield":  # partly coherent light keeps more detail, and inverts it later
        radii = [min(2 * r, 20.0) for r in radii]
    depths = [side * microscope.depth_of(r) for r in radii]
    if modality == "fluorescence":
        form = partial(microscope.fluorescence, confocal=rng.random() < 0.15)
    else:
        phase = rng.normal(0, 1.5) if rng.random() < 0.6 else 0.0
        form = partial(microscope.transmission, condenser=rng.uniform(0.1, 1.0), phase=phase)
    kernels = tuple(_shifted(form(depth), rng) for depth in depths)
    return flat_optics(kernels, form(0.0), haze, haze_kernel)


def draw_objective(rng: Rng) -> Microscope:
    """Draw a common objective with small aberrations, and a camera that samples it well."""
    aperture, index = _OBJECTIVES[rng.integers(len(_OBJECTIVES))]
    wavelength, cutoff = rng.uniform(0.45, 0.68), rng.uniform(0.3, 1.1)
    spherical, astigmatism = rng.normal(0, 0.08, 2)
    return Microscope(
        aperture,
        wavelength,
        pixel=cutoff * wavelength / (2 * aperture),
        index=index,
        spherical=spherical,
        astigmatism=astigmatism,
        axis=rng.uniform(0, math.pi),
    )


def draw_camera(
    rng: Rng,
    *,
    linear: float = 0.0,
    processed: float = 1.0,
    noise: SensorNoise | None = None,
) -> Camera:
    """Draw a camera; without `noise`, that of a photo camera is drawn.

    `linear` is the share of cameras without an intensity curve, `processed` how often a camera has
    a mosaic and sharpens, relative to a photo camera.
    """
    saved = rng.random()
    return Camera(
        gamma=1.0 if rng.random() < linear else rng.uniform(1.8, 2.6),
        mosaic=rng.random() < 0.5 * processed,
        sharpening=rng.uniform(0.2, 1.0) if rng.random() < 0.3 * processed else 0.0,
        sharpening_width=rng.uniform(0.6, 1.4),
        levels=256 if saved > 0.65 else None,
        jpeg_quality=int(rng.integers(75, 99)) if saved < 0.4 else None,
        noise=noise or draw_noise((0.0002, 0.003), (0.002, 0.02), rng),
    )


def _draw_extent(rng: Rng) -> float:
    """Draw the length of a motion in pixels: 25 % below 2, 58 % to 15 and 17 % to 32."""
    ends = (0.5, 2.0), (2.0, 15.0), (15.0, 32.0)
    return float(rng.uniform(*ends[rng.choice(3, p=(0.25, 0.58, 0.17))]))


def _shifted(kernel: FloatArray, rng: Rng) -> FloatArray:
    """Shift some kernels by a part of a pixel, as the images of real pairs are."""
    if len(kernel) == 1 or rng.random() >= _MOVED:
        return kernel
    return psf.shifted(kernel, *rng.uniform(-0.35, 0.35, 2))
