"""Whether a colour image is a photo or a micrograph, where nobody says so.

It matters for a known blur: a photo was blurred as light, which its intensities follow along a
curve, and a micrograph as it is. A logistic regression looks at tones, colours, scales and edges.
It was fitted on photos and micrographs, sharp and blurred (``recipes/image_field.py``).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Window = NDArray[np.float32]

CLIP = 3.0  # standard deviations of the training images; nothing beyond was seen
_TONES = 64
_SCALES = (2, 4, 8, 16)  # pixels
_STRONG = 90  # percentile of gradients
_LEAST = 1e-8


def looks_like_photo(windows: Sequence[Window]) -> bool:
    """Tell whether windows ``(3, h, w)`` of an image in [0, 1] are of a photo.

    An image without any colour is none: its intensities are taken as they are.
    """
    coloured = [w for w in windows if min(w.shape[1:]) > 1 and np.ptp(w, axis=0).any()]
    if not coloured:
        return False
    stored = _weights()
    described = np.stack([describe(window) for window in coloured])
    values = expanded((described - stored["mean"]) / stored["deviation"])
    return float((values @ stored["weights"]).mean()) > 0


def describe(window: Window) -> Floats:
    """Describe the tones, colours, scales and edges of a window ``(3, h, w)``."""
    grey = window.mean(axis=0)
    tones = np.histogram(grey, _TONES, (0, 1))[0] / grey.size
    near = np.convolve(tones, np.ones(3), "same")
    colours = np.linalg.eigvalsh(np.cov(window.reshape(3, -1)))[::-1] + _LEAST
    smooth = [ndimage.gaussian_filter(grey, scale) for scale in (*_SCALES, 2 * _SCALES[-1])]
    detail = np.log([np.var(a - b) + _LEAST for a, b in pairwise(smooth)])
    y, x = np.gradient(smooth[0])
    slope = np.hypot(y, x)
    strong = slope >= np.percentile(slope, _STRONG)
    along = np.abs(np.cos(2 * np.arctan2(y[strong], x[strong]))).mean()  # 1: along the axes
    peaked = np.log(((slope**4).mean() + _LEAST**2) / ((slope**2).mean() + _LEAST) ** 2)
    brightest = window.max(axis=0)
    saturation = (brightest - window.min(axis=0)) / (brightest + 0.05)
    half = len(grey) // 2
    return np.array(
        [
            *(near.max(), near.argmax() / _TONES, grey.mean(), grey.std()),
            *np.log(colours[1:] / colours[0]),
            *(along, peaked, *-np.diff(detail), detail[-1]),
            *(saturation.mean(), saturation.std(), abs(grey[:half].mean() - grey[half:].mean())),
            *(window.mean(axis=(1, 2)) - grey.mean()),
        ]
    )


def expanded(standard: Floats) -> Floats:
    """Give 1, the standard scores, and their squares."""
    values = np.clip(standard, -CLIP, CLIP)
    return np.concatenate([np.ones((len(values), 1)), values, values**2], axis=1)


@lru_cache
def _weights() -> dict[str, Floats]:
    source = files("napari_swintormer.optics.estimation").joinpath("image_field.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}
