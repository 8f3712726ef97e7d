"""A camera turns light into a file: sensor noise, colour mosaic, curve, sharpening, rounding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_swintormer.optics.light import from_light
from napari_swintormer.training.degradations.primitives import (
    crop,
    round_to_levels,
    through_jpeg,
)

if TYPE_CHECKING:
    from napari_swintormer.training.degradations.primitives import FloatArray, Rng

MARGIN = 8  # pixels that a camera needs around a patch: a JPEG block begins anywhere in the first 8

_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4


@dataclass(frozen=True)
class SensorNoise:
    """Noise of a sensor, for intensities in [0, 1]."""

    read: float = 0.0  # standard deviation in the dark
    shot: float = 0.0  # variance that an intensity of 1 adds
    width: float = 0.0  # sigma in pixels of the Gaussian that smooths the noise; 0 for none
    normalized: bool = True  # whether smoothed noise is scaled back to its strength before

    def add(self, image: FloatArray, rng: Rng) -> FloatArray:
        """Draw noise for ``(C, Y, X)`` and add it."""
        if not (self.read or self.shot):
            return image
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        if self.width:
            noise = ndimage.gaussian_filter(noise, self.width, axes=(1, 2), mode="wrap")
            if self.normalized:
                noise /= noise.std()
        variance = self.read**2 + self.shot * np.clip(image, 0, 1)
        noisy: FloatArray = image + np.sqrt(variance, dtype=np.float32) * noise
        return noisy


NOISELESS = SensorNoise()


@dataclass(frozen=True)
class Camera:
    """A camera and its settings."""

    gamma: float = 1.0  # exponent of the intensity curve: light is ``image ** gamma``
    noise: SensorNoise = NOISELESS
    mosaic: bool = False  # whether each pixel of a colour image records one colour only
    sharpening: float = 0.0  # amount of unsharp masking; 0 for none
    sharpening_width: float = 1.0  # sigma of its Gaussian, in pixels
    levels: int | None = None  # grey levels in the file; None leaves values unrounded
    jpeg_quality: int | None = None  # None for another file format

    def develop(self, light: FloatArray, rng: Rng) -> FloatArray:
        """Turn light ``(C, Y + 2 * MARGIN, X + 2 * MARGIN)`` into an image ``(C, Y, X)``.

        A light of 1 saturates the sensor. The generator draws the noise, and where the mosaic and
        the JPEG blocks begin.
        """
        light = self.noise.add(light, rng)
        if self.mosaic and len(light) == 3:
            light = through_mosaic(light, rng)
        image = from_light(light, self.gamma)
        if self.sharpening:
            soft = ndimage.gaussian_filter(image, self.sharpening_width, axes=(1, 2))
            image = image + np.float32(self.sharpening) * (image - soft)
        if self.jpeg_quality is not None:
            top, left = rng.integers(MARGIN, size=2)
            image[:, top:, left:] = through_jpeg(image[:, top:, left:], self.jpeg_quality)
        elif self.levels is not None:
            image = round_to_levels(image, self.levels)
        return crop(image, MARGIN).astype(np.float32, copy=False)


def through_mosaic(light: FloatArray, rng: Rng) -> FloatArray:
    """Keep one colour per pixel of ``(3, Y, X)``, through a Bayer mosaic; interpolate the rest."""
    top, left = rng.integers(2, size=2)
    rows = (np.arange(light.shape[1]) % 2 == top)[:, None]
    columns = (np.arange(light.shape[2]) % 2 == left)[None]
    masks = (rows & columns, rows != columns, ~rows & ~columns)
    kernels = (_SQUARE, _CROSS, _SQUARE)
    colours: FloatArray = np.stack(
        [
            ndimage.convolve(channel * mask, kernel, mode="mirror")
            for channel, mask, kernel in zip(light, masks, kernels, strict=True)
        ]
    )
    return colours


def draw_noise(
    read: tuple[float, float], shot: tuple[float, float], rng: np.random.Generator
) -> SensorNoise:
    """Draw sensor noise; one in ten has none.

    `read` and `shot` are the smallest and largest standard deviation in the dark, and added at
    intensity 1. Their logarithms are uniformly distributed.
    """
    if rng.random() < 0.1:
        return NOISELESS
    dark, white = (math.exp(rng.uniform(*np.log(ends))) for ends in (read, shot))
    return SensorNoise(dark, white**2, rng.uniform(0.4, 0.9) if rng.random() < 0.3 else 0.0)
