"""The spectrum of the sharp image behind a blurred one, and of the noise.

Spectra of sharp images differ less than they seem to: their logarithms are a mean and a few
components, which were learned from sharp images of each field. With a blur of the power ``|H|²``
the image has the power ``|H|² S + N``. The components of ``S`` and the noise ``N`` are those that
make the measured power and themselves most probable (Whittle's likelihood). How probable that is
tells which of several blurs fits the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Content = Literal["micrograph", "photo", "photo_light"]
"""What a spectrum is of: intensities of a micrograph, those of a photo, or the light of a photo."""

BINS = np.geomspace(0.004, 0.71, 33)
"""Cycles per pixel between which the power of sharp images is known."""
_RINGS = np.geomspace(0.004, 0.71, 49)  # limits of the cells
_LEVELS = 16  # halvings of |H|² that are told apart
# Frequencies of a spectrum are not independent, and a model is never quite right: the likelihood
# counts as that of so many times fewer frequencies. Chosen on blurred training images.
_SHARING = 128.0
_NOISE_SPREAD = 0.5  # of the logarithm of the noise's power around its estimate
_STEPS, _LONGEST, _ENOUGH = 25, 3.0, 1e-3
_LEAST = 1e-9  # of powers


@dataclass(frozen=True)
class SharpSpectrum:
    """A sharp image's spectrum and the noise, as they fit a blurred image best."""

    signal: FloatArray
    """Power on the half spectrum of the grid asked for; white noise has its variance."""
    noise: float
    """Variance of the noise."""
    misfit: float
    """Minus the logarithm of how probable the image is with this blur, up to a constant."""


def fit_sharp_spectrum(
    spectrum: FloatArray, passed: FloatArray, noise: float, content: Content, grid: int
) -> SharpSpectrum:
    """Fit the spectrum behind a blurred image's.

    Parameters
    ----------
    spectrum
        Mean power of the blurred image, ``(n, n // 2 + 1)``.
    passed
        Share of the power that the blur passes, ``(n, n // 2 + 1)``.
    noise
        Variance of the noise as it was measured in pixels.
    content
        What the image is.
    grid
        Side of the grid that the signal is given on.
    """
    model = _model(content)
    cells = _Cells.of(spectrum, passed)
    basis = model.basis(cells.frequency)
    first = np.log(max(noise, _LEAST))

    def parts(values: FloatArray) -> tuple[FloatArray, FloatArray, float]:
        signal = cells.passed * np.exp(basis[0] + values[:-1] @ basis[1:])
        whole = signal + np.exp(values[-1])
        data = float(cells.weight @ (np.log(whole) + cells.power / whole))
        return signal, whole, data + 0.5 * float(np.square((values - middle) / spread).sum())

    middle = np.append(np.zeros(len(basis) - 1), first)
    spread = np.append(model.deviations, _NOISE_SPREAD)
    values = middle.copy()
    signal, whole, misfit = parts(values)
    for _ in range(_STEPS):
        slopes = np.vstack([basis[1:] * (signal / whole), np.exp(values[-1]) / whole])
        downhill = slopes @ (cells.weight * (cells.power / whole - 1))
        downhill -= (values - middle) / spread**2
        curvature = (slopes * cells.weight) @ slopes.T + np.diag(spread**-2.0)
        step = np.linalg.solve(curvature, downhill)
        step *= min(1.0, _LONGEST / np.abs(step).max())
        better = None
        while better is None and np.abs(step).max() > _ENOUGH:
            tried = parts(values + step)
            better = tried if tried[2] < misfit else None
            step = step if better else step / 2
        if better is None:
            break
        values = values + step
        gained = misfit - better[2]
        signal, whole, misfit = better
        if gained < _ENOUGH:
            break
    whole_basis = _basis_on(content, grid)
    sharp = np.exp(whole_basis[0] + np.tensordot(values[:-1], whole_basis[1:], 1))
    return SharpSpectrum(sharp, float(np.exp(values[-1])), misfit)


@dataclass(frozen=True)
class _Cells:
    """Frequencies of about the same distance from 0 that the blur passes about equally."""

    frequency: FloatArray
    power: FloatArray
    passed: FloatArray
    weight: FloatArray

    @classmethod
    def of(cls, spectrum: FloatArray, passed: FloatArray) -> _Cells:
        side = len(spectrum)
        y, x = np.abs(np.fft.fftfreq(side))[:, None], np.fft.rfftfreq(side)[None]
        # borders of the windows lie on the axes
        used = (y > 1.5 / side) & (x > 1.5 / side)
        distance, power, passed = (a[used] for a in (np.hypot(y, x), spectrum, passed))
        level = np.clip(-np.log2(np.maximum(passed, 1e-9)), 0, _LEVELS - 1).astype(int)
        cell = np.digitize(distance, _RINGS) * _LEVELS + level
        counts = np.bincount(cell)
        full = counts > 0
        means = [
            np.bincount(cell, a)[full] / counts[full] for a in (np.log(distance), power, passed)
        ]
        return cls(
            np.exp(means[0]), means[1], np.maximum(means[2], _LEAST), counts[full] / _SHARING
        )


@dataclass(frozen=True)
class _Model:
    """Mean and components of the logarithms of sharp spectra, at `frequencies`."""

    frequencies: FloatArray
    curves: FloatArray  # (1 + components, frequencies), the mean first
    deviations: FloatArray

    def basis(self, frequency: FloatArray) -> FloatArray:
        """Give mean and components at any frequencies; the ends go on evenly."""
        at = np.log(np.maximum(frequency, BINS[0]))
        return np.stack([np.interp(at, np.log(self.frequencies), c) for c in self.curves])


@lru_cache
def _basis_on(content: Content, grid: int) -> FloatArray:
    """Give mean and components on the half spectrum of a grid."""
    y, x = np.fft.fftfreq(grid)[:, None], np.fft.rfftfreq(grid)
    return _model(content).basis(np.hypot(y, x))


@lru_cache
def _model(content: Content) -> _Model:
    source = files("napari_swintormer.optics").joinpath("sharp_spectra.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return _Model(
            stored["frequencies"].astype(float),
            stored[f"{content}_curves"].astype(float),
            stored[f"{content}_deviations"].astype(float),
        )
