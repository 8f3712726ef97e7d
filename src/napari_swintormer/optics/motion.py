"""Kernels of motion: what a camera that shakes, or a thing that moves, smears over the exposure.

A path is an array ``(T, 2)`` of displacements (y, x) in pixels at equally long instants of the
exposure, around a mean of zero: the sharp image stands in the middle of the motion.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.optics.psf import gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    Path = NDArray[np.float64]

_INSTANTS = 64
_SPACING = 0.25  # pixels between two points of a path, at most
_LENS = 0.6  # radius in pixels of the blur that every lens adds


def shaking_hand(extent: float, rng: np.random.Generator) -> Path:
    """Draw the path of a camera held by hand.

    The velocity wanders at random, keeps some of its direction, and is now and then kicked, as
    when the shutter button is pressed.

    Parameters
    ----------
    extent
        Largest distance between two points of the path, in pixels.
    rng
        Draws everything.
    """
    inertia = rng.uniform(0.7, 0.99)
    kick = rng.uniform(0, 0.05)
    velocity = rng.standard_normal(2)
    steps = np.empty((_INSTANTS, 2))
    for k in range(_INSTANTS):
        if rng.random() < kick:
            velocity = -velocity + rng.standard_normal(2)
        wander = rng.standard_normal(2)
        velocity = inertia * velocity + math.sqrt(1 - inertia**2) * wander
        steps[k] = velocity
    return _scaled(np.cumsum(steps, axis=0), extent)


def moving_thing(extent: float, rng: np.random.Generator) -> Path:
    """Draw the path of a thing that moves by itself: a line, mostly, or a gentle arc.

    Parameters
    ----------
    extent, rng
        See `shaking_hand`.
    """
    turn = rng.normal(0, 0.3)
    headings = rng.uniform(0, 2 * math.pi) + turn * np.linspace(-1, 1, _INSTANTS)
    steps = np.stack([np.sin(headings), np.cos(headings)], axis=1)
    return _scaled(np.cumsum(steps, axis=0), extent)


def rolling(reach: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw how a camera turns around its axis over the exposure.

    Parameters
    ----------
    reach
        Pixels between the two farthest places of a point at the middle of a patch's border.
    rng
        Draws it.

    Returns
    -------
    array
        ``(T,)``, displacement of that point along the border, in pixels; of mean zero.
    """
    places = np.cumsum(np.cumsum(rng.standard_normal(_INSTANTS)) + rng.normal(0, 10))
    places -= places.mean()
    rolled: NDArray[np.float64] = places * (reach / np.ptp(places))
    return rolled


def at_corners(path: Path, roll: NDArray[np.float64]) -> list[Path]:
    """Paths of the corners of a patch whose middle moves along a path, and which turns.

    Parameters
    ----------
    path, roll
        Of the middle, and what `rolling` says of the same instants.

    Returns
    -------
    list
        Of the corners top left, top right, bottom left and bottom right.
    """
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    return [path + np.stack([roll * x, -roll * y], axis=1) for y, x in corners]


def kernel(path: Path) -> FloatArray:
    """Light that a point leaves along a path: an odd square array of sum one.

    Every point of the path is spread over the four pixels around it, and over what a lens blurs.
    """
    length = np.hypot(*np.diff(path, axis=0).T).sum()
    count = max(len(path), math.ceil(length / _SPACING))
    instants = np.linspace(0, len(path) - 1, count)
    points = np.stack([np.interp(instants, np.arange(len(path)), c) for c in path.T], axis=1)
    lens = gaussian(_LENS)
    reach = math.ceil(np.abs(points).max()) + 1
    side = 2 * reach + 1
    corner = np.floor(points).astype(int)
    share = points - corner
    drawn = np.zeros(side * side)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - share[:, 0]) * np.abs(1 - dx - share[:, 1])
            index = (corner[:, 0] + dy + reach) * side + corner[:, 1] + dx + reach
            drawn += np.bincount(index, weight, side * side)
    return _convolved((drawn / count).reshape(side, side), lens)


def _scaled(path: Path, extent: float) -> Path:
    """Centre a path and give it its extent."""
    centred = path - path.mean(axis=0)
    differences = centred[:, None] - centred[None]
    scaled: Path = centred * (extent / np.hypot(differences[..., 0], differences[..., 1]).max())
    return scaled


def _convolved(drawn: NDArray[np.float64], lens: FloatArray) -> FloatArray:
    """Full convolution with a small kernel."""
    half = len(lens) // 2
    wide = np.pad(drawn, 2 * half)
    inner = len(drawn) + 2 * half
    total = np.zeros((inner, inner))
    for y, x in np.ndindex(lens.shape):
        total += lens[y, x] * wide[y : y + inner, x : x + inner]
    return total.astype(np.float32)
