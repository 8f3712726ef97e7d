"""The kinds of blur by name. One line adds a kind here, and to the tests of all PSFs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from napari_swintormer.optics import motion, psf
from napari_swintormer.optics.microscope import Microscope

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from napari_swintormer.optics.psf import PSF

    Random = np.random.Generator


def _diffraction(radius: float, rng: Random) -> PSF:
    spherical, astigmatism = rng.uniform(-0.2, 0.2, 2)
    cutoff, axis = rng.uniform(0.2, 1.0), _angle(rng)
    return psf.defocus(radius, cutoff, spherical=spherical, astigmatism=astigmatism, axis=axis)


def _fluorescence(radius: float, rng: Random) -> PSF:
    microscope = _microscope(rng)
    return microscope.fluorescence(microscope.depth_of(radius), confocal=rng.random() < 0.2)


def _transmission(radius: float, rng: Random) -> PSF:
    microscope = _microscope(rng)
    depth, condenser = microscope.depth_of(radius), rng.uniform(0.1, 1.0)
    return microscope.transmission(depth, condenser=condenser, phase=rng.normal(0, 1.5))


def _microscope(rng: Random) -> Microscope:
    aperture, spherical = rng.uniform(0.1, 0.95), rng.normal(0, 0.08)
    return Microscope(aperture, 0.55, pixel=rng.uniform(0.1, 0.25) / aperture, spherical=spherical)


def _angle(rng: Random) -> float:
    return float(rng.uniform(0, 2 * math.pi))


PSF_KINDS: dict[str, Callable[[float, Random], PSF]] = {
    "disk": lambda radius, _: psf.disk(radius),
    "gaussian": lambda radius, _: psf.gaussian(radius),
    "polygon": lambda radius, rng: psf.polygon(radius, int(rng.integers(3, 10)), _angle(rng)),
    "cats_eye": lambda radius, rng: psf.cats_eye(radius, rng.uniform(0.0, 0.9), _angle(rng)),
    "ring": lambda radius, rng: psf.ring(radius, rng.uniform(0.1, 0.9)),
    "diffraction": _diffraction,
    "fluorescence": _fluorescence,
    "transmission": _transmission,
    "camera_shake": lambda extent, rng: motion.motion_psf(motion.camera_shake(extent, rng)),
    "object_motion": lambda extent, rng: motion.motion_psf(motion.object_motion(extent, rng)),
}
"""``draw(size, rng)`` of every kind draws the other parameters at random.

`size` is the radius of the blur circle, or the extent of a motion, in pixels.
"""
