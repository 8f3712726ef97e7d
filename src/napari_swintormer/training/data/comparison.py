"""Measure how two images of a pair differ: shift, intensities, sharpness.

Shift and intensities are measured on coarse structure, which blur leaves alone. Sharpness is
measured on a band of details that noise affects little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

# All sigmas are in pixels.
_COARSE = 4.0  # smooths away the difference that blur makes
_BAND = (1.5, 8.0)  # difference of Gaussians that shifts are measured on
_DETAIL = (1.5, 3.0)  # difference of Gaussians that blur removes
_UPSAMPLING = 20  # shifts are found to 1/20 pixel


@dataclass(frozen=True)
class Comparison:
    """How a sharp image differs from a blurred one.

    Attributes
    ----------
    shift
        ``(dy, dx)`` in pixels: what lies at (y, x) in the blurred image lies at (y + dy, x + dx)
        in the sharp one.
    correlation
        Correlation of the coarse structure after the shift: about 0 for images of different things.
    gain, offset
        ``sharp ≈ gain * blurred + offset`` for the coarse structure, in units of the images.
    detail
        Strength of the details in the sharp image, relative to ``gain`` times the blurred one.
    """

    shift: tuple[float, float]
    correlation: float
    gain: float
    offset: float
    detail: float


def compare(blurred: Sequence[NDArray[Any]], sharp: Sequence[NDArray[Any]]) -> Comparison:
    """Compare regions ``(Y, X)`` of a blurred image with the same regions of a sharp one.

    They are finite, not constant, and at least 16 pixels on a side.
    """
    pairs = [(b.astype(float), s.astype(float)) for b, s in zip(blurred, sharp, strict=True)]
    shift = np.median([_find_shift(b, s) for b, s in pairs], axis=0)
    aligned = [_cut_to_overlap(b, s, np.rint(shift).astype(int)) for b, s in pairs]
    # the shift found in a repeating pattern, or in noise, may not improve the correlation
    if _fit(aligned)[2] < _fit(pairs)[2] + 1e-3:
        shift, aligned = shift if np.abs(shift).max() < 1 else np.zeros(2), pairs
    gain, offset, correlation = _fit(aligned)
    of_blurred, of_sharp = (
        np.mean([np.std(_band(image, _DETAIL)) for image in half])
        for half in zip(*aligned, strict=True)
    )
    return Comparison(
        (float(shift[0]), float(shift[1])),
        correlation,
        gain,
        offset,
        float(of_sharp / max(abs(gain) * of_blurred, np.finfo(float).tiny)),
    )


def _find_shift(blurred: FloatArray, sharp: FloatArray) -> FloatArray:
    """Find the shift of one region by cross-correlation of its middle frequencies."""
    from skimage.registration import phase_cross_correlation

    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in blurred.shape))
    found = phase_cross_correlation(
        _band(blurred, _BAND) * window,
        _band(sharp, _BAND) * window,
        upsample_factor=_UPSAMPLING,
        normalization=None,  # else the noise at frequencies that blur removed would count most
    )
    return -np.asarray(found[0], float)


def _band(image: FloatArray, sigmas: tuple[float, float]) -> FloatArray:
    fine, coarse = (ndimage.gaussian_filter(image, sigma, mode="reflect") for sigma in sigmas)
    return np.asarray(fine - coarse)


def _cut_to_overlap(
    blurred: FloatArray, sharp: FloatArray, shift: NDArray[np.int_]
) -> tuple[FloatArray, FloatArray]:
    """Cut both images to their common part after the sharp one is moved back by `shift`."""
    blurred_part, sharp_part = (
        tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(moved, blurred.shape, strict=True))
        for moved in (shift, -shift)
    )
    return blurred[blurred_part], sharp[sharp_part]


def _fit(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> tuple[float, float, float]:
    """Return gain, offset and correlation of the coarse structure."""
    coarse = [
        np.concatenate([ndimage.gaussian_filter(image, _COARSE).ravel() for image in half])
        for half in zip(*pairs, strict=True)
    ]
    blurred, sharp = (values - values.mean() for values in coarse)
    spread = [float(np.sqrt(np.mean(values**2))) for values in (blurred, sharp)]
    if min(spread) == 0:
        return 0.0, float(coarse[1].mean()), 0.0
    correlation = float(np.mean(blurred * sharp)) / (spread[0] * spread[1])
    # the ratio of the spreads, because noise in one image would bias a line of least squares
    gain = float(np.copysign(spread[1] / spread[0], correlation))
    return gain, float(coarse[1].mean() - gain * coarse[0].mean()), correlation
