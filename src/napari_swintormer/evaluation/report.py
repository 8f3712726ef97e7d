"""Comparisons of functions on arrays, for benchmarks that make their images as they go.

A method is a callable ``method(image, axes) -> image``: the baselines of
`napari_swintormer.evaluation.baselines`, or `napari_swintormer.deblur` with a model. Data sets on
disk are the matter of `napari_swintormer.evaluation.run`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.evaluation.metrics import affine_fit, intensity_span, psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from napari_swintormer.evaluation.baselines import Method
    from napari_swintormer.evaluation.datasets import Pair

BLURRED = "blurred"  # the method that does nothing, which every other is measured against


@dataclass(frozen=True)
class Score:
    """What one method made of one image: PSNR in dB, SSIM, and the seconds it took."""

    psnr: float
    ssim: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """All methods on one pair.

    Attributes
    ----------
    set, name
        Of the pair.
    scores
        By method, `BLURRED` among them.
    """

    set: str
    name: str
    scores: dict[str, Score] = field(default_factory=dict)

    def gain(self, method: str) -> float:
        """PSNR in dB that the method wins over the blurred image."""
        return self.scores[method].psnr - self.scores[BLURRED].psnr


def compare(pair: Pair, methods: Mapping[str, Method], *, border: int = 0) -> Comparison:
    """Run every method on the blurred image of a pair and score it against the sharp one.

    Parameters
    ----------
    pair
        With `Pair.fit_intensity`, every image (the blurred one too) is first fitted to the sharp
        one by one gain and one offset.
    methods
        By the name that tables show.
    border
        Pixels left out of the scores on every side.
    """
    comparison = Comparison(pair.set, pair.name)
    sharp = pair.sharp.astype(np.float64)
    span = intensity_span(sharp)
    channel_axis = pair.axes.index("S") if "S" in pair.axes else None
    for name, method in {BLURRED: lambda image, _: image, **methods}.items():
        start = time.perf_counter()
        restored = method(pair.blurred, pair.axes)
        seconds = time.perf_counter() - start
        seen = affine_fit(restored, sharp) if pair.fit_intensity else restored.astype(np.float64)
        comparison.scores[name] = Score(
            psnr(seen, sharp, data_range=span, border=border),
            ssim(seen, sharp, data_range=span, channel_axis=channel_axis, border=border),
            seconds,
        )
    return comparison


def score_table(comparisons: Sequence[Comparison], metric: str) -> str:
    """Markdown table: one row per set, one column per method, mean and gain over the blurred.

    Parameters
    ----------
    comparisons
        All with the same methods.
    metric
        ``"psnr"`` or ``"ssim"``.
    """
    digits = {"psnr": 2, "ssim": 3}[metric]
    methods = list(comparisons[0].scores)
    rows = []
    for name, members in _by_set(comparisons).items():
        means = {m: np.mean([getattr(c.scores[m], metric) for c in members]) for m in methods}
        base = means[BLURRED]
        cells = [f"{base:.{digits}f}"]
        cells += [f"{means[m]:.{digits}f} ({means[m] - base:+.{digits}f})" for m in methods[1:]]
        rows.append([name, str(len(members)), *cells])
    return markdown_table(["set", "images", *methods], rows)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table, first column to the left, the others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _by_set(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """Comparisons of each set, in the order in which they came."""
    sets: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        sets.setdefault(comparison.set, []).append(comparison)
    return sets
