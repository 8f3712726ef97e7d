"""Measures what a model gains at several strengths, and at the best strength for each image.

    python benchmarks/strength.py --model swintormer --photo DIR --pairs CSV

A model makes a cautious change where it cannot tell how sharp the scene was, so many images gain
from more or less of the change. The sharp reference chooses the best strength. That is a bound; a
user comes near it by choosing among the results that *Try* shows side by side.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from real_pairs import real_pairs

from napari_swintormer import deblur
from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.evaluation.metrics.scoring import Fit
from napari_swintormer.evaluation.metrics.similarity import psnr
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL, STRENGTHS

if TYPE_CHECKING:
    from collections.abc import Iterator

CROP, SCORED = 384, 256  # pixels, sides of the centres that are restored and scored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp micrographs")
    parser.add_argument("--pairs", type=Path, help="table of real pairs")
    parser.add_argument("--draws", type=int, default=2, help="how often each image is blurred")
    options = parser.parse_args()
    sets: dict[str, list[list[float]]] = {}
    for name, gains in all_gains(options):
        sets.setdefault(name, []).append(gains)
    rows = []
    for name, images in sets.items():
        of_strength = np.array(images)
        best = of_strength.max(axis=1).mean()
        means = (f"{gain:+.2f}" for gain in (*of_strength.mean(axis=0), best))
        rows.append([name, str(len(images)), *means])
    print(markdown_table(["set", "images", *(f"{s:g}" for s in STRENGTHS), "best of these"], rows))


def all_gains(options: argparse.Namespace) -> Iterator[tuple[str, list[float]]]:
    """Measure every image; give its set and its gains."""
    for kind in ("photo", "microscopy"):
        if folder := getattr(options, kind):
            for pair in synthetic.blurred_pairs(folder, kind, draws=options.draws):
                images = pair.blurred, pair.sharp
                yield pair.set, gains_of(*images, pair.axes, options.model, fit=False)
    for name, axes, blurred, sharp in real_pairs(options.pairs) if options.pairs else ():
        yield name, gains_of(blurred, sharp, axes, options.model, fit=True)


def gains_of(
    blurred: np.ndarray, sharp: np.ndarray, axes: str, model: str, *, fit: bool
) -> list[float]:
    """Give the gain in PSNR over the blurred image at every strength, in dB.

    `fit` matches the intensities to the sharp image first, as real pairs need it.
    """
    blurred, sharp = synthetic.centre(blurred, CROP), synthetic.centre(sharp, SCORED)
    change = deblur(blurred, model, axes=axes).astype(np.float64) - blurred
    limits = np.iinfo(blurred.dtype)
    scores = []
    for strength in (0.0, *STRENGTHS):
        image = np.clip(np.rint(blurred + strength * change), limits.min, limits.max)
        image = synthetic.centre(image, SCORED)
        image = Fit.between(image, sharp)(image) if fit else image
        scores.append(psnr(image, sharp, data_range=1))
    return [score - scores[0] for score in scores[1:]]


if __name__ == "__main__":
    main()
