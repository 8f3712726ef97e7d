"""Bootstrap intervals of means over the images of a set, and of paired differences."""

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

    The seed is fixed, so equal values give equal intervals. The ends are NaN for a single value,
    and for values that are not all finite.
    """
    from scipy import stats

    scores = np.asarray(values, float)
    value = float(np.mean(scores)) if scores.size else float("nan")
    if scores.size < 2 or not np.isfinite(scores).all():
        return Mean(value, float("nan"), float("nan"))
    interval = stats.bootstrap(
        (scores,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return Mean(value, float(interval.low), float(interval.high))


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Mean:
    """Mean of ``first - second``, image by image, with its interval.

    Images differ from each other far more than two methods differ on the same image. So this
    interval separates methods that the intervals of their means do not.
    """
    return bootstrap([a - b for a, b in zip(first, second, strict=True)])
