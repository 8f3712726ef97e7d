"""Fourier ring correlation: the finest period at which two images still agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLD = 1 / 7  # the usual fixed threshold for single images


def resolution(image: NDArray[Any], reference: NDArray[Any]) -> float:
    """Period in pixels below which an image no longer correlates with its sharp reference.

    The ring correlation is smoothed over five rings. The result is where it first falls below
    `THRESHOLD`, interpolated between the rings, and at least 2, the finest period of a pixel grid.
    Images are ``(Y, X)``, or ``(Y, X, S)`` and then averaged over the colours.
    """
    grey = [x.mean(axis=2) if x.ndim == 3 else x for x in (image, reference)]
    frequencies, correlations = ring_correlation(*grey)
    padded = np.pad(correlations, 2, mode="edge")
    smooth = np.convolve(padded, np.full(5, 0.2), mode="valid")
    below = np.flatnonzero(smooth < THRESHOLD)
    if not below.size:
        return 2.0
    first = int(below[0])
    if first == 0:
        return float(1 / frequencies[0])
    falling = smooth[[first, first - 1]]
    return float(1 / np.interp(THRESHOLD, falling, frequencies[[first, first - 1]]))


def ring_correlation(
    image: NDArray[Any], reference: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlate two ``(Y, X)`` images frequency by frequency.

    A Hann window fades both images out towards their borders. The first array has the middle of
    each ring in periods per pixel, up to 0.5; the second the correlation in the ring, -1 to 1.
    """
    if image.shape != reference.shape or image.ndim != 2:
        raise ImageError(
            "image and reference must be grey and have the same shape (got "
            f"{image.shape} and {reference.shape}). Crop or register them first."
        )
    height, width = image.shape
    fade = np.outer(np.hanning(height), np.hanning(width))
    a, b = (
        np.fft.rfft2((x - x.mean()) * fade) for x in (image.astype(float), reference.astype(float))
    )
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    rings = min(height, width) // 2
    # the last number collects the corners, which are not used
    number = np.minimum((radius * 2 * rings).astype(int), rings).ravel()

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(number, values.ravel(), rings + 1)[:rings].astype(np.float64)

    power = np.sqrt(total(np.abs(a) ** 2) * total(np.abs(b) ** 2))
    common, correlations = total((a * b.conj()).real), np.zeros(rings)
    np.divide(common, power, out=correlations, where=power > 0)
    return (np.arange(rings) + 0.5) / (2 * rings), correlations
