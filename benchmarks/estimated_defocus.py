"""Measures how right the estimated size of a defocus is, and the probability told with it.

    python benchmarks/estimated_defocus.py --photo DIR --microscopy DIR [--draws 4]

Sharp images are defocused as in the evaluation. The images should not be among those that the
estimator was trained on. For each kind of images the script prints the median error of the radius,
and how often the radius is right to 20 % where the told probability of that is in a range.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.evaluation.data.synthetic import SUFFIXES, centre, degrade
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation.estimate import estimate_blur

if TYPE_CHECKING:
    from napari_swintormer.optics.estimation.defocus_posterior import Field

RANGES = ((0.0, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1.0))  # of the told probability
WITHIN = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, required=True, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, required=True, help="folder of micrographs")
    parser.add_argument("--draws", type=int, default=4, help="blurs of each image")
    options = parser.parse_args()
    table = []
    for folder, field in ((options.photo, "photo"), (options.microscopy, "micrograph")):
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        judged = [j for p in files for draw in range(options.draws) for j in judge(p, field, draw)]
        table += rows(field, np.array(judged).reshape(-1, 2))
    header = ["images", "number", "told probability of 20 %", "right to 20 %", "median error"]
    print(markdown_table(header, table))


def judge(path: Path, field: Field, draw: int) -> list[tuple[float, float]]:
    """Blur an image; give the told probability and the error of the radius if a defocus is told."""
    with open_image(path) as image:
        sharp, axes = np.asarray(image.data[...]), image.axes
    if axes not in ("YX", "YXS"):
        return []
    kind = "photo" if field == "photo" else "microscopy"
    rng = np.random.default_rng([99, zlib.crc32(path.name.encode()), draw])
    made, psf = degrade(sharp, axes, kind, rng, "defocus")
    blurred = centre(made).astype(np.float32)
    low, high = (0.0, 255.0) if field == "photo" else np.percentile(blurred, (0.1, 99.9))
    grey = blurred.mean(axis=2) if "S" in axes else blurred
    found = estimate_blur([((grey - low) / (high - low)).astype(np.float32)], field)
    if found.blur.kind == "none" or found.blur.family != "defocus":
        return []
    return [(found.certainty, abs(found.radius / Blur.kernel(psf).radius - 1))]


def rows(field: Field, judged: np.ndarray) -> list[list[str]]:
    """Give a row of all images, and one for each range of the told probability."""
    ranges = [(0.0, 1.0), *RANGES]
    made = []
    for low, high in ranges:
        told, error = judged[(judged[:, 0] >= low) & (judged[:, 0] < high)].T
        if not len(told):
            continue
        name = f"{field}, all" if (low, high) == (0, 1) else f"{field}, {low} to {high}"
        right = f"{100 * (error <= WITHIN).mean():.0f} %"
        made.append([name, str(len(told)), f"{100 * told.mean():.0f} %", right])
        made[-1].append(f"{100 * np.median(error):.1f} %")
    return made


if __name__ == "__main__":
    main()
