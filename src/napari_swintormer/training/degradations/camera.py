"""What a camera makes of the light that reaches its sensor: noise, colours, a file.

In this order, as in a real one: noise that grows with the light, one colour per pixel and the
others interpolated, the intensity curve, sharpening, rounding or JPEG.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_swintormer.training.degradations.simple import from_light, through_jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

MARGIN = 8  # pixels that a camera needs around a patch; JPEG blocks begin anywhere in the first

_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4


@dataclass(frozen=True)
class SensorNoise:
    """Of a sensor, relative to the unit range.

    Attributes
    ----------
    read
        Standard deviation in the dark.
    shot
        What the light adds at 1: the variance is ``read ** 2 + shot ** 2 * light``.
    width
        Standard deviation in pixels of a Gaussian that smooths the noise, as denoising and
        resampling do, 0 for none; the noise is as strong as is said when it is smooth.
    """

    read: float = 0.0
    shot: float = 0.0
    width: float = 0.0

    def add(self, light: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Draw the noise of ``(C, Y, X)`` and add it."""
        if not (self.read or self.shot):
            return light
        noise = rng.standard_normal(light.shape, dtype=np.float32)
        if self.width:
            noise = ndimage.gaussian_filter(noise, self.width, axes=(1, 2), mode="wrap")
            noise /= noise.std()
        variance = self.read**2 + self.shot**2 * np.clip(light, 0, 1)
        noisy: FloatArray = light + np.sqrt(variance, dtype=np.float32) * noise
        return noisy


@dataclass(frozen=True)
class Camera:
    """A camera and its settings.

    Attributes
    ----------
    gamma
        Exponent of the intensity curve: light is ``image ** gamma``.
    noise
        Of the sensor.
    mosaic
        Whether each pixel of a colour image sees one colour only.
    sharpening, sharpening_width
        Amount of unsharp masking, 0 for none, and its Gaussian's standard deviation in pixels.
    levels
        Grey levels of the file, or None for a file that rounds nothing.
    jpeg_quality
        Quality of the JPEG, or None.
    """

    gamma: float = 1.0
    noise: SensorNoise = SensorNoise()
    mosaic: bool = False
    sharpening: float = 0.0
    sharpening_width: float = 1.0
    levels: int | None = None
    jpeg_quality: int | None = None

    def develop(self, light: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Make an image from light.

        Parameters
        ----------
        light
            ``(C, Y + 2 * MARGIN, X + 2 * MARGIN)``, 1 is what the sensor can just hold.
        rng
            Draws the noise, and where the mosaic and the blocks of the JPEG begin.

        Returns
        -------
        array
            ``(C, Y, X)``.
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
            image = np.round(np.clip(image, 0, 1) * (self.levels - 1)) / np.float32(self.levels - 1)
        return image[:, MARGIN:-MARGIN, MARGIN:-MARGIN].astype(np.float32, copy=False)


def through_mosaic(light: FloatArray, rng: np.random.Generator) -> FloatArray:
    """See ``(3, Y, X)`` through a Bayer mosaic and interpolate linearly what it hides."""
    top, left = rng.integers(2, size=2)
    even = [
        np.arange(n) % 2 == start for n, start in zip(light.shape[1:], (top, left), strict=True)
    ]
    rows, columns = even[0][:, None], even[1][None]
    seen = (rows & columns, rows != columns, ~rows & ~columns)
    kernels = (_SQUARE, _CROSS, _SQUARE)
    colours = [
        ndimage.convolve(channel * mask, kernel, mode="mirror")
        for channel, mask, kernel in zip(light, seen, kernels, strict=True)
    ]
    whole: FloatArray = np.stack(colours)
    return whole


def draw_noise(
    read: tuple[float, float], shot: tuple[float, float], rng: np.random.Generator
) -> SensorNoise:
    """Draw noise evenly over the logarithms of two ranges, and none for a tenth.

    Parameters
    ----------
    read, shot
        Least and largest of the fields of `SensorNoise`.
    rng
        Draws the noise.
    """
    if rng.random() < 0.1:
        return SensorNoise()
    drawn = [math.exp(rng.uniform(*np.log(ends))) for ends in (read, shot)]
    return SensorNoise(drawn[0], drawn[1], rng.uniform(0.4, 0.9) if rng.random() < 0.3 else 0.0)
