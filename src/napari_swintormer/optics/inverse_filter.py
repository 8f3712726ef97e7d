"""The Wiener filter that undoes a known blur, as a kernel of finite reach.

A blur is one of several candidates, each with its optical transfer function (OTF) ``H``, the power
``S`` of the sharp image that fits it, and the noise ``N``. The best linear filter is
``E[S conj(H)] / E[S |H|² + N]``. No frequency becomes weaker: a filter that takes noise away would
smooth sharp images.

A filter has the sum 1 and reaches `REACH` pixels, so a pixel depends on its surroundings only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_swintormer.optics.sharp_spectrum import SharpSpectrum

    FloatArray = NDArray[np.float32]

REACH = 64
"""Largest distance of a filter's pixels from its centre."""

GRID = 256
"""Pixels of the grid that filters are computed on, far beyond their reach."""

# Chosen on training images blurred by defocus, motion and microscopes: with a smaller weight some
# images lose, with a larger one all gain less.
_CAUTION = 1.5
"""Weight of the noise."""
_CORNER = np.float32(70)  # white noise keeps its power if fourth differences are divided by it


class ImagePower(NamedTuple):
    """Noise and detail of an image."""

    noise: float
    """Standard deviation of the noise, in the units of the image."""
    gradients: float
    """Mean square of the differences of neighbours along y and x together, noise included."""


def image_power(planes: Iterable[FloatArray]) -> ImagePower:
    """Measure noise and gradients of planes ``(Y, X)`` of one image, five pixels or more wide."""
    noise, gradients, count = 0.0, 0.0, 0
    for plane in planes:
        corner = np.diff(np.diff(plane, 4, axis=0), 4, axis=1) / _CORNER
        noise += float(np.square(corner).mean())
        gradients += sum(float(np.square(np.diff(plane, axis=a)).mean()) for a in (0, 1))
        count += 1
    return ImagePower((noise / count) ** 0.5, gradients / count)


class Candidate(NamedTuple):
    """One of several blurs that an image may have, on the half spectrum of `GRID`."""

    probability: float
    mean: NDArray[np.complex64]
    """Mean OTF."""
    power: NDArray[np.float32]
    """Mean of the OTF's absolute square."""
    sharp: SharpSpectrum
    """Signal and noise that fit the image if it has this blur."""


def inverse_kernel(candidates: Iterable[Candidate]) -> FloatArray:
    """Make the kernel that undoes a blur, ``(2 * REACH + 1, 2 * REACH + 1)`` float32 of sum 1.

    Among linear filters it has the smallest mean square error over the candidates.
    """
    half = GRID, GRID // 2 + 1
    upper, lower = np.zeros(half, complex), np.zeros(half)
    for share, mean, power, sharp in candidates:
        upper += share * sharp.signal * mean.conj()
        lower += share * (sharp.signal * power + _CAUTION * sharp.noise)
    spectrum = upper / lower
    # what cannot be restored stays as it is: a smaller gain would smooth sharp images
    spectrum = spectrum + np.clip(1 - np.abs(spectrum), 0, None)
    kernel = fft.fftshift(fft.irfft2(spectrum, (GRID, GRID)))
    middle = slice(GRID // 2 - REACH, GRID // 2 + REACH + 1)
    kernel = kernel[middle, middle] * _FADING
    # an even image must not change: spread what was cut off over the kernel
    kernel += _FADING * ((1 - kernel.sum()) / _FADING.sum())
    return np.asarray(kernel, np.float32)


UNKNOWN_SIZE = -1.0
"""What the map of the size says where the blur is not known; sizes are above -0.6."""


def blur_maps(radius: float, certainty: float, image: ImagePower) -> FloatArray:
    """Scale the size of a blur, how sure it is, and the noise to about -1 to 1.

    `radius` is the root mean square of the distance from the centre, in pixels.
    """
    return field_maps(np.array(radius), np.array(certainty), image)


def field_maps(radius: NDArray[Any], certainty: NDArray[Any], image: ImagePower) -> FloatArray:
    """Give the maps where size and certainty differ from pixel to pixel; see `blur_maps`."""
    size = np.log2(np.maximum(radius, 0.25)) / 4
    noise = np.full(size.shape, _noise_level(image))
    return np.stack([size, certainty, noise]).astype(np.float32)


def unknown_maps(image: ImagePower, *, photo: bool) -> FloatArray:
    """Give the maps of an image whose blur is not known; the second tells photos."""
    return np.array([UNKNOWN_SIZE, photo, _noise_level(image)], np.float32)


def _noise_level(image: ImagePower) -> float:
    return math.log10(max(image.noise, 1e-4)) / 2 + 1.5


def _fading() -> NDArray[np.float64]:
    """Fade from 1 to 0 over the last quarter of the reach."""
    along = np.arange(-REACH, REACH + 1)
    distance = np.hypot(along[:, None], along)
    share = np.clip((REACH + 0.5 - distance) / (REACH / 4), 0, 1)
    return (1 - np.cos(np.pi * share)) / 2


_FADING = _fading()
