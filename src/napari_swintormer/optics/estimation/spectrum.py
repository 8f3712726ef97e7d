"""What the blur of a window is told from: its power spectrum, and how rare its details are.

Blur multiplies the power spectrum by its squared OTF. Of two images with the same spectrum, the one
with sharper edges has rarer and stronger details: in each band of frequencies, few pixels hold most
of the power.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import fft

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 48
EDGES = np.geomspace(0.015, 0.5, BINS + 1)  # cycles per pixel, of the bins of the spectrum
_MIDDLES = np.sqrt(EDGES[1:] * EDGES[:-1])
_BANDS = np.geomspace(0.04, 0.42, 8)  # cycles per pixel, middles of the bands
_OCTAVES = 0.35  # standard deviation of a band
_TOP = 50  # one pixel of so many counts as a strong detail
LEVEL = slice(12)  # bins whose mean is the level of a spectrum: the coarsest frequencies


def describe_window(light: NDArray[np.float32]) -> NDArray[np.float64]:
    """Describe a window of linear light ``(Y, X)`` as `describe_windows` does."""
    described: NDArray[np.float64] = describe_windows(light[None])[0]
    return described


def describe_windows(lights: NDArray[np.float32]) -> NDArray[np.float64]:
    """Describe each of several windows of linear light ``(N, Y, X)`` in 73 numbers.

    The first 48 are logarithms of the mean power in bins of frequencies, relative to their level;
    then the level; then three numbers on the strength of details in each of eight bands.
    """
    grid = _grid(lights.shape[1:])
    means = (lights * grid.taper).sum(axis=(1, 2)) / grid.taper.sum()
    spectra = fft.rfft2((lights - means[:, None, None]) * grid.taper)
    powers = (spectra.real**2 + spectra.imag**2) / float((grid.taper**2).sum())
    bins = grid.bins.ravel()
    sums = np.stack([np.bincount(bins, p.ravel(), minlength=BINS + 1)[:BINS] for p in powers])
    known = grid.counts > 0
    logs = np.log(sums[:, known] / grid.counts[known] + 1e-14)
    if not known.all():  # a small window has no frequency in some bins
        at, given = np.log(_MIDDLES), np.log(_MIDDLES[known])
        logs = np.stack([np.interp(at, given, each) for each in logs])
    levels = logs[:, LEVEL].mean(axis=1, keepdims=True)
    details = [_details(spectra, grid, middle) for middle in _BANDS]
    return np.concatenate([logs - levels, levels / 3, *details], axis=1)


class _Grid(NamedTuple):
    """Frequencies of a window's spectrum."""

    frequency: NDArray[np.float32]  # of `rfft2`, in cycles per pixel
    bins: NDArray[np.intp]  # number of the bin of each; BINS for none
    counts: NDArray[np.intp]  # frequencies in each bin
    taper: NDArray[np.float32]  # Hann window


@lru_cache(maxsize=4)
def _grid(shape: tuple[int, ...]) -> _Grid:
    height, width = shape
    v, u = fft.fftfreq(height)[:, None], fft.rfftfreq(width)[None]
    frequency = np.hypot(v, u)
    bins = np.searchsorted(EDGES, frequency, side="right") - 1
    outside = (bins < 0) | (bins >= BINS) | (v == 0) | (u == 0)  # the axes hold the borders
    bins = np.where(outside, BINS, bins)
    counts = np.bincount(bins.ravel(), minlength=BINS + 1)[:BINS]
    taper = np.outer(_hann(height), _hann(width)).astype(np.float32)
    return _Grid(frequency.astype(np.float32), bins, counts, taper)


def _hann(size: int) -> NDArray[np.float64]:
    """Hann window; it is nowhere zero."""
    window: NDArray[np.float64] = 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size)
    return window


def _details(spectra: NDArray[np.complex64], grid: _Grid, middle: float) -> NDArray[np.float64]:
    """Measure how rare details are in a band, ``(N, 3)``, as logarithms.

    They are kurtosis, strongest and median power. Powers are relative to the mean power of the
    band, over the inner three quarters of a window.
    """
    shape = grid.taper.shape
    octaves = np.log2(np.maximum(grid.frequency, 1e-6) / middle)
    # a low band needs no more pixels than twice its frequency
    highest = min(0.5, 2 * middle)
    rows, columns = (max(8, int(highest * size)) for size in shape)
    if 2 * rows < shape[0] and columns < spectra.shape[2] - 1:
        kept = np.r_[:rows, shape[0] - rows : shape[0]]
        spectra, octaves = spectra[:, kept, : columns + 1], octaves[kept, : columns + 1]
        shape = (2 * rows, 2 * columns)
    gain = np.exp(-0.5 * (octaves / _OCTAVES) ** 2).astype(np.float32)
    bands = fft.irfft2(spectra * gain, shape)
    rows_in, columns_in = (slice(size // 8, size - size // 8) for size in shape)
    taper = np.outer(_hann(shape[0])[rows_in], _hann(shape[1])[columns_in])
    powers = ((bands[:, rows_in, columns_in] / taper) ** 2).reshape(len(bands), -1)
    means = powers.mean(axis=1) + 1e-20
    strongest = max(4, powers.shape[1] // _TOP)
    ranked = np.partition(powers, powers.shape[1] - strongest, axis=1)
    top = ranked[:, -strongest:].mean(axis=1)
    measured = np.mean(powers**2, axis=1) / means**2, top / means, np.median(powers, axis=1) / means
    return np.log(np.stack(measured, axis=1) + 1e-6)
