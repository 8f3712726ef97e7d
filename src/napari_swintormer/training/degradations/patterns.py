"""Drawn patterns: stripes, checkerboards, grids, text and dots.

Screenshots, test charts and calibration targets show them; photos and micrographs do not. A
deconvolution that is chosen by the spectrum must learn that few frequencies are no sign of blur.
"""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_swintormer.training.degradations.primitives import FloatArray, Rng

    Size = tuple[int, int]
    Mask = NDArray[Any]

_LETTERS = string.ascii_letters + string.digits + string.punctuation + 12 * " "


def draw_pattern(shape: tuple[int, ...], rng: Rng) -> FloatArray:
    """Draw a pattern of two colours with values in [0, 1]; `shape` is ``(C, Y, X)``."""
    draw = _PATTERNS[rng.integers(len(_PATTERNS))]
    mask = draw((shape[1], shape[2]), rng)
    paper, ink = rng.uniform(0, 1, (2, shape[0], 1, 1))
    if rng.random() < 0.5:  # nearly black and white
        paper[:], ink[:] = rng.uniform(0, 0.15), rng.uniform(0.85, 1)
        paper, ink = (paper, ink) if rng.random() < 0.5 else (ink, paper)
    pattern: FloatArray = (paper + (ink - paper) * mask).astype(np.float32)
    return pattern


def _stripes(shape: Size, rng: Rng) -> Mask:
    """Draw bars or a sine wave; most lie along an axis."""
    y, x = np.indices(shape)
    angle = rng.integers(2) * np.pi / 2 if rng.random() < 0.6 else rng.uniform(0, np.pi)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / _period(rng) + rng.random()
    if rng.random() < 0.3:
        return np.asarray((1 + np.sin(2 * np.pi * phase)) / 2)
    return np.asarray(phase % 1 < rng.uniform(0.2, 0.8))


def _checkerboard(shape: Size, rng: Rng) -> Mask:
    cells = np.indices(shape) // round(np.exp(rng.uniform(0, np.log(16))))
    return np.asarray(cells.sum(axis=0) % 2)


def _grid(shape: Size, rng: Rng) -> Mask:
    """Draw a grid of thin lines."""
    mask = np.zeros(shape)
    width = int(rng.integers(1, 4))
    for axis in (0, 1):
        if axis == 0 or rng.random() < 0.7:
            distance = int(rng.integers(width + 2, 40))
            on = (np.arange(shape[axis]) + rng.integers(distance)) % distance < width
            mask[on if axis == 0 else (slice(None), on)] = 1
    return mask


def _text(shape: Size, rng: Rng) -> Mask:
    """Draw rows of random letters, and a frame."""
    picture = Image.new("L", (shape[1], shape[0]))
    pen = ImageDraw.Draw(picture)
    top = 0
    while top < shape[0]:
        size = int(rng.integers(8, 30))
        row = "".join(rng.choice(list(_LETTERS), shape[1] // size * 2))
        font = ImageFont.load_default(size=size)
        pen.text((int(rng.integers(-size, size)), top), row, fill=255, font=font)
        top += int(size * rng.uniform(1, 2))
    corners = np.sort(rng.integers(0, shape, (2, 2)), axis=0)[:, ::-1]
    pen.rectangle([tuple(map(int, corner)) for corner in corners], outline=255)
    return np.asarray(picture) / 255


def _dots(shape: Size, rng: Rng) -> Mask:
    """Draw points in rows, or at random with very different brightness."""
    mask = np.zeros(shape)
    if rng.random() < 0.5:
        step = int(rng.integers(3, 32))
        mask[int(rng.integers(step)) :: step, int(rng.integers(step)) :: step] = 1
    else:
        number = int(rng.integers(10, 400))
        at = tuple(rng.integers(0, n, number) for n in shape)
        mask[at] = np.minimum(10 ** rng.uniform(-2, 1, number), 1)
    return mask


def _period(rng: Rng) -> float:
    """Draw a period of 2 to 48 pixels; half of the periods are whole numbers."""
    period = float(np.exp(rng.uniform(np.log(2), np.log(48))))
    return round(period) if rng.random() < 0.5 else period


# Checkerboards count twice: a model takes them for blurred more easily than other patterns.
_PATTERNS: tuple[Callable[[Size, Rng], Mask], ...] = (
    *(_stripes, _checkerboard, _checkerboard),
    *(_grid, _text, _dots),
)
