"""PSFs of motion: of a camera that shakes, or of an object that moves during the exposure.

A path is an array ``(T, 2)`` of displacements (y, x) in pixels at equally spaced times. Its mean is
zero: the sharp image stands in the middle of the motion.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.optics.psf import gaussian

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.optics.psf import PSF

    Path = NDArray[np.float64]

_TIMES = 64
_SPACING = 0.25  # largest distance between two points of a drawn path, in pixels
_LENS_RADIUS = 0.6  # pixels; every lens blurs a little


def camera_shake(extent: float, rng: np.random.Generator) -> Path:
    """Draw the path of a camera held by hand; `extent` is its largest distance in pixels.

    The velocity wanders at random and keeps some of its direction. Now and then a kick reverses it,
    as when the shutter button is pressed.
    """
    inertia = rng.uniform(0.7, 0.99)
    kick = rng.uniform(0, 0.05)
    velocity = rng.standard_normal(2)
    steps = np.empty((_TIMES, 2))
    for k in range(_TIMES):
        if rng.random() < kick:
            velocity = -velocity + rng.standard_normal(2)
        wander = rng.standard_normal(2)
        velocity = inertia * velocity + math.sqrt(1 - inertia**2) * wander
        steps[k] = velocity
    return _scaled(np.cumsum(steps, axis=0), extent)


def object_motion(extent: float, rng: np.random.Generator) -> Path:
    """Draw the path of a moving object: nearly a line, or a gentle arc, `extent` pixels long."""
    turn = rng.normal(0, 0.3)
    headings = rng.uniform(0, 2 * math.pi) + turn * np.linspace(-1, 1, _TIMES)
    steps = np.stack([np.sin(headings), np.cos(headings)], axis=1)
    return _scaled(np.cumsum(steps, axis=0), extent)


def camera_roll(reach: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw how a camera turns around its optical axis during the exposure.

    The result ``(T,)`` is the displacement of the middle of a patch's border along that border, in
    pixels. Its mean is zero, and `reach` the largest distance between two displacements.
    """
    roll = np.cumsum(np.cumsum(rng.standard_normal(_TIMES)) + rng.normal(0, 10))
    roll -= roll.mean()
    scaled: NDArray[np.float64] = roll * (reach / np.ptp(roll))
    return scaled


def corner_paths(path: Path, roll: NDArray[np.float64]) -> list[Path]:
    """Paths of a patch's corners: top left, top right, bottom left, bottom right.

    `path` is the path of the middle, `roll` the `camera_roll` at the same times.
    """
    corners = [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    return [path + np.stack([roll * x, -roll * y], axis=1) for y, x in corners]


def motion_psf(path: Path) -> PSF:
    """PSF of a path: the light that a point leaves along it, blurred a little by the lens."""
    from scipy.signal import convolve2d

    length = np.hypot(*np.diff(path, axis=0).T).sum()
    count = max(len(path), math.ceil(length / _SPACING))
    times = np.linspace(0, len(path) - 1, count)
    points = np.stack([np.interp(times, np.arange(len(path)), c) for c in path.T], axis=1)
    half = math.ceil(np.abs(points).max()) + 1
    side = 2 * half + 1
    corner = np.floor(points).astype(int)
    share = points - corner
    light = np.zeros(side * side)
    for dy in (0, 1):  # a point is shared by the four pixels around it
        for dx in (0, 1):
            weight = np.abs(1 - dy - share[:, 0]) * np.abs(1 - dx - share[:, 1])
            index = (corner[:, 0] + dy + half) * side + corner[:, 1] + dx + half
            light += np.bincount(index, weight, side * side)
    blurred: PSF = convolve2d((light / count).reshape(side, side), gaussian(_LENS_RADIUS))
    return blurred.astype(np.float32)


def _scaled(path: Path, extent: float) -> Path:
    """Centre a path and give it its extent."""
    centred = path - path.mean(axis=0)
    differences = centred[:, None] - centred[None]
    scaled: Path = centred * (extent / np.hypot(differences[..., 0], differences[..., 1]).max())
    return scaled
