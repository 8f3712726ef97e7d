"""Point-spread functions of microscopes, in physical units.

Lengths are in micrometres. A kernel takes the image in focus to the image out of focus *of an
object*: both the sharp and the blurred half of a pair are made by the same microscope, one with
``depth=0``. So nothing is asked of a network that the microscope in focus would not show.

In transmitted light the object is taken to be weak (it absorbs and delays little), and then the
image is linear in the object even where the light is partly coherent. A point of the condenser's
aperture sends a plane wave; it passes the objective's pupil P where that is lit by the source S,
and what the object diffracts passes all of P. With h and g the Fourier transforms of P and of P·S,
summing over the source gives the kernel ``Re(h g*)`` for absorption and ``Im(h g*)`` for phase. As
wide a condenser as the objective (S = 1) gives the incoherent ``|h|²``; a narrower one has negative
lobes, and past the focus dark turns to bright. What the approximation leaves out: light that is
diffracted twice, and thick objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.optics.psf import amplitude, pupil_points, summed_over_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

_REACH = 32  # pixels at most from the middle of a kernel to its border


@dataclass(frozen=True)
class Microscope:
    """An objective, and the pixels behind it.

    Attributes
    ----------
    aperture
        Numerical aperture NA, less than `index`.
    wavelength
        Of the light in air, in micrometres.
    pixel
        Side of a pixel on the object, in micrometres.
    index
        Refractive index of what the object lies in: 1 air, 1.33 water, 1.52 oil.
    spherical, astigmatism
        Zernike-like aberrations in waves at the rim of the pupil.
    axis
        Direction of the astigmatism, in radians.
    """

    aperture: float
    wavelength: float
    pixel: float
    index: float = 1.0
    spherical: float = 0.0
    astigmatism: float = 0.0
    axis: float = 0.0

    @property
    def cutoff(self) -> float:
        """Highest frequency of an incoherent image, in cycles per pixel."""
        return 2 * self.aperture / self.wavelength * self.pixel

    def depth_of(self, radius: float) -> float:
        """Distance from the focus, in µm, whose geometric blur circle has `radius` pixels."""
        sine = self.aperture / self.index
        return radius * self.pixel * math.sqrt(1 - sine**2) / sine

    def fluorescence(self, depth: float, *, confocal: bool = False) -> FloatArray:
        """Kernel of an object that shines by itself, `depth` µm away from the focus.

        A `confocal` pinhole lets the light through once more: the pattern is squared.
        """
        pattern = np.abs(amplitude(self._pupil(depth), self.cutoff, self._half(depth))) ** 2
        return summed_over_pixels(pattern**2 if confocal else pattern)

    def transmission(self, depth: float, *, condenser: float, phase: float = 0.0) -> FloatArray:
        """Kernel of a weak object in transmitted light, `depth` µm away from the focus.

        Parameters
        ----------
        depth
            Positive and negative depths differ where there is `phase`.
        condenser
            Numerical aperture of the condenser over that of the objective, 0.1 to 1: the smaller,
            the more coherent.
        phase
            How much the object delays the light, relative to how much it absorbs.
        """
        pupil = self._pupil(depth)
        v, u = pupil_points()
        lit = 1 / (1 + np.exp((np.hypot(v, u) - condenser) / 0.03))  # a soft border rings less
        half = self._half(depth, lobes=5)
        passed = amplitude(pupil, self.cutoff, half)
        source = amplitude(pupil * lit, self.cutoff, half)
        product = passed * source.conj()
        return summed_over_pixels((product.real + phase * product.imag) * _fade(len(product)))

    def _half(self, depth: float, lobes: float = 2.5) -> int:
        sine = self.aperture / self.index
        radius = abs(depth) * sine / math.sqrt(1 - sine**2) / self.pixel
        return min(_REACH, math.ceil(radius + lobes / self.cutoff))

    def _pupil(self, depth: float) -> NDArray[np.complex128]:
        """Light in the pupil: the exact phase of defocus at any aperture, and the aberrations."""
        v, u = pupil_points()
        square = u * u + v * v
        inside = square <= 1
        axial = np.sqrt(1 - (self.aperture / self.index) ** 2 * np.where(inside, square, 0))
        waves = -depth * self.index / self.wavelength * axial
        waves += self.spherical * (6 * square**2 - 6 * square + 1)
        along = (u * u - v * v) * math.cos(2 * self.axis) + 2 * u * v * math.sin(2 * self.axis)
        waves += self.astigmatism * along
        pupil: NDArray[np.complex128] = np.where(inside, np.exp(2j * np.pi * waves), 0)
        return pupil


def _fade(side: int) -> NDArray[np.float64]:
    """Window that is 1 in the middle and goes to 0 in the last fifth before the border."""
    distance = np.abs(np.linspace(-1, 1, side))
    window = np.clip((1 - distance) / 0.2, 0, 1)
    smooth = (1 - np.cos(np.pi * window)) / 2
    faded: NDArray[np.float64] = np.outer(smooth, smooth)
    return faded
