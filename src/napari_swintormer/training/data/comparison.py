"""How the two images of a pair lie to each other: shift, intensities, sharpness.

Everything is measured on what blur leaves alone, the coarse structure, but for the sharpness, which
is measured on a band of details that noise reaches little.
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

_COARSE = 4.0  # sigma in pixels: blur of this width is no obstacle to comparing intensities
_BAND = (1.5, 8.0)  # sigmas of the difference of Gaussians that a shift is seen in
_DETAIL = (1.5, 3.0)  # and of the details that blur takes away
_UPSAMPLING = 20  # shifts are found to a twentieth of a pixel


@dataclass(frozen=True)
class Comparison:
    """What a pair of images looks like, measured on a sample of both.

    Attributes
    ----------
    shift
        ``(dy, dx)`` in pixels: what lies at (y, x) in the blurred image lies at (y + dy, x + dx)
        in the sharp one.
    correlation
        Of the coarse structure, after the shift: 1 for images of the same thing, about 0 for
        images of different things.
    gain, offset
        ``sharp ≈ gain · blurred + offset`` for the coarse structure, in the images' own units.
    detail
        Strength of the details of the sharp image over those of the blurred one, after `gain`; less
        than 1 where the blurred image is the sharper one.
    """

    shift: tuple[float, float]
    correlation: float
    gain: float
    offset: float
    detail: float


def compare(blurred: Sequence[NDArray[Any]], sharp: Sequence[NDArray[Any]]) -> Comparison:
    """Compare regions of a blurred image with the same regions of a sharp one.

    Parameters
    ----------
    blurred, sharp
        Regions ``(Y, X)`` in the same order and of the same shapes, finite, none of them constant,
        at least 16 pixels on a side.
    """
    pairs = [(b.astype(float), s.astype(float)) for b, s in zip(blurred, sharp, strict=True)]
    shifts = [_shift(b, s) for b, s in pairs]
    shift = np.median(shifts, axis=0)
    aligned = [_cut_to_overlap(b, s, np.rint(shift).astype(int)) for b, s in pairs]
    unmoved = [_cut_to_overlap(b, s, np.zeros(2, int)) for b, s in pairs]
    # of something that repeats itself, or of nothing at all, the found shift explains nothing
    if _fit(aligned)[2] < _fit(unmoved)[2] + 1e-3:
        shift, aligned = shift if np.abs(shift).max() < 1 else np.zeros(2), unmoved
    gain, offset, correlation = _fit(aligned)
    strength = [np.std(_band(image, _DETAIL)) for pair in aligned for image in pair]
    of_blurred, of_sharp = np.mean(strength[::2]), np.mean(strength[1::2])
    return Comparison(
        (float(shift[0]), float(shift[1])),
        correlation,
        gain,
        offset,
        float(of_sharp / max(abs(gain) * of_blurred, np.finfo(float).tiny)),
    )


def _shift(blurred: FloatArray, sharp: FloatArray) -> FloatArray:
    """Find the shift of one region by cross-correlation of its band of middle frequencies."""
    from skimage.registration import phase_cross_correlation

    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in blurred.shape))
    found = phase_cross_correlation(
        _band(blurred, _BAND) * window,
        _band(sharp, _BAND) * window,
        upsample_factor=_UPSAMPLING,
        normalization=None,  # whitening would weigh the noise of the lost frequencies most
    )
    return -np.asarray(found[0], float)


def _band(image: FloatArray, sigmas: tuple[float, float]) -> FloatArray:
    fine, coarse = (ndimage.gaussian_filter(image, sigma, mode="reflect") for sigma in sigmas)
    return np.asarray(fine - coarse)


def _cut_to_overlap(
    blurred: FloatArray, sharp: FloatArray, shift: NDArray[np.int_]
) -> tuple[FloatArray, FloatArray]:
    """Cut both to what they have in common when the sharp one is moved back by `shift` pixels."""
    ours, theirs = [], []
    for d, n in zip(shift, blurred.shape, strict=True):
        ours.append(slice(max(0, -d), n - max(0, d)))
        theirs.append(slice(max(0, d), n - max(0, -d)))
    return blurred[tuple(ours)], sharp[tuple(theirs)]


def _fit(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> tuple[float, float, float]:
    """Gain, offset and correlation of the coarse structure."""
    coarse = [
        np.concatenate([ndimage.gaussian_filter(pair[k], _COARSE).ravel() for pair in pairs])
        for k in (0, 1)
    ]
    blurred, sharp = (values - values.mean() for values in coarse)
    spread = [float(np.sqrt(np.mean(values**2))) for values in (blurred, sharp)]
    if min(spread) == 0:
        return 0.0, float(coarse[1].mean()), 0.0
    correlation = float(np.mean(blurred * sharp)) / (spread[0] * spread[1])
    # The line of equal spreads: noise in one image would flatten a line of least squares.
    gain = float(np.copysign(spread[1] / spread[0], correlation))
    return gain, float(coarse[1].mean() - gain * coarse[0].mean()), correlation
