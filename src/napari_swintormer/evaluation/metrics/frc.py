"""Fourier ring correlation: down to which period two images agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLD = 1 / 7  # the fixed threshold of the literature on single images


def ring_correlation(
    image: NDArray[Any], reference: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlate two images frequency by frequency.

    Parameters
    ----------
    image, reference
        ``(Y, X)`` of equal shape; a Hann window fades them out towards their borders.

    Returns
    -------
    frequencies, correlations
        Middle of each ring in periods per pixel, up to 0.5, and the correlation in it, -1 to 1.

    Raises
    ------
    ImageError
        If the shapes differ, or are not those of a grey image.
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
    number = np.minimum((radius * 2 * rings).astype(int), rings).ravel()  # the corners are the last

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(number, values.ravel(), rings + 1)[:rings].astype(np.float64)

    power = np.sqrt(total(np.abs(a) ** 2) * total(np.abs(b) ** 2))
    common = total((a * b.conj()).real)
    correlations = np.divide(common, power, out=np.zeros(rings), where=power > 0)
    return (np.arange(rings) + 0.5) / (2 * rings), correlations


def resolution(image: NDArray[Any], reference: NDArray[Any]) -> float:
    """Period in pixels below which an image no longer correlates with its sharp reference.

    Where the ring correlation, smoothed over five rings, first falls below `THRESHOLD`, between
    the rings by interpolation. At least 2, the finest period that pixels can hold.

    Parameters
    ----------
    image, reference
        ``(Y, X)`` or, averaged over colours, ``(Y, X, S)``.

    Raises
    ------
    ImageError
        If the shapes differ.
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
    before, after = smooth[first - 1], smooth[first]
    share = (before - THRESHOLD) / (before - after)
    return float(
        1 / (frequencies[first - 1] + share * (frequencies[first] - frequencies[first - 1]))
    )
