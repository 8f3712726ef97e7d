"""Simple defocus with noise and a file format.

A degradation is drawn first and applied later, so that the patch can be cut with the margin that
the blur needs. Nothing wraps around, and nothing is invented at the border. The shares of the
mixture were chosen by experiment: a model damages unblurred, partly sharp and dark images if it
never saw any.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.optics import psf
from napari_swintormer.optics.light import from_light, to_light
from napari_swintormer.training.degradations import primitives
from napari_swintormer.training.degradations.camera import NOISELESS, SensorNoise

if TYPE_CHECKING:
    from napari_swintormer.settings.deblur_settings import ImageKind
    from napari_swintormer.training.degradations.primitives import FloatArray, Rng

# Shares of the training patches.
UNBLURRED = 0.15
_VARYING = 0.35
_PARTLY_SHARP = 0.5  # share of the varying ones
_WITHOUT_NOISE = 0.25
_STRONG_NOISE = 0.15
_CORRELATED_NOISE = 0.3
_SAVED_AS_JPEG = 0.35  # share of the photos; another such share is rounded to 8 bits
_DARK = 0.1


@dataclass(frozen=True)
class Degradation:
    """One way to degrade a patch; only masks and noise are left to draw."""

    # One PSF blurs evenly, two are blended along a smooth random mask, none leaves the patch sharp.
    # A PSF of one pixel is the sharp part of a blend.
    psfs: tuple[FloatArray, ...] = ()
    gamma: float = 1.0  # exponent of the intensity curve: light is ``image ** gamma``
    noise: SensorNoise = NOISELESS  # added after the curve
    levels: int | None = None  # grey levels in the file; None leaves values unrounded
    jpeg_quality: int | None = None  # None for another file format

    @property
    def margin(self) -> int:
        """Pixels around a patch that its blur reaches."""
        return primitives.largest_margin(*self.psfs)

    def degrade(self, sharp: FloatArray, rng: Rng) -> tuple[FloatArray, FloatArray]:
        """Degrade a patch as `apply` does; return the result and the training target.

        Without blur both are equal, noise included: a network must leave sharp images alone.
        """
        blurred = self.apply(sharp, rng)
        return blurred, primitives.crop(sharp, self.margin) if self.psfs else blurred

    def apply(self, sharp: FloatArray, rng: Rng) -> FloatArray:
        """Degrade ``(C, Y + 2 * margin, X + 2 * margin)``, mostly in [0, 1], to ``(C, Y, X)``."""
        image = sharp
        if self.psfs:
            light = to_light(sharp, self.gamma)
            blurred = [primitives.blur(light, kernel, self.margin) for kernel in self.psfs]
            image = from_light(primitives.blend(blurred, rng), self.gamma)
        image = self.noise.add(image, rng)
        if self.jpeg_quality is not None:
            image = primitives.through_jpeg(image, self.jpeg_quality)
        elif self.levels is not None:
            image = primitives.round_to_levels(image, self.levels)
        return image.astype(np.float32, copy=False)


def draw_defocus(kind: ImageKind, rng: Rng, unblurred: float = UNBLURRED) -> Degradation:
    """Draw defocus, noise and file format from the mixture that models train on.

    The kind of image decides the intensity curve, the optics and the file formats; `unblurred` is
    the share of patches that stay sharp.
    """
    psfs: tuple[FloatArray, ...] = ()
    if rng.random() >= unblurred:
        radius = draw_radius(rng)
        psfs = (draw_psf(kind, radius, rng),)
        if rng.random() < _VARYING:
            partly_sharp = rng.random() < _PARTLY_SHARP
            other = 0.0 if partly_sharp else min(radius * rng.uniform(0.4, 2.2), 7.0)
            psfs += (draw_psf(kind, other, rng),)
    read = shot = 0.0
    if rng.random() >= _WITHOUT_NOISE:
        strongest = 0.03 if rng.random() < _STRONG_NOISE else 0.006
        read, shot = rng.uniform(0, strongest), rng.uniform(0, strongest) ** 2
    width = rng.uniform(0.4, 0.9) if rng.random() < _CORRELATED_NOISE else 0.0
    levels, jpeg_quality = None, None
    if kind == "photo":
        saved = rng.random()
        if saved < _SAVED_AS_JPEG:
            jpeg_quality = int(rng.integers(80, 99))
        elif saved < 2 * _SAVED_AS_JPEG:
            levels = 256
    gamma = rng.uniform(1.8, 2.6) if kind == "photo" else 1.0
    noise = SensorNoise(read, shot, width, normalized=False)
    return Degradation(psfs, gamma, noise, levels, jpeg_quality)


def draw_radius(rng: Rng) -> float:
    """Draw a blur radius in pixels: 30 % from 0.5 to 1.5, 58 % to 4 and 12 % to 7.

    Wider blur can hardly be restored, and a larger share of it would dominate the loss.
    """
    share = rng.random()
    if share < 0.3:
        return float(rng.uniform(0.5, 1.5))
    if share < 0.88:
        return float(rng.uniform(1.5, 4.0))
    return float(rng.uniform(4.0, 7.0))


def draw_psf(kind: ImageKind, radius: float, rng: Rng) -> FloatArray:
    """Draw a PSF with a radius in pixels; radius 0 gives the single pixel of no blur."""
    if radius == 0:
        return np.ones((1, 1), np.float32)
    family = rng.random()
    if family < (0.45 if kind == "microscopy" else 0.2):
        drawn = psf.defocus(
            radius,
            cutoff=rng.uniform(0.35, 1.0),
            spherical=rng.normal(0, 0.06),
            astigmatism=rng.normal(0, 0.06),
            axis=rng.uniform(0, math.pi),
        )
    elif family < 0.65:
        drawn = psf.gaussian(radius)
    elif family < 0.82:
        drawn = psf.disk(radius)
    else:
        drawn = psf.polygon(radius, int(rng.integers(5, 9)), rng.uniform(0, 2 * math.pi))
    if rng.random() < (0.4 if kind == "microscopy" else 0.2):
        drawn = psf.with_halo(drawn, rng.uniform(0.1, 0.5), radius * rng.uniform(0.7, 1.6))
    return drawn


def draw_range(rng: Rng) -> tuple[float, float]:
    """Draw the intensities that become 0 and 1, relative to the range of the sharp image.

    A restorer measures the range on the blurred image, where blur has lowered the brightest spots.
    One hot pixel makes everything else dark.
    """
    low = rng.uniform(-0.06, 0.04)
    high = rng.uniform(1.5, 5.0) if rng.random() < _DARK else rng.uniform(0.75, 1.15)
    return low, high
