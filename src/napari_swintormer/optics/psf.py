"""Point-spread functions (PSFs) of defocused lenses.

All PSFs of this package are square float32 arrays of odd side and sum one. Their centre of mass
lies in the middle pixel, except after `shifted`. `radius` is the radius in pixels of the blur
circle of geometric optics. The same radius means the same amount of blur for every kind of PSF.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    PSF = NDArray[np.float32]

_PUPIL_SAMPLES = 48
_PUPIL_AXIS = (np.arange(_PUPIL_SAMPLES) + 0.5) / _PUPIL_SAMPLES - 0.5  # the pupil is 1 across
# A camera sums the light over the area of a pixel: PSFs are sampled on a grid this much finer.
_SAMPLES_PER_PIXEL = 5


def disk(radius: float) -> PSF:
    """PSF of an ideal lens with a round aperture, by geometric optics."""
    y, x = _pixel_grid(math.ceil(radius + 0.5))
    return _filled(radius - np.hypot(y, x))


def gaussian(radius: float) -> PSF:
    """Gaussian with the variance of a disk of `radius` pixels: sigma is half the radius."""
    sigma = max(radius / 2, 1e-3)
    half = math.ceil(3 * sigma + 0.5)
    edges = (np.arange(2 * half + 2) - half - 0.5) / (sigma * math.sqrt(2))
    profile = np.diff(erf(edges))
    return _normalised(np.outer(profile, profile))


def polygon(radius: float, blades: int, rotation: float = 0.0) -> PSF:
    """PSF of an aperture with straight blades: a regular polygon with the area of a disk.

    `rotation` is the direction of the first side's normal, in radians.
    """
    apothem = radius * math.sqrt(math.pi / (blades * math.tan(math.pi / blades)))
    corner = apothem / math.cos(math.pi / blades)
    y, x = _pixel_grid(math.ceil(corner + 0.5))
    normals = rotation + 2 * math.pi * np.arange(blades) / blades
    outside = np.max([x * math.cos(a) + y * math.sin(a) for a in normals], axis=0)
    return _filled(apothem - outside)


def cats_eye(radius: float, cut: float, rotation: float = 0.0) -> PSF:
    """PSF of a round aperture that the lens barrel cuts, as in the corners of a photo.

    The barrel's shadow covers the share `cut` of the diameter, 0 to 0.9, and comes from the
    direction `rotation`, in radians.
    """
    y, x = _pixel_grid(math.ceil(radius + 0.5))
    dy, dx = cut * radius * math.sin(rotation), cut * radius * math.cos(rotation)
    farther = np.maximum(np.hypot(y - dy, x - dx), np.hypot(y + dy, x + dx))
    return _filled(radius - farther)


def ring(radius: float, inner: float) -> PSF:
    """PSF of a mirror lens: a disk with a hole of `inner` times the radius, 0.1 to 0.9."""
    y, x = _pixel_grid(math.ceil(radius + 0.5))
    distance = np.hypot(y, x)
    return _filled(np.minimum(radius - distance, distance - inner * radius))


def defocus(
    radius: float,
    cutoff: float,
    *,
    spherical: float = 0.0,
    astigmatism: float = 0.0,
    axis: float = 0.0,
) -> PSF:
    """PSF of a defocused lens by wave optics: the squared Fourier transform of its pupil.

    Parameters
    ----------
    radius
        Radius of the geometric blur circle, in pixels; 0 gives the Airy pattern.
    cutoff
        Highest frequency that the lens passes in incoherent light, in cycles per pixel: ``2 NA /
        wavelength`` times the pixel size. Between 0.1 and 1; 0.5 samples the lens critically.
    spherical, astigmatism
        Zernike-like aberrations, in waves at the rim of the pupil.
    axis
        Direction of the astigmatism, in radians.
    """
    # A ray through the pupil at height rho lands at the slope of the phase: W = waves * rho**2
    # reaches `radius` at the rim when waves = radius * cutoff / 4.
    waves = radius * cutoff / 4
    v, u = pupil_grid()
    square = u * u + v * v
    phase = waves * square + spherical * (6 * square**2 - 6 * square + 1)
    phase += astigmatism * ((u * u - v * v) * math.cos(2 * axis) + 2 * u * v * math.sin(2 * axis))
    pupil = np.where(square <= 1, np.exp(2j * np.pi * phase), 0)
    half = math.ceil(radius + 2.5 / cutoff)
    return integrate_pixels(np.abs(amplitude(pupil, cutoff, half)) ** 2)


def with_halo(psf: PSF, share: float, radius: float) -> PSF:
    """Spread a `share` (0 to 1) of the light of `psf` as a Gaussian of `radius` pixels."""
    halo = gaussian(radius)
    side = max(len(psf), len(halo))
    padded, padded_halo = (np.pad(p, (side - len(p)) // 2) for p in (psf, halo))
    return (1 - share) * padded + share * padded_halo


def shifted(psf: PSF, dy: float, dx: float) -> PSF:
    """Move `psf` by less than a pixel with linear interpolation; its side grows by two."""
    wide = np.pad(psf, 1)
    for axis, d in ((0, dy), (1, dx)):
        moved = np.roll(wide, 1 if d > 0 else -1, axis)
        wide = (1 - abs(d)) * wide + abs(d) * moved
    return wide.astype(np.float32, copy=False)


def pupil_grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (v, u) of the samples of a pupil, whose rim is at radius 1."""
    v, u = np.meshgrid(2 * _PUPIL_AXIS, 2 * _PUPIL_AXIS, indexing="ij")
    return v, u


def amplitude(pupil: NDArray[np.complex128], cutoff: float, half: int) -> NDArray[np.complex128]:
    """Fourier transform of a pupil on `pupil_grid`, to the fine grid of `integrate_pixels`.

    `cutoff` is in cycles per pixel, `half` the number of pixels from the middle one to the border.
    """
    y, _ = _pixel_grid(half)
    transform = np.exp(2j * np.pi * cutoff * np.outer(y[:, 0], _PUPIL_AXIS))
    field: NDArray[np.complex128] = transform @ pupil @ transform.T
    return field


def integrate_pixels(samples: NDArray[np.float64]) -> PSF:
    """Sum a fine grid of 5 x 5 samples per pixel to pixels, and bring the sum to one."""
    side = len(samples) // _SAMPLES_PER_PIXEL
    fine = samples.reshape(side, _SAMPLES_PER_PIXEL, side, _SAMPLES_PER_PIXEL)
    return _normalised(fine.sum(axis=(1, 3)))


def _pixel_grid(half: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (y, x) in pixels of a fine grid over the pixels -half to half."""
    side = (2 * half + 1) * _SAMPLES_PER_PIXEL
    axis = (np.arange(side) - (side - 1) / 2) / _SAMPLES_PER_PIXEL
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _filled(inside: NDArray[np.float64]) -> PSF:
    """PSF of even brightness, from the distance in pixels of every sample inside its border."""
    return integrate_pixels(np.clip(inside * _SAMPLES_PER_PIXEL + 0.5, 0, 1))


def _normalised(psf: NDArray[np.float64]) -> PSF:
    normalised: PSF = (psf / psf.sum()).astype(np.float32)
    return normalised
