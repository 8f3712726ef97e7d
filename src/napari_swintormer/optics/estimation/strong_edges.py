"""Edges as they were before the blur: a smooth image with steps, and its strongest gradients.

All functions take and return float32 arrays ``(Y, X)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Mask = NDArray[np.bool_]

_REACH = 2  # pixels, of the bilateral filter
_SPREAD = 2.0  # pixels, of its weights in space
_RANGE = 0.1  # of its weights in intensity, for images with a standard deviation of 0.2
_FAR = 1e4  # from all intensities
_GAUSSIAN = np.exp(-0.5 * np.arange(4) ** 2)  # from its middle on, with a sigma of 1 pixel
_GAUSSIAN /= 2 * _GAUSSIAN.sum() - _GAUSSIAN[0]
_STRONG = (1.0, 0.1, 0.0)  # times the mean power: gradients that are looked at, in turn


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
    keep = np.zeros(power.shape, bool)
    for places in _by_direction(along_y, along_x, power, count):
        found = power.ravel()[places]
        if len(found):
            first = max(0, len(found) - count)
            keep.ravel()[places[found >= np.partition(found, first)[first]]] = True
    return keep


def _by_direction(
    along_y: Floats, along_x: Floats, power: Floats, count: int
) -> list[NDArray[np.intp]]:
    """Give the flat places of gradients, for each range of direction.

    Weak gradients are left out where every range has `count` stronger ones.
    """
    for share in _STRONG:
        places = np.flatnonzero(power > share * power.mean())
        y, x = along_y.ravel()[places], along_x.ravel()[places]
        ranges = 2 * (x * y < 0) + (np.abs(y) > np.abs(x))
        chosen = [places[ranges == k] for k in range(4)]
        if min(map(len, chosen)) >= count:
            break
    return chosen


def _bilateral(image: Floats) -> Floats:
    """Average each pixel with its neighbours that are alike; each pair is weighed once.

    Pixels lie in one row, which is fastest. Margins far from all intensities keep the ends of the
    image's rows apart: their weight is zero.
    """
    apart = np.pad(image, ((0, 0), (_REACH, _REACH)), constant_values=_FAR)
    pixels, total = apart.ravel(), apart.flatten()
    weights, size = np.ones_like(pixels), apart.shape[1]
    shifts = range(-_REACH, _REACH + 1)
    for dy, dx in ((y, x) for y in shifts for x in shifts if (y, x) > (0, 0)):
        step = dy * size + dx
        here, there = pixels[:-step], pixels[step:]
        weight = here - there
        weight *= weight
        weight *= np.float32(-1 / (2 * _RANGE**2))
        weight -= np.float32((dy * dy + dx * dx) / (2 * _SPREAD**2))
        np.exp(weight, out=weight)
        total[:-step] += weight * there
        weights[:-step] += weight
        total[step:] += weight * here
        weights[step:] += weight
    total /= weights
    return total.reshape(apart.shape)[:, _REACH:-_REACH]


def _shock(image: Floats) -> Floats:
    """Move each pixel away from the middle of the edge that it lies on, by one step."""
    smooth = _smoothed(_smoothed(image, 0), 1)
    gy, gx = _central(smooth, 0), _central(smooth, 1)
    bend = gy * gy
    bend *= _central(gy, 0)
    mixed = 2 * gy
    mixed *= gx
    mixed *= _central(gy, 1)
    bend += mixed
    gxx = _central(gx, 1)
    gx *= gx
    gx *= gxx
    bend += gx
    slope = np.hypot(_smaller_step(image, 0), _smaller_step(image, 1))
    slope *= np.sign(bend)
    shocked: Floats = image - slope
    return shocked


def _smoothed(image: Floats, axis: int) -> Floats:
    """Convolve with a Gaussian along an axis; the image is mirrored at its ends."""
    reach = len(_GAUSSIAN) - 1
    pads = [(reach, reach) if a == axis else (0, 0) for a in (0, 1)]
    wide = np.ascontiguousarray(np.pad(image, pads, "symmetric"))
    step, pixels = (1 if axis else wide.shape[1]), wide.astype(np.float64).ravel()
    size = pixels.size - 2 * reach * step
    smooth = _GAUSSIAN[0] * pixels[reach * step :][:size]
    for k in range(reach, 0, -1):
        both = pixels[(reach - k) * step :][:size] + pixels[(reach + k) * step :][:size]
        both *= _GAUSSIAN[k]
        smooth += both
    wide.ravel()[:size] = smooth
    height, width = image.shape
    return np.ascontiguousarray(wide[:height, :width])


def _central(image: Floats, axis: int) -> Floats:
    """Give the differences of the neighbours along an axis: twice the gradient."""
    step, pixels = (1 if axis else image.shape[1]), image.ravel()
    difference = np.empty(image.shape, image.dtype)
    np.subtract(pixels[2 * step :], pixels[: -2 * step], out=difference.ravel()[step:-step])
    along, out = np.moveaxis(image, axis, 0), np.moveaxis(difference, axis, 0)
    out[0], out[-1] = 2 * (along[1] - along[0]), 2 * (along[-1] - along[-2])
    return difference


def _smaller_step(image: Floats, axis: int) -> Floats:
    """Give the smaller of the steps to both neighbours, or 0 at an extremum and at the border."""
    step, pixels = (1 if axis else image.shape[1]), image.ravel()
    steps, smaller = pixels[step:] - pixels[:-step], np.empty(image.shape, image.dtype)
    inside = smaller.ravel()[step:-step]
    np.maximum(steps[:-step], steps[step:], out=inside)
    np.negative(inside, out=inside)
    np.maximum(inside, np.minimum(steps[:-step], steps[step:]), out=inside)
    np.maximum(inside, 0, out=inside)
    ends = np.moveaxis(smaller, axis, 0)
    ends[0] = ends[-1] = 0
    return smaller
