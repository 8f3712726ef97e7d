"""The blur at each place of a plane, for scenes in depth, tilted and curved specimens.

A small network reads the descriptions of windows on a grid, each with its neighbours and with the
mean over the plane. So windows without detail take the blur of those around them. It was trained on
scenes with made-up depth for what is left of the error after the filters: where it is not sure, it
says that nothing should be undone. Its constants are made by ``recipes/blur_places.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.estimation.defocus_posterior import (
    CLIP,
    GAMMAS,
    KINDS,
    defocus_posterior,
)
from napari_swintormer.optics.estimation.estimate import filled_window
from napari_swintormer.optics.estimation.sample import PLACE, place_windows
from napari_swintormer.optics.estimation.spectrum import describe_windows
from napari_swintormer.optics.light import to_light

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.optics.estimation.defocus_posterior import DefocusPosterior, Field

    Floats = NDArray[np.float32]

SIZES = (1.0, 1.55, 2.4, 3.7, 5.7, 8.8)
"""Radii in pixels that are told apart; no blur is the first possibility."""
_FIELDS: tuple[Field, ...] = ("photo",)  # that a network was trained for
_NEAR = ((0.25, 1 / 1.2), (0.5, 1.0), (0.25, 1.2))  # shares and factors of sizes around a radius
_RAREST = -8.0  # smallest logarithm of a probability that is told apart
_SURE = 0.3  # probability of a blur that some place needs, or nothing is undone
# What a place tells of its size, in nats, above which the blur changes. Chosen on validation photos
# with one blur, with none, and with made-up depth.
_CHANGES = 0.23
_PLAIN = 0.35  # and above which it is no motion either


class FieldOfBlur(NamedTuple):
    """A field, and whether it is plain enough that no other blur is looked for."""

    field: BlurField
    plain: bool


def field_of_blur(
    bands: Iterable[Floats], shape: tuple[int, int], windows: Sequence[Floats], field: Field
) -> FieldOfBlur | None:
    """Estimate how the blur of a plane changes from place to place.

    None where it does not change, where nothing is sure, or where no network was trained.

    Parameters
    ----------
    bands
        Luminance ``(PLACE, X)`` in unit intensities of the rows that `place_windows` names.
    shape
        Height and width of the plane.
    windows
        Luminance of the windows that `sample.sample_windows` names; they tell the kinds of blur.
    field
        What the image is of.
    """
    places = place_windows(shape) if field in _FIELDS else None
    if places is None:
        return None
    rows, columns = places
    described = np.stack(
        [
            describe_windows(to_light(_windows(band, columns.starts), GAMMAS[field]))
            for band in bands
        ]
    )
    radii, shares = _network(field).shares(described.astype(np.float32))
    told = _information(radii)
    if told < _CHANGES or shares[1:].sum(axis=0).max() < _SURE:
        return None
    whole = defocus_posterior([w for w in map(filled_window, windows) if w is not None], field)
    middle = (PLACE - 1) / 2
    found = BlurField.of(
        (Blur.none(), *(blur_of_size(whole, size) for size in SIZES)),
        (middle, middle),
        (rows.step, columns.step),
        shares,
        np.tensordot(np.array([0, *SIZES]), radii, 1),
    )
    return FieldOfBlur(found, plain=told > _PLAIN)


def blur_of_size(posterior: DefocusPosterior, size: float) -> Blur:
    """Give the blur of about a radius, of the kind that is the most likely on the plane."""
    make = KINDS[int(posterior.shares.sum(axis=1).argmax())]
    return Blur.mixture((near, make(size * factor)) for near, factor in _NEAR)


def _information(shares: Floats) -> float:
    """Tell how much the place says about the size, in nats: 0 where all places say the same."""

    def entropy(probabilities: Floats) -> Floats:
        each: Floats = -(probabilities * np.log(probabilities + 1e-9)).sum(axis=0)
        return each

    return float(entropy(shares.mean(axis=(1, 2))) - entropy(shares).mean())


def _windows(band: Floats, starts: Iterable[int]) -> Floats:
    """Cut windows out of rows; pixels without a number become the mean of the others."""
    known = np.isfinite(band)
    if not known.all():
        band = np.where(known, band, band[known].mean() if known.any() else 0).astype(np.float32)
    return np.stack([band[:, start : start + PLACE] for start in starts])


@dataclass(frozen=True)
class _Network:
    """Layers of a convolutional network over the grid of places."""

    mean: Floats
    deviation: Floats
    each: Floats  # (inputs + 1, width); the last row is the bias
    around: tuple[Floats, Floats]  # (3, 3, inputs, width)
    biases: tuple[Floats, Floats]
    last: Floats  # (width + 1, possibilities)
    use: Floats  # (possibilities + width + 1, possibilities)

    def shares(self, described: Floats) -> tuple[Floats, Floats]:
        """Give how probable each size is, and how much of each filter to use.

        Both are ``(possibilities, rows, columns)``, with the sum 1 over the possibilities.
        """
        values = np.clip((described - self.mean) / self.deviation, -CLIP, CLIP)
        seen = np.maximum(values @ self.each[:-1] + self.each[-1], 0)
        plane = np.broadcast_to(seen.mean(axis=(0, 1)), seen.shape)
        seen = np.concatenate([seen, plane], axis=2)
        seen = np.maximum(_with_neighbours(seen, self.around[0]) + self.biases[0], 0)
        seen = seen + np.maximum(_with_neighbours(seen, self.around[1]) + self.biases[1], 0)
        logs = _log_shares(seen @ self.last[:-1] + self.last[-1])
        both = np.concatenate([np.maximum(logs, _RAREST), seen], axis=2)
        use = _log_shares(both @ self.use[:-1] + self.use[-1])
        return np.moveaxis(np.exp(logs), 2, 0), np.moveaxis(np.exp(use), 2, 0)


def _log_shares(logits: Floats) -> Floats:
    """Give logarithms of probabilities along the last axis."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    logs: Floats = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logs


def _with_neighbours(values: Floats, weights: Floats) -> Floats:
    """Convolve ``(rows, columns, inputs)``; places beyond the border equal those at it."""
    rows, columns = values.shape[:2]
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    parts = [
        padded[y : y + rows, x : x + columns] @ weights[y, x] for y in range(3) for x in range(3)
    ]
    return np.asarray(np.sum(parts, axis=0), np.float32)


@lru_cache
def _network(field: Field) -> _Network:
    source = files("napari_swintormer.optics.estimation").joinpath(f"places_{field}.npz")
    with source.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        a = {name: stored[name].astype(np.float32) for name in stored.files}
    return _Network(
        a["mean"],
        a["deviation"],
        a["each"],
        (a["around1"], a["around2"]),
        (a["bias1"], a["bias2"]),
        a["last"],
        a["use"],
    )
