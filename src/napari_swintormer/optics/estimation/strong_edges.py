"""Edges as they were before the blur: a smooth image with steps, and its strongest gradients.

All functions take and return float32 arrays ``(Y, X)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]

_REACH = 2  # pixels, of the bilateral filter
_SPREAD = 2.0  # pixels, of its weights in space
_RANGE = 0.1  # of its weights in intensity, for images with a standard deviation of 0.2


def sharpened_edges(image: Floats) -> Floats:
    """Smooth an image but keep its edges, and turn soft edges into steps.

    A bilateral filter removes noise and ringing. One step of a shock filter follows.
    """
    return _shock(_bilateral(image))


def gradients(image: Floats) -> tuple[Floats, Floats]:
    """Differences to the next pixel along y and along x; the image repeats itself at its end."""
    return (
        np.diff(image, axis=0, append=image[:1]),
        np.diff(image, axis=1, append=image[:, :1]),
    )


def shrunk_gradients(image: Floats, by: float) -> tuple[Floats, Floats]:
    """Gradients of an image, each shorter by `by` at most down to zero."""
    along_y, along_x = gradients(image)
    length = np.hypot(along_y, along_x)
    rest = np.maximum(1 - np.float32(by) / np.maximum(length, np.float32(1e-8)), 0)
    return along_y * rest, along_x * rest


def strongest(along_y: Floats, along_x: Floats, inside: Mask, count: int) -> Mask:
    """Mark the `count` strongest gradients of each of four ranges of direction."""
    power = along_x * along_x + along_y * along_y
    power[~inside] = 0
    ranges = 2 * (along_x * along_y < 0) + (np.abs(along_y) > np.abs(along_x))
    keep = np.zeros(power.shape, bool)
    for k in range(4):
        found = power[(ranges == k) & (power > 0)]
        if len(found):
            first = max(0, len(found) - count)
            keep |= (ranges == k) & (power >= np.partition(found, first)[first]) & (power > 0)
    return keep


def _bilateral(image: Floats) -> Floats:
    """Average each pixel with its neighbours that are alike; each pair is weighed once."""
    height, width = image.shape
    total, weights = image.copy(), np.ones_like(image)
    shifts = range(-_REACH, _REACH + 1)
    for dy, dx in ((y, x) for y in shifts for x in shifts if (y, x) > (0, 0)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        weight = image[here] - image[there]
        weight *= weight
        weight *= np.float32(-1 / (2 * _RANGE**2))
        weight -= np.float32((dy * dy + dx * dx) / (2 * _SPREAD**2))
        np.exp(weight, out=weight)
        total[here] += weight * image[there]
        weights[here] += weight
        total[there] += weight * image[here]
        weights[there] += weight
    smooth: Floats = total / weights
    return smooth


def _shock(image: Floats) -> Floats:
    """Move each pixel away from the middle of the edge that it lies on, by one step."""
    smooth = ndimage.gaussian_filter(image, 1.0, truncate=3.0)
    gy, gx = np.gradient(smooth)
    gyy, gyx = np.gradient(gy)
    gxx = np.gradient(gx, axis=1)
    bend = gy * gy * gyy + 2 * gy * gx * gyx + gx * gx * gxx
    slope = np.hypot(_smaller_step(image, 0), _smaller_step(image, 1))
    shocked: Floats = image - np.sign(bend) * slope
    return shocked


def _smaller_step(image: Floats, axis: int) -> Floats:
    """Give the smaller of the steps to both neighbours, or 0 at an extremum and at the border."""
    edge = np.take(image, [0], axis), np.take(image, [-1], axis)
    before = np.diff(image, axis=axis, prepend=edge[0])
    after = np.diff(image, axis=axis, append=edge[1])
    step: Floats = np.where(before * after > 0, np.minimum(np.abs(before), np.abs(after)), 0)
    return step
