"""PSFs of microscopes in physical units; lengths are in micrometres.

A PSF turns the image in focus into the image out of focus *of an object*. The same microscope makes
both halves of a training pair, the sharp one with ``depth=0``: a network is never asked for more
than the microscope in focus shows.

In transmitted light the object is taken to be weak: it absorbs and delays little. The image is then
linear in the object, even where the light is partly coherent. Let P be the pupil of the objective
and S the part of it that the condenser lights. Let h and g be the Fourier transforms of P and P·S.
The sum over all points of the condenser gives the PSF ``Re(h g*)`` for absorption and ``Im(h g*)``
for phase. With a condenser as wide as the objective (S = 1) this is the incoherent ``|h|²``. A
narrower condenser gives negative lobes: out of focus, dark turns to bright. The approximation
leaves out light that is diffracted twice, and thick objects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.optics.psf import amplitude, integrate_pixels, pupil_grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.optics.psf import PSF

_LARGEST_HALF = 32  # pixels from the middle of a PSF to its border, at most


@dataclass(frozen=True)
class Microscope:
    """An objective, and the pixels behind it. Aberrations are waves at the rim of the pupil."""

    aperture: float  # numerical aperture NA, less than `index`
    wavelength: float  # of the light in air, in micrometres
    pixel: float  # side of a pixel on the object, in micrometres
    index: float = 1.0  # refractive index around the object: 1 air, 1.33 water, 1.52 oil
    spherical: float = 0.0
    astigmatism: float = 0.0
    axis: float = 0.0  # of the astigmatism, in radians

    @property
    def cutoff(self) -> float:
        """Highest frequency of an incoherent image, in cycles per pixel."""
        return 2 * self.aperture / self.wavelength * self.pixel

    def depth_of(self, radius: float) -> float:
        """Distance from the focus, in µm, whose geometric blur circle has `radius` pixels."""
        sine = self.aperture / self.index
        return radius * self.pixel * math.sqrt(1 - sine**2) / sine

    def fluorescence(self, depth: float, *, confocal: bool = False) -> PSF:
        """PSF of an object that emits light, `depth` µm away from the focus.

        A `confocal` pinhole squares the PSF: light passes the lens twice.
        """
        intensity = np.abs(amplitude(self._pupil(depth), self.cutoff, self._half(depth))) ** 2
        return integrate_pixels(intensity**2 if confocal else intensity)

    def transmission(self, depth: float, *, condenser: float, phase: float = 0.0) -> PSF:
        """PSF of a weak object in transmitted light, `depth` µm away from the focus.

        `condenser` is its numerical aperture over that of the objective, 0.1 to 1: a smaller one
        makes the light more coherent. `phase` tells how much the object delays the light, relative
        to how much it absorbs; with it, the two sides of the focus differ.
        """
        pupil = self._pupil(depth)
        v, u = pupil_grid()
        lit = 1 / (1 + np.exp((np.hypot(v, u) - condenser) / 0.03))  # a soft border rings less
        half = self._half(depth, lobes=5)
        passed = amplitude(pupil, self.cutoff, half)
        source = amplitude(pupil * lit, self.cutoff, half)
        product = passed * source.conj()
        return integrate_pixels((product.real + phase * product.imag) * _fade(len(product)))

    def _half(self, depth: float, lobes: float = 2.5) -> int:
        """Pixels from the middle of the PSF to its border."""
        sine = self.aperture / self.index
        radius = abs(depth) * sine / math.sqrt(1 - sine**2) / self.pixel
        return min(_LARGEST_HALF, math.ceil(radius + lobes / self.cutoff))

    def _pupil(self, depth: float) -> NDArray[np.complex128]:
        """Light in the pupil: the exact phase of defocus at any aperture, and the aberrations."""
        v, u = pupil_grid()
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
    """Window that is 1 in the middle and falls to 0 in the last fifth before the border."""
    distance = np.abs(np.linspace(-1, 1, side))
    window = np.clip((1 - distance) / 0.2, 0, 1)
    smooth = (1 - np.cos(np.pi * window)) / 2
    faded: NDArray[np.float64] = np.outer(smooth, smooth)
    return faded
