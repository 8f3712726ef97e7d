"""The blur of a plane where it changes from place to place: how probable each of a few sizes is."""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.blur import Blur

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_LEVELS = 255
_PER_PIXEL = 16  # levels of a radius
_LEAST = 0.6  # pixels, smallest radius that counts as blur in a sentence
_SHOWN = 0.05  # share of a plane's places that a size needs to be named in a sentence


@dataclass(frozen=True)
class BlurField:
    """Probabilities of a few blurs on a grid of places.

    Attributes
    ----------
    blurs
        The blurs, from the smallest to the largest; the first is ``Blur.none()``.
    start, step
        Row and column of the first place, and the distance to the next one, in pixels.
    grid
        Number of rows and columns of places.
    levels
        Probabilities ``(blurs, rows, columns)`` in 255ths, as bytes: how much to undo each blur.
    widths
        Most likely radii ``(rows, columns)`` in 16ths of a pixel, as bytes: what people are shown.
    """

    blurs: tuple[Blur, ...]
    start: tuple[float, float]
    step: tuple[float, float]
    grid: tuple[int, int]
    levels: bytes
    widths: bytes

    @classmethod
    def of(
        cls,
        blurs: tuple[Blur, ...],
        start: tuple[float, float],
        step: tuple[float, float],
        shares: NDArray[np.floating[Any]],
        radii: NDArray[np.floating[Any]],
    ) -> BlurField:
        """Make it of probabilities ``(blurs, rows, columns)`` and radii ``(rows, columns)``.

        A blur that is rare everywhere is left out.
        """
        widths = np.rint(radii * _PER_PIXEL).clip(0, _LEVELS).astype(np.uint8).tobytes()
        levels = np.rint(shares * _LEVELS).astype(np.uint8)
        kept = [0, *(k for k in range(1, len(blurs)) if levels[k].any())]
        rows, columns = shares.shape[1:]
        named = tuple(blurs[k] for k in kept)
        return cls(named, start, step, (rows, columns), levels[kept].tobytes(), widths)

    @cached_property
    def shares(self) -> Floats:
        """Probabilities ``(blurs, rows, columns)``; the sum over the blurs is 1."""
        levels = np.frombuffer(self.levels, np.uint8).reshape(len(self.blurs), *self.grid)
        shares = levels.astype(np.float32)
        # where rounding has left nothing, the plane stays as it is
        shares[0] += shares.sum(axis=0) == 0
        normal: Floats = shares / shares.sum(axis=0)
        return normal

    def shares_at(self, y: int, x: int, height: int, width: int) -> Floats:
        """Give the probabilities in each pixel of a region, ``(blurs, height, width)``.

        They are linear between places, and those of the last place beyond it.
        """
        rows, columns = self._weights_at(y, x, height, width)
        return np.asarray(rows @ self.shares @ columns.T, np.float32)

    def mean_shares(self, y: int, x: int, height: int, width: int) -> Floats:
        """Give the mean of `shares_at` over a region, ``(blurs,)``, without its pixels."""
        rows, columns = self._weights_at(y, x, height, width)
        return np.asarray(self.shares @ columns.mean(axis=0) @ rows.mean(axis=0), np.float32)

    def _weights_at(self, y: int, x: int, height: int, width: int) -> tuple[Floats, Floats]:
        """Give the weights of the places in the rows and in the columns of a region."""
        (top, left), (down, right), (rows, columns) = self.start, self.step, self.grid
        return _weights(y, height, top, down, rows), _weights(x, width, left, right, columns)

    @cached_property
    def sizes(self) -> NDArray[np.float64]:
        """Radius in pixels of each blur, from the centre to the edge of a disk."""
        return np.array([2**0.5 * blur.radius for blur in self.blurs])

    @cached_property
    def radii(self) -> Floats:
        """Most likely radius in pixels at each place, ``(rows, columns)``; 0 for no blur."""
        widths = np.frombuffer(self.widths, np.uint8).reshape(self.grid)
        return (widths / _PER_PIXEL).astype(np.float32)

    @property
    def mean(self) -> Blur:
        """The blurs as candidates, each as probable as it is on the mean over the places."""
        means = self.shares.mean(axis=(1, 2)).tolist()
        return Blur.mixture(zip(means, self.blurs, strict=True))

    @property
    def certainty(self) -> float:
        """How probable the most probable blur of a place is, on the mean over the places."""
        return float(self.shares.max(axis=0).mean())

    def sentence(self) -> str:
        """Say from which size to which the blur changes."""
        low, high = np.quantile(self.radii, [_SHOWN, 1 - _SHOWN])
        begin = f"a radius of about {low:.2g}" if low >= _LEAST else "sharp"
        return f"The blur changes from place to place, from {begin} to about {high:.2g} pixels."

    def to_json(self) -> dict[str, Any]:
        """Give plain values that `from_json` reads."""
        return {
            "blurs": [blur.to_json() for blur in self.blurs],
            "start": list(self.start),
            "step": list(self.step),
            "grid": list(self.grid),
            "levels": base64.b64encode(zlib.compress(self.levels, 9)).decode(),
            "widths": base64.b64encode(zlib.compress(self.widths, 9)).decode(),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BlurField:
        """Make it of the values of `to_json`."""
        try:
            levels, widths = (
                zlib.decompress(base64.b64decode(values[name])) for name in ("levels", "widths")
            )
            blurs = tuple(Blur.from_json(blur) for blur in values["blurs"])
            start, step = (tuple(map(float, values[name])) for name in ("start", "step"))
            rows, columns = map(int, values["grid"])
            sizes = len(start), len(step), len(levels), len(widths)
            if sizes != (2, 2, len(blurs) * rows * columns, rows * columns):
                raise ValueError("sizes differ")
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise SettingsError(
                f"The stored blur field cannot be read (got {str(values)[:80]}). Measure it again."
            ) from error
        return cls(blurs, start, step, (rows, columns), levels, widths)  # type: ignore[arg-type]


def _weights(first: int, length: int, start: float, step: float, count: int) -> Floats:
    """Weights of the places along an axis in each of `length` pixels, ``(length, count)``."""
    at = np.clip((np.arange(first, first + length) - start) / step, 0, count - 1)
    weights: Floats = np.maximum(1 - np.abs(at[:, None] - np.arange(count)), 0).astype(np.float32)
    return weights
