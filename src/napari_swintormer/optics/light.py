"""The intensity curve of photos: a lens blurs light, and a file holds a power of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

GAMMA = 2.2
"""Exponent of the intensity curve that is assumed for photos: light is ``image ** GAMMA``."""


def to_light(image: FloatArray, gamma: float) -> FloatArray:
    """Undo the intensity curve: light is ``image ** gamma``. Negative values keep their sign."""
    return image if gamma == 1 else np.sign(image) * np.abs(image) ** np.float32(gamma)


def from_light(light: FloatArray, gamma: float) -> FloatArray:
    """Apply the intensity curve; the inverse of `to_light`."""
    return to_light(light, 1 / gamma)
