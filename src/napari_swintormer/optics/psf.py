"""Point-spread functions of defocus, by their physical names.

Every function returns a square float32 array of odd side, non-negative, of sum one, with its
centre of mass in the middle pixel. `radius` is the radius of the geometric blur circle in pixels
and means the same blur for every family, so that one range of radii serves them all.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

_PUPIL_SAMPLES = 48
_PUPIL_AXIS = (np.arange(_PUPIL_SAMPLES) + 0.5) / _PUPIL_SAMPLES - 0.5  # the pupil is 1 across
# A camera sums the light over a pixel's area: figures are drawn on a grid this much finer.
_POINTS_PER_PIXEL = 5


def disk(radius: float) -> FloatArray:
    """Blur circle of an ideal lens with a round aperture (geometric optics)."""
    y, x = _points(math.ceil(radius + 0.5))
    return _covered(radius - np.hypot(y, x))


def gaussian(radius: float) -> FloatArray:
    """Gaussian with the variance of a disk of this radius, summed over each pixel's area."""
    sigma = max(radius / 2, 1e-3)
    half = math.ceil(3 * sigma + 0.5)
    edges = (np.arange(2 * half + 2) - half - 0.5) / (sigma * math.sqrt(2))
    profile = np.diff(erf(edges))
    return _normalised(np.outer(profile, profile))


def polygon(radius: float, blades: int, rotation: float = 0.0) -> FloatArray:
    """Blur figure of an aperture with straight blades; its area is that of a disk of `radius`.

    Parameters
    ----------
    radius
        Radius of the disk of equal area, in pixels.
    blades
        Sides of the regular polygon, at least 3.
    rotation
        Direction of the first side's normal, in radians.
    """
    apothem = radius * math.sqrt(math.pi / (blades * math.tan(math.pi / blades)))
    corner = apothem / math.cos(math.pi / blades)
    y, x = _points(math.ceil(corner + 0.5))
    normals = rotation + 2 * math.pi * np.arange(blades) / blades
    outside = np.max([x * math.cos(a) + y * math.sin(a) for a in normals], axis=0)
    return _covered(apothem - outside)


def cats_eye(radius: float, cut: float, rotation: float = 0.0) -> FloatArray:
    """Blur figure of a round aperture that the lens barrel cuts, as towards a photo's corners.

    Parameters
    ----------
    radius
        Radius of the uncut disk, in pixels.
    cut
        How far the shadow's border has moved in, as a share of the diameter: 0 to 0.9.
    rotation
        Direction that the shadow comes from, in radians.
    """
    y, x = _points(math.ceil(radius + 0.5))
    dy, dx = cut * radius * math.sin(rotation), cut * radius * math.cos(rotation)
    farther = np.maximum(np.hypot(y - dy, x - dx), np.hypot(y + dy, x + dx))
    return _covered(radius - farther)


def ring(radius: float, inner: float) -> FloatArray:
    """Blur figure of a mirror lens: a disk with a hole.

    Parameters
    ----------
    radius
        Of the disk, in pixels.
    inner
        Radius of the hole as a share of `radius`, 0.1 to 0.9.
    """
    y, x = _points(math.ceil(radius + 0.5))
    distance = np.hypot(y, x)
    return _covered(np.minimum(radius - distance, distance - inner * radius))


def defocus(
    radius: float,
    cutoff: float,
    *,
    spherical: float = 0.0,
    astigmatism: float = 0.0,
    axis: float = 0.0,
) -> FloatArray:
    """Diffraction pattern of a defocused lens: the squared Fourier transform of its pupil.

    Parameters
    ----------
    radius
        Radius of the geometric blur circle, in pixels; 0 gives the Airy pattern.
    cutoff
        Highest frequency that the lens passes in incoherent light, ``2 NA / wavelength`` times
        the pixel size, in cycles per pixel. Between 0.1 and 1; 0.5 samples the lens critically.
    spherical, astigmatism
        Zernike-like aberrations, in waves at the rim of the pupil.
    axis
        Direction of the astigmatism, in radians.
    """
    # A ray through the pupil at height rho lands at the slope of the phase: W = waves * rho**2
    # reaches `radius` at the rim when waves = radius * cutoff / 4.
    waves = radius * cutoff / 4
    v, u = pupil_points()
    square = u * u + v * v
    phase = waves * square + spherical * (6 * square**2 - 6 * square + 1)
    phase += astigmatism * ((u * u - v * v) * math.cos(2 * axis) + 2 * u * v * math.sin(2 * axis))
    pupil = np.where(square <= 1, np.exp(2j * np.pi * phase), 0)
    half = math.ceil(radius + 2.5 / cutoff)
    return summed_over_pixels(np.abs(amplitude(pupil, cutoff, half)) ** 2)


def pupil_points() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (v, u) of the points that a pupil is given at; its rim is at radius 1."""
    v, u = np.meshgrid(2 * _PUPIL_AXIS, 2 * _PUPIL_AXIS, indexing="ij")
    return v, u


def amplitude(pupil: NDArray[np.complex128], cutoff: float, half: int) -> NDArray[np.complex128]:
    """Fourier transform of a pupil, on the fine grid that `summed_over_pixels` takes.

    Parameters
    ----------
    pupil
        At `pupil_points`.
    cutoff
        As in `defocus`.
    half
        Pixels to the border from the middle one.
    """
    y, _ = _points(half)
    transform = np.exp(2j * np.pi * cutoff * np.outer(y[:, 0], _PUPIL_AXIS))
    field: NDArray[np.complex128] = transform @ pupil @ transform.T
    return field


def with_halo(psf: FloatArray, share: float, radius: float) -> FloatArray:
    """`psf` with a `share` (0 to 1) of its light spread as a Gaussian of `radius` pixels."""
    halo = gaussian(radius)
    side = max(len(psf), len(halo))
    return (1 - share) * _padded(psf, side) + share * _padded(halo, side)


def shifted(psf: FloatArray, dy: float, dx: float) -> FloatArray:
    """Move `psf` by less than a pixel, linearly between pixels; its side grows by two."""
    wide = np.pad(psf, 1)
    for axis, d in ((0, dy), (1, dx)):
        moved = np.roll(wide, 1 if d > 0 else -1, axis)
        wide = (1 - abs(d)) * wide + abs(d) * moved
    return wide.astype(np.float32, copy=False)


def _points(half: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates (y, x) in pixels of a fine grid over the pixels -half to half."""
    side = (2 * half + 1) * _POINTS_PER_PIXEL
    axis = (np.arange(side) - (side - 1) / 2) / _POINTS_PER_PIXEL
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return y, x


def _covered(inside: NDArray[np.float64]) -> FloatArray:
    """Figure of even brightness, from every fine point's distance inside its border."""
    return summed_over_pixels(np.clip(inside * _POINTS_PER_PIXEL + 0.5, 0, 1))


def summed_over_pixels(points: NDArray[np.float64]) -> FloatArray:
    """Sum a fine grid over the area of each pixel, and bring the whole to one."""
    side = len(points) // _POINTS_PER_PIXEL
    pixels = points.reshape(side, _POINTS_PER_PIXEL, side, _POINTS_PER_PIXEL).sum(axis=(1, 3))
    return _normalised(pixels)


def _normalised(psf: NDArray[np.float64]) -> FloatArray:
    normalised: FloatArray = (psf / psf.sum()).astype(np.float32)
    return normalised


def _padded(psf: FloatArray, side: int) -> FloatArray:
    return np.pad(psf, (side - len(psf)) // 2)
