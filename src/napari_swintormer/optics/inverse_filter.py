"""The Wiener filter that undoes a known blur, as a kernel of finite reach.

With the optical transfer function (OTF) ``H`` of a blur that is one of several, the best linear
filter is ``E[conj(H)] / (E[|H|²] + noise / signal)``. The power of natural images falls with the
square of the frequency. Its height follows from the image's own gradients, and the noise from what
the image has where neither lens nor scene leave anything. So noisy and smooth images are filtered
less. No frequency becomes weaker: a filter that takes noise away would smooth sharp images.

A filter has the sum 1 and reaches `REACH` pixels, so a pixel depends on its surroundings only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import fft, ndimage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

REACH = 64
"""Largest distance of a filter's pixels from its centre."""

GRID = 256
"""Pixels of the grid that filters are computed on, far beyond their reach."""

# Chosen on training images blurred by defocus, motion and microscopes: with the smaller weights
# some images lose, with larger ones all gain less.
CAUTION = 5.0
"""Weight of the noise."""
_LEAST_NOISE = 0.002  # added to every image's noise: rounding, and errors of the blur itself

_CORNER = np.outer((1, -4, 6, -4, 1), (1, -4, 6, -4, 1)) / 70  # of white noise it keeps the power

_Y, _X = np.fft.fftfreq(GRID)[:, None], np.fft.rfftfreq(GRID)[None]
_SIGNAL = 1 / np.maximum(_Y**2 + _X**2, GRID**-2.0)
_GRADIENT = 4 - 2 * np.cos(2 * np.pi * _Y) - 2 * np.cos(2 * np.pi * _X)
# a half spectrum holds all columns but the first and the last twice
_SHARES = np.where((_X == 0) | (_X == 0.5), 1, 2) / GRID**2


class ImagePower(NamedTuple):
    """What a filter must know of an image."""

    noise: float
    """Standard deviation of the noise, in the units of the image."""
    gradients: float
    """Mean square of the differences of neighbours along y and x together, noise included."""


def image_power(planes: Iterable[FloatArray]) -> ImagePower:
    """Measure noise and gradients of planes ``(Y, X)`` of one image, five pixels or more wide."""
    noise, gradients, count = 0.0, 0.0, 0
    for plane in planes:
        corner = ndimage.convolve(plane, _CORNER)[2:-2, 2:-2]
        noise += float(np.square(corner).mean())
        gradients += sum(float(np.square(np.diff(plane, axis=a)).mean()) for a in (0, 1))
        count += 1
    return ImagePower((noise / count) ** 0.5, gradients / count)


def inverse_kernel(
    moments: tuple[NDArray[np.complex64], NDArray[np.float32]],
    image: ImagePower,
    caution: float = CAUTION,
) -> FloatArray:
    """Make the kernel that undoes a blur, ``(2 * REACH + 1, 2 * REACH + 1)`` float32 of sum 1.

    `moments` are those of `napari_swintormer.optics.blur.Blur.otf_moments` on ``(GRID, GRID)``.
    """
    mean, power = moments[0].astype(np.complex128), moments[1].astype(np.float64)
    signal = max(image.gradients - 4 * image.noise**2, 1e-10)
    height = signal / float((_SHARES * power * _GRADIENT * _SIGNAL).sum())
    noise = caution * (image.noise**2 + _LEAST_NOISE**2)
    spectrum = mean.conj() / (power + noise / (height * _SIGNAL))
    # what cannot be restored stays as it is: a smaller gain would smooth sharp images
    spectrum = spectrum + np.clip(1 - np.abs(spectrum), 0, None)
    kernel = fft.fftshift(fft.irfft2(spectrum, (GRID, GRID)))
    middle = slice(GRID // 2 - REACH, GRID // 2 + REACH + 1)
    kernel = kernel[middle, middle] * _FADING
    # an even image must not change: spread what was cut off over the kernel
    kernel += _FADING * ((1 - kernel.sum()) / _FADING.sum())
    return np.asarray(kernel, np.float32)


def blur_maps(radius: float, certainty: float, image: ImagePower) -> FloatArray:
    """Scale the size of a blur, how sure it is, and the noise to about -1 to 1.

    `radius` is the root mean square of the distance from the centre, in pixels.
    """
    size = math.log2(max(radius, 0.25)) / 4
    noise = math.log10(max(image.noise, 1e-4)) / 2 + 1.5
    return np.array([size, certainty, noise], np.float32)


def _fading() -> NDArray[np.float64]:
    """Fade from 1 to 0 over the last quarter of the reach."""
    along = np.arange(-REACH, REACH + 1)
    distance = np.hypot(along[:, None], along)
    share = np.clip((REACH + 0.5 - distance) / (REACH / 4), 0, 1)
    return (1 - np.cos(np.pi * share)) / 2


_FADING = _fading()
