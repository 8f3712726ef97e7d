"""What a model gains at several strengths, and what it would at the best one for every image.

    python benchmarks/strength.py --model photo-defocus --photo DIR --pairs CSV

A model hedges where it cannot tell how sharp the scene was, so much of an image may want more of
its change, or less. The best is chosen by the sharp image, as `richardson-lucy-best` chooses its
point-spread function: an oracle, or somebody who looks at the five results that the widget's *Try*
shows and takes the best.
"""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer import deblur
from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.evaluation.metrics.similarity import affine_fit, psnr
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL, STRENGTHS

if TYPE_CHECKING:
    from collections.abc import Iterator

CROP, SCORED = 384, 256  # the centres that are restored and scored, in pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy images")
    parser.add_argument("--pairs", type=Path, help="table of real pairs")
    parser.add_argument("--draws", type=int, default=2, help="ways to put each image out of focus")
    options = parser.parse_args()
    sources: list[Iterator[synthetic.SyntheticPair]] = []
    for kind in ("photo", "microscopy"):
        if folder := getattr(options, kind):
            sources.append(synthetic.blurred_pairs(folder, kind, draws=options.draws))
    if options.pairs:
        sources.append(synthetic.real_pairs(options.pairs))
    sets: dict[str, list[list[float]]] = {}
    for pair in chain.from_iterable(sources):
        sets.setdefault(pair.set, []).append(gains(pair, options.model))
    rows = []
    for name, images in sets.items():
        of_strength = np.array(images)
        best = of_strength.max(axis=1).mean()
        means = (f"{gain:+.2f}" for gain in (*of_strength.mean(axis=0), best))
        rows.append([name, str(len(images)), *means])
    print(markdown_table(["set", "images", *(f"{s:g}" for s in STRENGTHS), "best of these"], rows))


def gains(pair: synthetic.SyntheticPair, model: str) -> list[float]:
    """PSNR over the blurred image at every strength, in dB."""
    blurred, sharp = synthetic.centre(pair.blurred, CROP), synthetic.centre(pair.sharp, CROP)
    restored = deblur(blurred, model, axes=pair.axes)
    change = restored.astype(np.float64) - blurred
    limits = np.iinfo(blurred.dtype)
    errors = []
    for strength in (0.0, *STRENGTHS):
        image = np.clip(np.rint(blurred + strength * change), limits.min, limits.max)
        image, wanted = synthetic.centre(image, SCORED), synthetic.centre(sharp, SCORED)
        if pair.fit_intensity:
            image = affine_fit(image, wanted)
        errors.append(psnr(image, wanted, data_range=1))
    return [error - errors[0] for error in errors[1:]]


if __name__ == "__main__":
    main()
