"""The defocus of an image as a distribution: how probable each kind and size of blur is.

A small network reads the description of a window (`spectrum.describe_window`). It was trained on
sharp images of the field that were blurred by known PSFs, so its probabilities include how sharp
such images usually are. Its constants are plain arrays, made by ``recipes/blur_prior.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from math import inf, log
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation.spectrum import describe_window
from napari_swintormer.optics.light import GAMMA, to_light

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

Field = Literal["photo", "micrograph"]

GAMMAS: dict[Field, float] = {"photo": GAMMA, "micrograph": 1.0}
"""Exponent of the intensity curve by field."""
RADII = np.geomspace(0.5, 16, 36)  # pixels, of the blur circle
CUTOFFS = (0.41, 0.55, 0.72)  # cycles per pixel that a lens passes
KINDS: tuple[Callable[[float], Blur], ...] = (
    Blur.disk,
    lambda radius: Blur.gaussian(radius / 2),  # the variance of the disk
    lambda radius: Blur.lens(radius, CUTOFFS[0]),
    lambda radius: Blur.lens(radius, CUTOFFS[1]),
    lambda radius: Blur.lens(radius, CUTOFFS[2]),
)
CLIP = 5.0  # standard deviations of the training images; nothing beyond was seen
_MOST = 12  # candidates of a blur
_RARE = 0.02  # candidates less probable than this share of the most probable are left out
_WITHIN = 0.2  # sizes that differ by this share count as the same
# Weights of the votes, and the smallest votes: chosen on validation images for the likelihood of
# the true blur; with them the probabilities are calibrated.
_WHOLE, _QUARTERS = 0.5, 1.0
_SMALLEST_QUARTER = 64  # pixels
_PARTS = 4  # at least, to tell whether the blur changes from place to place
_SURELY_BLURRED = 0.3  # largest probability of no blur of a part that counts as blurred
# Standard deviation of the logarithm of the radius over the parts of an image above which the blur
# changes from place to place. Chosen on made scenes in depth and on even blur; micrographs have
# parts without anything to measure.
_SPREAD: dict[Field, float] = {"photo": 0.2, "micrograph": 0.5}


@dataclass(frozen=True)
class DefocusPosterior:
    """Probabilities of no blur, and of each kind and radius."""

    none: float
    shares: NDArray[np.float64]  # (kinds, radii); the sum of all and `none` is 1

    @property
    def radius(self) -> float:
        """Mean radius in pixels, if the image is blurred."""
        sizes = self.shares.sum(axis=0)
        return float(np.exp(sizes @ np.log(RADII) / max(sizes.sum(), 1e-12)))

    @property
    def certainty(self) -> float:
        """Probability that the image is blurred with a radius within 20 % of the mean."""
        near = np.abs(RADII / self.radius - 1) <= _WITHIN
        return float(self.shares[:, near].sum())

    def blur(self) -> Blur:
        """Give the blur as a mixture of at most twelve candidates and of no blur."""
        least = _RARE * self.shares.max()
        cells = [
            (float(p), kind, float(radius))
            for kind, row in enumerate(self.shares)
            for p, radius in zip(row, RADII, strict=True)
            if p > least
        ]
        parts = [(p, KINDS[kind](radius)) for p, kind, radius in _merged(cells)]
        if self.none > least:
            parts.append((self.none, Blur.none()))
        return Blur.mixture(parts)


def defocus_posterior(windows: Sequence[NDArray[np.float32]], field: Field) -> DefocusPosterior:
    """Estimate the defocus of windows ``(Y, X)`` of one image, in unit intensities.

    Windows and their quarters vote: the logarithms of their probabilities are averaged. Neighbours
    err alike, so the votes of an image weigh little more than one.
    """
    return _agreed(_votes(windows, field))


def measure_defocus(
    windows: Sequence[NDArray[np.float32]], field: Field
) -> tuple[DefocusPosterior, bool]:
    """Estimate the defocus as `defocus_posterior` does, and whether it changes from place to place.

    It changes if the sizes in several windows, or in the parts of fewer, differ.
    """
    votes = _votes(windows, field)
    if len(windows) >= _PARTS:
        parts = [_agreed([vote]) for vote in votes]
    else:
        parts = [defocus_posterior([part], field) for w in windows for part in _quarters(w)]
    sizes = [
        log(max(part.radius, RADII[0]) if part.none < _SURELY_BLURRED else RADII[0])
        for part in parts
    ]
    varies = len(sizes) >= _PARTS and float(np.std(sizes)) > _SPREAD[field]
    return _agreed(votes), varies


class _Vote(NamedTuple):
    """Logarithms of the probabilities of a window, and of its quarters, ``(0 or 4, cells)``."""

    whole: NDArray[np.float64]
    quarters: NDArray[np.float64]


def _votes(windows: Sequence[NDArray[np.float32]], field: Field) -> list[_Vote]:
    network = _network(field)
    lights = [to_light(window, GAMMAS[field]) for window in windows]
    parts = [list(_quarters(light)) for light in lights]
    logs = network.log_probabilities([*lights, *(part for each in parts for part in each)])
    ends = np.cumsum([len(lights), *map(len, parts)])
    return [
        _Vote(whole, logs[start:end])
        for whole, (start, end) in zip(logs[: len(lights)], pairwise(ends), strict=True)
    ]


def _agreed(votes: Sequence[_Vote]) -> DefocusPosterior:
    """Give what windows and quarters say together."""
    logs = np.mean([vote.whole for vote in votes], axis=0)
    quarters = np.concatenate([vote.quarters for vote in votes])
    if len(quarters):
        logs = _WHOLE * logs + _QUARTERS * quarters.mean(axis=0)
    probabilities = np.exp(logs - logs.max())
    probabilities /= probabilities.sum()
    return DefocusPosterior(
        float(probabilities[0]), probabilities[1:].reshape(len(KINDS), len(RADII))
    )


@dataclass(frozen=True)
class _Network:
    """Layers of a perceptron: matrices ``(inputs + 1, outputs)`` whose last row is the bias."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]
    layers: tuple[NDArray[np.float32], ...]
    temperature: float  # of the probabilities, so that they are calibrated

    def log_probabilities(self, lights: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
        """Give logarithms of the probabilities of no blur and of all cells, for each window."""
        described = np.stack([describe_window(light) for light in lights])
        values = np.clip((described - self.mean) / self.deviation, -CLIP, CLIP)
        for layer in self.layers[:-1]:
            values = np.maximum(values @ layer[:-1] + layer[-1], 0)
        logs = (values @ self.layers[-1][:-1] + self.layers[-1][-1]) / self.temperature
        logs -= logs.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        return np.asarray(logs, np.float64)


def _quarters(light: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Cut a window into four parts, if these are large enough to measure."""
    height, width = (size // 2 for size in light.shape)
    if min(height, width) >= _SMALLEST_QUARTER:
        for y in (0, height):
            for x in (0, width):
                yield light[y : y + height, x : x + width]


@lru_cache
def _network(field: Field) -> _Network:
    source = files("napari_swintormer.optics.estimation").joinpath(f"defocus_{field}.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name].astype(np.float32) for name in stored.files}
    layers = [arrays[name] for name in sorted(arrays) if name.startswith("layer")]
    return _Network(
        arrays["mean"], arrays["deviation"], tuple(layers), float(arrays["temperature"])
    )


def _merged(cells: list[tuple[float, int, float]]) -> list[tuple[float, int, float]]:
    """Merge neighbours ``(probability, kind, radius)`` of a kind until few enough are left.

    Each time it merges the two whose joint spread is the smallest.
    """
    while len(cells) > _MOST:
        costs = [
            first[0] * second[0] / (first[0] + second[0]) * log(second[2] / first[2]) ** 2
            if first[1] == second[1]
            else inf
            for first, second in pairwise(cells)
        ]
        k = costs.index(min(costs))
        (p, kind, radius), (q, _, other) = cells[k], cells[k + 1]
        cells[k : k + 2] = [(p + q, kind, (p * radius + q * other) / (p + q))]
    return cells
