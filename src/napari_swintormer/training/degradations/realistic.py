"""Degradations as real instruments make them, drawn by what is seen: photo or microscopy.

Each has optics, which turn a scene into light on a sensor, and a camera, which turns the light into
a file. The ranges of noise were measured on real images: light-sheet images have noise of 1.5 % of
their range in the dark and of 7 % in the light, photos of 0.3 to 1 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_swintormer.optics import motion, psf
from napari_swintormer.optics.microscope import Microscope
from napari_swintormer.training.degradations import camera
from napari_swintormer.training.degradations.camera import Camera, SensorNoise, draw_noise
from napari_swintormer.training.degradations.image_formation import (
    DepthOptics,
    FlatOptics,
    MotionOptics,
    Optics,
)
from napari_swintormer.training.degradations.simple import (
    UNBLURRED,
    Degradation,
    draw_defocus,
    draw_psf,
    from_light,
    to_light,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

Modality = Literal["photo", "fluorescence", "brightfield"]
"""What is seen: fluorescence shines on a dark background; all other microscopy is brightfield."""

_DEPTHS = 4  # layers that a scene in depth is cut into
_MOVED = 0.15
_SHARP = 0.3  # pixels of radius below which nothing is blurred
# Moderate, even blur with little noise, where most can be won: without it, a model that learns from
# hard cases alone wins a third less on easy ones.
_SIMPLE = 0.4
_MOTION = 0.2  # of the photos, where defocus and motion are learned together
_POINT = np.ones((1, 1), np.float32)

# Numerical apertures and refractive indices of common objectives.
_OBJECTIVES = (
    *((0.1, 1.0), (0.16, 1.0), (0.3, 1.0), (0.45, 1.0), (0.75, 1.0), (0.95, 1.0)),
    *((0.8, 1.33), (1.2, 1.33), (1.05, 1.41), (1.3, 1.52), (1.4, 1.52)),
)


@dataclass(frozen=True)
class Recording:
    """A degradation: optics and a camera, drawn at random.

    Attributes
    ----------
    optics
        None leaves the scene sharp.
    camera
        Makes the file.
    """

    optics: Optics | None
    camera: Camera

    @property
    def margin(self) -> int:
        """Pixels around a patch that are looked at."""
        return camera.MARGIN + (self.optics.margin if self.optics else 0)

    def degrade(self, sharp: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Make a pair from a sharp patch with its margin.

        Parameters
        ----------
        sharp
            ``(C, Y + 2 * margin, X + 2 * margin)`` in unit range; values outside are possible.
        rng
            Draws depths, noise and all else.

        Returns
        -------
        blurred, sharp
            ``(C, Y, X)``. Without optics both are the recorded image, noise and all: a network
            leaves sharp images alone.
        """
        light = to_light(sharp, self.camera.gamma)
        if self.optics is None:
            image = self.camera.develop(light, rng)
            return image, image
        blurred, focused = self.optics.form(light, rng)
        inner = slice(camera.MARGIN, -camera.MARGIN)
        target = from_light(focused[:, inner, inner], self.camera.gamma)
        return self.camera.develop(blurred, rng), target


def draw_optics(
    modality: Modality, rng: np.random.Generator, unblurred: float = UNBLURRED
) -> Degradation | Recording:
    """Draw from the simple mixture for two in five, else a recording; see `draw_recording`."""
    draw = draw_simple if rng.random() < _SIMPLE else draw_recording
    return draw(modality, rng, unblurred)


def draw_recording(
    modality: Modality, rng: np.random.Generator, unblurred: float = UNBLURRED
) -> Recording:
    """Draw a defocus and a camera: of a photo, or of a microscope.

    Parameters
    ----------
    modality
        What is seen.
    rng
        Draws everything.
    unblurred
        Share of patches that stay sharp.
    """
    sharp = rng.random() < unblurred
    if modality == "photo":
        return Recording(None if sharp else _draw_lens(rng), _draw_camera(rng))
    optics = None if sharp else _draw_microscope(modality, rng)
    if modality == "fluorescence":
        noise = draw_noise((0.0005, 0.03), (0.002, 0.1), rng)
        return Recording(optics, Camera(noise=noise, levels=256 if rng.random() < 0.5 else None))
    noise = draw_noise((0.0005, 0.006), (0.001, 0.015), rng)
    return Recording(optics, _draw_camera(rng, linear=0.5, processed=0.4, noise=noise))


def draw_motion(
    modality: Modality, rng: np.random.Generator, unblurred: float = UNBLURRED
) -> Recording:
    """Draw the shake of a camera or the motion of a thing; see `draw_recording`."""
    taken = _draw_camera(rng) if modality == "photo" else draw_recording(modality, rng).camera
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
    moved = motion.motion_psf(motion.object_motion(_draw_extent(rng), rng)) if moves else None
    return Recording(MotionOptics(tuple(corners), moved), taken)


def draw_all(
    modality: Modality, rng: np.random.Generator, unblurred: float = UNBLURRED
) -> Degradation | Recording:
    """Draw motion for one photo in five, else optics: microscopes stand still."""
    moves = modality == "photo" and rng.random() < _MOTION
    return (draw_motion if moves else draw_optics)(modality, rng, unblurred)


def draw_simple(
    modality: Modality, rng: np.random.Generator, unblurred: float = UNBLURRED
) -> Degradation:
    """Draw from the simple mixture, which is the same for all of microscopy."""
    return draw_defocus("photo" if modality == "photo" else "microscopy", rng, unblurred)


DEGRADATIONS: dict[str, Callable[..., Degradation | Recording]] = {
    "defocus": draw_simple,
    "optics": draw_optics,
    "motion": draw_motion,
    "all": draw_all,
}
"""By their names in `TrainSettings.synthesize`: ``draw(modality, rng, unblurred=share)``."""


def draw_wide_radius(rng: np.random.Generator) -> float:
    """Draw a blur circle's radius in pixels: 0.3 to 20, a fifth below 1.2, as many above 8."""
    ends = (0.3, 1.2), (1.2, 4.0), (4.0, 8.0), (8.0, 20.0)
    return float(rng.uniform(*ends[rng.choice(4, p=(0.2, 0.36, 0.26, 0.18))]))


def draw_aperture(rng: np.random.Generator) -> Callable[[float], FloatArray]:
    """Draw the shape of a photo lens's blur: a function from its radius to its kernel."""
    family = rng.choice(6, p=(0.2, 0.2, 0.25, 0.15, 0.05, 0.15))
    turned = rng.uniform(0, 2 * math.pi)
    blades, cut, inner = int(rng.integers(5, 10)), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.6)
    cutoff, (spherical, astigmatism) = rng.uniform(0.4, 1.0), rng.normal(0, 0.08, 2)
    halo = rng.uniform(0.1, 0.5) if rng.random() < 0.2 else 0.0
    moved = rng.uniform(-0.35, 0.35, 2) if rng.random() < _MOVED else np.zeros(2)

    def kernel(radius: float) -> FloatArray:
        if radius < _SHARP:
            return _POINT
        figure = (
            lambda: psf.gaussian(radius),
            lambda: psf.disk(radius),
            lambda: psf.polygon(radius, blades, turned),
            lambda: psf.cats_eye(radius, cut, turned),
            lambda: psf.ring(radius, inner),
            lambda: psf.defocus(
                radius, cutoff, spherical=spherical, astigmatism=astigmatism, axis=turned
            ),
        )[family]()
        if halo:
            figure = psf.with_halo(figure, halo, radius)
        return psf.shifted(figure, *moved) if moved.any() else figure

    return kernel


def _draw_lens(rng: np.random.Generator) -> DepthOptics:
    """Blur that grows with the distance from the depth in focus, or is even."""
    aperture, radius = draw_aperture(rng), draw_wide_radius(rng)
    if rng.random() < 0.45:
        radii = np.full(1, radius)
    else:
        distances = np.abs(np.linspace(0, 1, _DEPTHS) - rng.uniform(-0.4, 1.4))
        radii = radius * distances / distances.max()
    front = None
    if rng.random() < 0.25:
        front = aperture(draw_wide_radius(rng) if rng.random() < 0.5 else 0.0)
    glare = rng.uniform(1, 8) if rng.random() < 0.15 else 1.0
    return DepthOptics(tuple(aperture(r) for r in radii), front, glare)


def _draw_microscope(modality: Modality, rng: np.random.Generator) -> FlatOptics:
    """Wave optics of a random objective for most, the simple figures of blur for the others."""
    radius = draw_wide_radius(rng)
    haze, haze_kernel = 0.0, None
    if modality == "fluorescence" and rng.random() < 0.3:
        haze, haze_kernel = rng.uniform(0.05, 0.6), psf.gaussian(rng.uniform(6, 16))
    radii = [radius]
    if rng.random() < 0.4:
        radii.append(0.0 if rng.random() < 0.5 else draw_wide_radius(rng))
    if rng.random() < 0.4:
        kernels = tuple(_moved(draw_psf("microscopy", r, rng), rng) for r in radii)
        return FlatOptics(kernels, None, haze, haze_kernel)
    aperture, index = _OBJECTIVES[rng.integers(len(_OBJECTIVES))]
    wavelength, cutoff = rng.uniform(0.45, 0.68), rng.uniform(0.3, 1.1)
    spherical, astigmatism = rng.normal(0, 0.08, 2)
    microscope = Microscope(
        aperture,
        wavelength,
        pixel=cutoff * wavelength / (2 * aperture),
        index=index,
        spherical=spherical,
        astigmatism=astigmatism,
        axis=rng.uniform(0, math.pi),
    )
    side = 1 if rng.random() < 0.5 else -1  # of the focus
    if modality == "brightfield":  # half-coherent light keeps more, and inverts it further out
        radii = [min(2 * r, 20.0) for r in radii]
    depths = [side * microscope.depth_of(r) for r in radii]
    if modality == "fluorescence":
        form = partial(microscope.fluorescence, confocal=rng.random() < 0.15)
    else:
        phase = rng.normal(0, 1.5) if rng.random() < 0.6 else 0.0
        form = partial(microscope.transmission, condenser=rng.uniform(0.1, 1.0), phase=phase)
    kernels = tuple(_moved(form(depth), rng) for depth in depths)
    return FlatOptics(kernels, form(0.0), haze, haze_kernel)


def _draw_camera(
    rng: np.random.Generator,
    *,
    linear: float = 0.0,
    processed: float = 1.0,
    noise: SensorNoise | None = None,
) -> Camera:
    """Draw a camera whose files look good.

    Parameters
    ----------
    linear
        Share of cameras without an intensity curve.
    processed
        How often one interpolates colours and sharpens, relative to a photo camera.
    noise
        Of the sensor; None draws a photo camera's.
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


def _draw_extent(rng: np.random.Generator) -> float:
    """Draw the length of a motion in pixels: a quarter below 2, a sixth above 15."""
    ends = (0.5, 2.0), (2.0, 15.0), (15.0, 32.0)
    return float(rng.uniform(*ends[rng.choice(3, p=(0.25, 0.58, 0.17))]))


def _moved(kernel: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Move some kernels by a part of a pixel: the halves of real pairs never fit better."""
    if len(kernel) == 1 or rng.random() >= _MOVED:
        return kernel
    return psf.shifted(kernel, *rng.uniform(-0.35, 0.35, 2))
