"""Measure how little a model changes images that it should leave alone.

    python recipes/do_no_harm.py --model swintormer --photo DIR --microscopy DIR --out FILE.md

The images are sharp images from folders, and noise, flat fields, text and stars that are made here.
The table has the PSNR between a restored image and itself before, over its range (0.1 to 99.9
percentile). Below 38 dB, or 40 dB for sharp images, a change may be visible; the table says so.
"""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer import deblur, load_model
from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.evaluation.data.harmless import Harmless, harmless_images
from napari_swintormer.evaluation.metrics.similarity import intensity_span, psnr
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator

LEAST = {"sharp": 40.0}  # dB
LEAST_OTHERS = 38.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="name or weights file")
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    model = load_model(options.model)

    rows, missed = [], 0
    for subject in chain(harmless_images(), sharp_images(options)):
        restored = deblur(subject.image, model, axes=subject.axes, device=options.device)
        span = intensity_span(subject.image)
        change = np.abs(restored.astype(float) - subject.image).max() / span
        to_itself = psnr(restored, subject.image, data_range=span)
        least = LEAST.get(subject.group, LEAST_OTHERS)
        missed += to_itself < least
        verdict = "" if to_itself >= least else f"below {least:g}"
        rows.append(
            [subject.group, subject.name, f"{to_itself:.1f}", f"{100 * change:.1f} %", verdict]
        )
        print(*rows[-1], flush=True)
    header = ["kind", "image", "PSNR to itself (dB)", "largest change", "verdict"]
    lines = [
        f"# What {Path(options.model).stem} leaves alone\n",
        f"{len(rows) - missed} of {len(rows)} images stay as they are.\n",
        markdown_table(header, rows),
    ]
    options.out.write_text("\n".join(lines), encoding="utf-8")


def sharp_images(options: argparse.Namespace) -> Iterator[Harmless]:
    """Yield the sharp images of the evaluation sets."""
    for kind in ("photo", "microscopy"):
        folder = getattr(options, kind)
        if folder is not None:
            for pair in synthetic.blurred_pairs(folder, kind):
                yield Harmless("sharp", pair.name, pair.axes, pair.sharp)


if __name__ == "__main__":
    main()
