"""Methods over data sets: scores per image, tables per set, a picture with crops side by side.

A method is a callable ``method(image, axes) -> image``: the baselines of
`napari_swintormer.evaluation.baselines`, or `napari_swintormer.deblur` with a model.
"""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_swintormer.evaluation.baselines import ORACLE_SIGMAS, richardson_lucy
from napari_swintormer.evaluation.metrics import affine_fit, intensity_span, psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.evaluation.baselines import Method
    from napari_swintormer.evaluation.datasets import Pair

BLURRED = "blurred"  # the method that does nothing, which every other is measured against
SHARP = "sharp"
ORACLE = "Richardson-Lucy, best σ"
CROP = 128  # pixels of the image in one field of the picture
ZOOM = 2


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
    crops
        By method, `BLURRED` and `SHARP` among them: ``(CROP, CROP, 3)`` uint8, the place with the
        most detail in the sharp image, displayed with the sharp image's intensity range.
    """

    set: str
    name: str
    scores: dict[str, Score] = field(default_factory=dict)
    crops: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def gain(self, method: str) -> float:
        """PSNR in dB that the method wins over the blurred image."""
        return self.scores[method].psnr - self.scores[BLURRED].psnr


def compare(
    pair: Pair, methods: Mapping[str, Method], *, border: int = 0, oracle: bool = False
) -> Comparison:
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
    oracle
        Add `ORACLE`: Richardson-Lucy with the σ of `ORACLE_SIGMAS` that scores best on this very
        image. No user can choose so well; it bounds what the method could give.
    """
    comparison = Comparison(pair.set, pair.name)
    sharp = pair.sharp.astype(np.float64)
    span = intensity_span(sharp)
    channel_axis = pair.axes.index("S") if "S" in pair.axes else None
    crop = _most_detailed(sharp)

    def judge(image: NDArray[Any], seconds: float) -> tuple[Score, NDArray[np.uint8]]:
        seen = affine_fit(image, sharp) if pair.fit_intensity else image.astype(np.float64)
        score = Score(
            psnr(seen, sharp, data_range=span, border=border),
            ssim(seen, sharp, data_range=span, channel_axis=channel_axis, border=border),
            seconds,
        )
        return score, _display(seen[crop], sharp)

    def add(name: str, image: NDArray[Any], seconds: float) -> None:
        comparison.scores[name], comparison.crops[name] = judge(image, seconds)

    add(BLURRED, pair.blurred, 0.0)
    for name, method in methods.items():
        start = time.perf_counter()
        restored = method(pair.blurred, pair.axes)
        add(name, restored, time.perf_counter() - start)
    if oracle:
        start = time.perf_counter()
        candidates = [richardson_lucy(pair.blurred, pair.axes, sigma=s) for s in ORACLE_SIGMAS]
        best = max(candidates, key=lambda image: judge(image, 0.0)[0].psnr)
        add(ORACLE, best, time.perf_counter() - start)
    comparison.crops[SHARP] = _display(sharp[crop], sharp)
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


def spread_table(comparisons: Sequence[Comparison], method: str) -> str:
    """Markdown table of a method's PSNR gain per set: mean, median, worst image, images harmed."""
    rows = []
    for name, members in _by_set(comparisons).items():
        gains = [c.gain(method) for c in members]
        worst = min(members, key=lambda c: c.gain(method))
        harmed = sum(gain < -0.05 for gain in gains)
        rows.append(
            [
                name,
                f"{np.mean(gains):+.2f}",
                f"{np.median(gains):+.2f}",
                f"{worst.gain(method):+.2f} ({worst.name})",
                f"{harmed} of {len(gains)}",
            ]
        )
    header = ["set", "mean gain (dB)", "median", "worst image", "worse by more than 0.05 dB"]
    return markdown_table(header, rows)


def write_scores(path: Path, comparisons: Iterable[Comparison]) -> None:
    """Write a CSV file with one row per image and method."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["set", "image", "method", "psnr", "gain", "ssim", "seconds"])
        for c in comparisons:
            for method, s in c.scores.items():
                gain = f"{c.gain(method):.3f}"
                writer.writerow(
                    [
                        c.set,
                        c.name,
                        method,
                        f"{s.psnr:.3f}",
                        gain,
                        f"{s.ssim:.4f}",
                        f"{s.seconds:.2f}",
                    ]
                )


def crops_picture(
    comparisons: Sequence[Comparison], columns: Sequence[str], chosen_by: str
) -> Image.Image:
    """Picture with a row for the best, the median and the worst gain of one method in each set.

    Choosing by rule, not by eye, keeps the picture honest.

    Parameters
    ----------
    comparisons
        At least one.
    columns
        Methods, `BLURRED` or `SHARP`, from left to right.
    chosen_by
        The method whose gain chooses the rows.
    """
    rows = []
    for members in _by_set(comparisons).values():
        ranked = sorted(members, key=lambda c: c.gain(chosen_by))
        chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
        rows += list(chosen.items())
    side, line = CROP * ZOOM, 20
    picture = Image.new("RGB", (side * len(columns), (side + line) * len(rows)), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    for i, (rank, comparison) in enumerate(rows):
        for j, method in enumerate(columns):
            left, top = j * side, i * (side + line)
            label = method
            if method == BLURRED:
                label = f"{comparison.set}, {rank}: {comparison.name}"
            elif method != SHARP:
                label = f"{method}: {comparison.gain(method):+.2f} dB"
            draw.text((left + 3, top + 3), _shortened(label, 40), fill="black", font=font)
            crop = Image.fromarray(comparison.crops[method])
            enlarged = crop.resize(
                (crop.width * ZOOM, crop.height * ZOOM), Image.Resampling.NEAREST
            )
            picture.paste(enlarged, (left, top + line))
    return picture


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


def _most_detailed(sharp: NDArray[np.float64]) -> tuple[slice, slice]:
    """Return the CROP × CROP region with the largest sum of squared differences of neighbours."""
    from scipy.ndimage import uniform_filter

    grey = sharp.mean(axis=2) if sharp.ndim == 3 else sharp
    detail = sum(g**2 for g in np.gradient(grey))
    height, width = (min(CROP, n) for n in grey.shape)
    mean = uniform_filter(detail, (height, width))
    top, left = height // 2, width // 2  # of the window around a pixel, as scipy places it
    inside = mean[top : top + grey.shape[0] - height + 1, left : left + grey.shape[1] - width + 1]
    y, x = np.unravel_index(int(np.argmax(inside)), inside.shape)
    return slice(int(y), int(y) + height), slice(int(x), int(x) + width)


def _display(crop: NDArray[np.float64], sharp: NDArray[np.float64]) -> NDArray[np.uint8]:
    """8-bit RGB of a crop, from the 0.1 to the 99.9 percentile of the sharp image."""
    low, high = np.percentile(sharp, (0.1, 99.9))
    unit = np.clip((crop - low) / max(high - low, 1e-12), 0, 1)
    grey = np.rint(unit * 255).astype(np.uint8)
    return grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)


def _shortened(label: str, length: int) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"
