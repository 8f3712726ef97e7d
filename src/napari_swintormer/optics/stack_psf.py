"""3-D point-spread functions of fluorescence microscopes, from the numbers of their optics.

The field behind a high-aperture objective follows from the vectorial Debye integrals of Richards
and Wolf (Proc. R. Soc. A 253, 1959), averaged over the directions of the dipoles::

    I0 = integral sqrt(cos t) sin t (1 + cos t) J0(k r sin t) exp(i phase) dt
    I1 = integral sqrt(cos t) sin t sin t       J1(k r sin t) exp(i phase) dt
    I2 = integral sqrt(cos t) sin t (1 - cos t) J2(k r sin t) exp(i phase) dt
    intensity = |I0|^2 + 2 |I1|^2 + |I2|^2

`t` is the angle of a ray in the immersion and `k` the wave number there. The phase holds the
defocus and, where the specimen has another refractive index, the spherical aberration that the
cover glass adds (Gibson and Lanni, J. Opt. Soc. Am. A 9, 1992). The loss of light at the cover
glass is left out.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import jv

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.psf import disk

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.optics.stack_optics import StackOptics

_SAMPLES_PER_PIXEL = 3  # a camera sums the light over the area of a pixel
# The haze of wide-field stacks comes from far: less reach was measured to cost half of the gain.
_DEPTH_REACH = 24.0  # micrometres from the middle of a PSF to its first plane, at most,
_DEPTHS_OF_FIELD = 10  # or this many depths of field, if that is more
_SIDE_REACH = 10.0  # micrometres from the middle of a PSF to its side, at most,
_SIDE_AIRY = 10  # or this many radii of the Airy disk, if that is more,
_SIDE_PIXELS = 48  # and never more pixels than this


def psf_shape(optics: StackOptics, planes: int) -> tuple[int, int, int]:
    """Give the shape ``(Z, Y, X)`` of a PSF that is wide enough for the haze of a stack.

    It reaches over all planes, but not farther than 24 micrometres or 10 depths of field along Z.
    To the sides it follows the cone of light, up to 10 micrometres and 48 pixels.

    Parameters
    ----------
    optics
        The microscope.
    planes
        Number of planes of the stack, at least 2.

    Raises
    ------
    SettingsError
        There is one plane only.
    """
    if planes < 2:
        raise SettingsError(
            f"A volume needs two planes along Z or more (got {planes}). Use depth='planes'."
        )
    field = optics.emission * optics.immersion_index / optics.na**2
    reach = max(_DEPTH_REACH, _DEPTHS_OF_FIELD * field)
    half_z = min(planes - 1, math.ceil(reach / optics.z_step))
    airy = 0.61 * optics.emission / optics.na
    slope = math.tan(math.asin(optics.na / optics.immersion_index))
    side = min(half_z * optics.z_step * slope + 3 * airy, max(_SIDE_REACH, _SIDE_AIRY * airy))
    half_y = min(math.ceil(side / optics.pixel_size), _SIDE_PIXELS)
    return 2 * half_z + 1, 2 * half_y + 1, 2 * half_y + 1


@lru_cache(maxsize=8)
def stack_psf(optics: StackOptics, shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Compute the PSF of a microscope, integrated over the area of a pixel.

    Parameters
    ----------
    optics
        The microscope.
    shape
        ``(Z, Y, X)``, all odd; see `psf_shape`.

    Returns
    -------
    ndarray
        Float32 of sum 1 and not negative. The brightest plane is the middle one. Treat it as
        read-only: it is cached.
    """
    from scipy.signal import fftconvolve  # loading it takes half a second

    if any(n % 2 == 0 for n in shape):
        raise SettingsError(f"A PSF has odd sides (got {shape}).")
    psf = _intensity(optics, optics.emission, shape)
    if optics.modality in ("confocal", "spinning-disk"):
        excitation = optics.excitation or 0.93 * optics.emission
        radius = optics.pinhole * 0.61 * optics.emission / optics.na / optics.pixel_size
        pinhole = disk(max(radius, 0.5))
        psf = np.stack([fftconvolve(plane, pinhole, mode="same") for plane in psf]).clip(min=0)
        psf *= _intensity(optics, excitation, shape)
    elif optics.modality == "light-sheet":
        z = (np.arange(shape[0]) - shape[0] // 2) * optics.z_step
        psf *= np.exp(-4 * math.log(2) * (z / optics.sheet_thickness) ** 2)[:, None, None]
    result: NDArray[np.float32] = (psf / psf.sum()).astype(np.float32)
    result.setflags(write=False)
    return result


def _intensity(
    optics: StackOptics, wavelength: float, shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Compute the intensity of a point at ``(Z, Y, X)`` voxels around its brightest plane."""
    z = (np.arange(shape[0]) - shape[0] // 2) * optics.z_step
    half = max(shape[1:]) // 2 + 1
    sub = (np.arange(_SAMPLES_PER_PIXEL) + 0.5) / _SAMPLES_PER_PIXEL - 0.5
    y, x = ((np.arange(n) - n // 2)[:, None] + sub for n in shape[1:])
    distance = np.hypot(y.reshape(-1, 1), x.reshape(1, -1)) * optics.pixel_size
    fine = min(optics.pixel_size / (2 * _SAMPLES_PER_PIXEL), wavelength / optics.na / 16)
    r = fine * np.arange(math.ceil(math.sqrt(2) * half * optics.pixel_size / fine) + 2)
    radial = _radial(optics, wavelength, z + _focal_shift(optics, wavelength), r)
    planes = [
        np.interp(distance, r, profile)
        .reshape(shape[1], _SAMPLES_PER_PIXEL, shape[2], _SAMPLES_PER_PIXEL)
        .mean(axis=(1, 3))
        for profile in radial
    ]
    return np.stack(planes)


def _focal_shift(optics: StackOptics, wavelength: float) -> float:
    """Find the defocus in micrometres at which a point is brightest; 0 for equal indices."""
    if optics.specimen_depth == 0 or optics.index == optics.immersion_index:
        return 0.0
    found, reach = 0.0, optics.specimen_depth
    for _ in range(2):  # coarse, then fine
        z = found + np.linspace(-1, 1, 801) * reach
        axial = _radial(optics, wavelength, z, np.zeros(1))[:, 0]
        found, reach = float(z[np.argmax(axial)]), reach / 50
    return found


def _radial(
    optics: StackOptics, wavelength: float, z: NDArray[np.floating], r: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Compute the intensity ``(Z, R)`` at defocus `z` and distance `r` from the axis, in um."""
    n1, n2, k0 = optics.immersion_index, optics.index, 2 * math.pi / wavelength
    # Rays beyond the critical angle of the specimen do not reach it.
    largest = math.asin(min(optics.na, 0.999 * n2) / n1)
    cos2 = math.sqrt(1 - (n1 * math.sin(largest) / n2) ** 2)
    depth = optics.specimen_depth
    turns = k0 * n1 * (np.abs(z).max() * (1 - math.cos(largest)) + r.max() * math.sin(largest))
    turns += k0 * depth * abs(n2 * (1 - cos2) - n1 * (1 - math.cos(largest)))
    nodes, weights = np.polynomial.legendre.leggauss(int(48 + turns / 2))
    t, weights = (nodes + 1) / 2 * largest, weights * largest / 2
    sin, cos = np.sin(t), np.cos(t)
    aberration = k0 * depth * (n2 * np.sqrt(1 - (n1 * sin / n2) ** 2) - n1 * cos)
    waves = np.exp(1j * (aberration - k0 * n1 * np.outer(z, cos - 1)))
    base, kr = weights * np.sqrt(cos) * sin, k0 * n1 * np.outer(sin, r)
    squares = [
        np.abs(waves @ ((base * factor)[:, None] * jv(order, kr))) ** 2
        for order, factor in ((0, 1 + cos), (1, sin), (2, 1 - cos))
    ]
    total: NDArray[np.float64] = squares[0] + 2 * squares[1] + squares[2]
    return total
