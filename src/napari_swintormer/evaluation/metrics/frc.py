"""Fourier ring correlation: the finest period at which two images or volumes still agree."""

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
    return _period(*ring_correlation(*grey))


def lateral_resolution(image: NDArray[Any], reference: NDArray[Any]) -> float:
    """Period in pixels below which the planes of a volume no longer correlate, see `resolution`.

    The rings of all planes of the ``(Z, Y, X)`` volumes count together.
    """
    return _period(*_correlation([(image, reference)], axial=False))


def axial_resolution(image: NDArray[Any], reference: NDArray[Any]) -> float:
    """Period in planes below which a volume no longer correlates along Z, see `resolution`.

    All XZ and YZ sections count together. Of a section count the frequencies that are nearer to
    the Z axis than to the other one, in periods per plane and per pixel.
    """
    sections = [(np.moveaxis(image, axis, 0), np.moveaxis(reference, axis, 0)) for axis in (1, 2)]
    return _period(*_correlation(sections, axial=True))


def _period(frequencies: NDArray[np.float64], correlations: NDArray[np.float64]) -> float:
    """Find the period at which the smoothed correlation falls below the threshold."""
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
    return _correlation([(image[None], reference[None])], axial=False)


def _correlation(
    pairs: list[tuple[NDArray[Any], NDArray[Any]]], *, axial: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Correlate pairs of arrays of sections ``(N, H, W)``, with the rings of all together.

    With `axial`, the rings become bands of frequencies along H, within 45 degrees of that axis.
    """
    _, height, width = pairs[0][0].shape
    rings = (height if axial else min(height, width)) // 2
    common, power, other = np.zeros((3, rings))
    for image, reference in pairs:
        for x, y in zip(image, reference, strict=True):
            sums = _sums(x.astype(float), y.astype(float), rings, axial=axial)
            common, power, other = common + sums[0], power + sums[1], other + sums[2]
    norm, correlations = np.sqrt(power * other), np.zeros(rings)
    np.divide(common, norm, out=correlations, where=norm > 0)
    return (np.arange(rings) + 0.5) / (2 * rings), correlations


def _sums(
    image: NDArray[np.float64], reference: NDArray[np.float64], rings: int, *, axial: bool
) -> tuple[NDArray[np.float64], ...]:
    """Sum the common and the own power of two sections over each ring."""
    height, width = image.shape
    fade = np.outer(np.hanning(height), np.hanning(width))
    a, b = (np.fft.rfft2((x - x.mean()) * fade) for x in (image, reference))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(down, across)
    if axial:
        radius = np.where(across <= np.abs(down), np.abs(down), 1.0)
    # the last number collects the corners, which are not used
    number = np.minimum((radius * 2 * rings).astype(int), rings).ravel()

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(number, values.ravel(), rings + 1)[:rings].astype(np.float64)

    return total((a * b.conj()).real), total(np.abs(a) ** 2), total(np.abs(b) ** 2)
