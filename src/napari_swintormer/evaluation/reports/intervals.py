"""What a mean over the images of a set is worth: bootstrap intervals, paired differences."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 4000
LEVEL = 0.95
_SEED = 0


class Mean(NamedTuple):
    """A mean and the ends of its bootstrap interval."""

    value: float
    low: float
    high: float


def bootstrap(values: Sequence[float]) -> Mean:
    """Mean of the images of a set, with its percentile bootstrap interval of `LEVEL`.

    The images are drawn again with a fixed seed: equal values give equal intervals. A single image,
    or values that are not all finite, have no interval: its ends are NaN.

    Examples
    --------
    >>> bootstrap([1.0, 1.0, 1.0])
    Mean(value=1.0, low=1.0, high=1.0)
    """
    scores = np.asarray(values, float)
    value = float(np.mean(scores)) if scores.size else float("nan")
    if scores.size < 2 or not np.isfinite(scores).all():
        return Mean(value, float("nan"), float("nan"))
    drawn = np.random.default_rng(_SEED).integers(0, scores.size, (RESAMPLES, scores.size))
    low, high = np.percentile(scores[drawn].mean(axis=1), (50 * (1 - LEVEL), 50 * (1 + LEVEL)))
    return Mean(value, float(low), float(high))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Mean:
    """Mean of ``first - second``, image by image, with its interval.

    Two methods on the same images differ by far less than images do from each other: this
    interval is the one that tells them apart.
    """
    return bootstrap([a - b for a, b in zip(first, second, strict=True)])
