"""Measures what a prior brings and costs: without it, in several steps, and with a wrong prior.

    python benchmarks/prior_ablation.py folders=benchmark microscopy=pairs.csv --out FOLDER \
        --model MODEL [--baseline without.safetensors]

Writes the report of an evaluation, and one table of all sets, ``ablation.md``. The baseline is the
same network, trained equally long without a prior. The wrong prior is that of the tile upside down:
if it does no harm, the network ignores its prior.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_swintormer import load_model
from napari_swintormer.evaluation.evaluation import Evaluation, find_data_set
from napari_swintormer.evaluation.methods.cost import count
from napari_swintormer.evaluation.methods.methods import BLURRED, ModelMethod, parse_method
from napari_swintormer.evaluation.reports.evaluation_report import write_report
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.models.restorer import PriorUse, Restorer
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.terminal import finish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_swintormer.evaluation.rows import Row


TILE = 512  # pixels, the tiles of the shipped model
WRONG = "wrong prior"


class WrongPrior(Restorer):
    """Restores every tile with the prior of the tile upside down."""

    def _prior_features(self, images, origins):
        return super()._prior_features(images.flip(2, 3), origins)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="PROTOCOL=PATH, as in swintormer evaluate")
    parser.add_argument("--model", required=True, help="model with a prior")
    parser.add_argument("--baseline", help="the same network trained equally long without prior")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--centre", type=int, help="restore and score only so many pixels")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()

    settings = DeblurSettings(device=options.device, precision=options.precision)
    off = PriorUse(source="off")
    # label: the name of the method, and the prior that its cost is counted with
    variants = {"network alone": (options.baseline, off)} if options.baseline else {}
    variants["prior off"] = (f"{options.model}:prior=off", off)
    for steps in options.steps:
        name = f"{options.model}:num_inference_steps={steps}"
        variants[f"T = {steps}"] = (name, PriorUse(num_inference_steps=steps))
    right = load_model(options.model)
    wrong = WrongPrior(right.card, right.network.state_dict(), right.sha256)
    evaluation = Evaluation(
        tuple(map(find_data_set, options.data)),
        (
            *(parse_method(name, settings) for name, _ in variants.values()),
            ModelMethod(WRONG, replace(settings, model=options.model), restorer=wrong),
        ),
        options.out,
        centre=options.centre,
    )
    finish(evaluation.events(resume=True), "Evaluating")
    title = f"What the prior of {Path(options.model).stem} brings"
    for path in write_report(options.out, title, evaluation.rows):
        print(path)
    tile = torch.rand(1, right.channels, TILE, TILE)
    macs = {
        label: count(lambda use=use: right.with_prior(use)(tile))
        for label, (_, use) in variants.items()
    }
    labels = {name: label for label, (name, _) in variants.items()} | {WRONG: WRONG}
    text = table(evaluation.rows, labels, macs)
    (options.out / "ablation.md").write_text(text, encoding="utf-8")
    print(text)


def table(rows: Sequence[Row], labels: Mapping[str, str], macs: Mapping[str, int]) -> str:
    """Make a table of the mean gains in PSNR (dB) and SSIM of each set, and of the cost.

    `labels` maps the names of methods to their columns; `macs` has the multiply-accumulates of a
    tile for each column.
    """
    scores = {(row.set, row.image, row.method): row for row in rows}
    images: dict[str, set[str]] = {}
    for row in rows:
        images.setdefault(row.set, set()).add(row.image)

    def gains(name: str, method: str) -> str:
        differences = [
            [scores[name, image, m].scores[metric] for metric in ("psnr", "ssim")]
            for image in images[name]
            for m in (method, BLURRED)
        ]
        restored, blurred = np.array(differences[::2]), np.array(differences[1::2])
        psnr, ssim = (restored - blurred).mean(axis=0)
        return f"{psnr:+.2f}, {ssim:+.4f}"

    # the gain over a sharp image is not finite
    judged = [name for name in images if not name.startswith(("sharp-", "blank"))]
    lines = [
        [name, str(len(images[name])), *(gains(name, method) for method in labels)]
        for name in judged
    ]
    own = {method: [row for row in rows if row.method == method] for method in labels}
    counted = (f"{macs[label] / 1e9:.1f}" if label in macs else "" for label in labels.values())
    seconds = (f"{median(row.seconds for row in own[m]):.2f}" for m in labels)
    lines += [
        [f"GMACs of a tile of {TILE}", "", *counted],
        ["seconds per image, median", "", *seconds],
    ]
    return markdown_table(["set", "images", *labels.values()], lines)


if __name__ == "__main__":
    main()
