"""What a prior brings and what it costs: without it, in more and more steps, and a wrong one.

    python benchmarks/prior_ablation.py --model joint.safetensors --baseline equal.safetensors \
        --photo DIR --microscopy DIR --pairs CSV --out docs/models/prior.md

The baseline is the same network trained equally long without prior. The "wrong" prior is that of
the tile upside down: if it does no harm, the network does not look at its prior.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from napari_swintormer import deblur, load_model
from napari_swintormer.evaluation import datasets, report
from napari_swintormer.models.restorer import PriorUse, Restorer

SIDE = 256  # of the tile that costs are counted on
OFF, WRONG, BASELINE = "off", "wrong", "equally long without"


class WrongPrior(Restorer):
    """Restores every tile with the prior of the tile upside down."""

    def _sample(self, images, places):
        return super()._sample(images.flip(2, 3), places)


def main() -> None:
    options = parse()
    restorer = load_model(options.model)
    wrong = WrongPrior(restorer.card, restorer.network.state_dict())

    def method(restorer, **use):
        return lambda image, axes: deblur(
            image, restorer, axes=axes, device=options.device, precision=options.precision, **use
        )

    methods = {BASELINE: method(load_model(options.baseline))} if options.baseline else {}
    methods[OFF] = method(restorer, prior="off")
    for steps in options.steps:
        methods[f"T = {steps}"] = method(restorer, num_inference_steps=steps)
    methods[WRONG] = method(wrong)

    sources = {
        "photo": partial(datasets.blurred_pairs, options.photo, "photo"),
        "microscopy": partial(datasets.blurred_pairs, options.microscopy, "microscopy"),
        "pairs": partial(datasets.real_pairs, options.pairs),
    }
    text = [f"# What the prior of {Path(options.model).stem} brings\n", costs(restorer, options)]
    for source, pairs in sources.items():
        if getattr(options, source) is None:
            continue
        comparisons = []
        for pair in pairs():
            comparisons.append(report.compare(pair, methods))
            print(f"{pair.set} {pair.name}", flush=True)
        text += [f"## {source}\n", "PSNR in dB (gain over the blurred image):\n"]
        text += [report.score_table(comparisons, "psnr"), "SSIM:\n"]
        text += [report.score_table(comparisons, "ssim"), "Seconds per image:\n"]
        seconds = {
            name: np.mean([comparison.scores[name].seconds for comparison in comparisons])
            for name in methods
        }
        text.append(report.markdown_table(list(seconds), [[f"{s:.2f}" for s in seconds.values()]]))
    options.out.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


def costs(restorer: Restorer, options) -> str:
    """Count the multiply-accumulates of a pixel, with the prior in so many steps."""

    def macs(use: PriorUse) -> float:
        tile = torch.rand(1, restorer.channels, SIDE, SIDE)
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            restorer.with_prior(use)(tile)
        return counter.get_total_flops() / 2 / SIDE**2

    network = macs(PriorUse(source="off"))
    rows = [[OFF, f"{network / 1e3:.1f} k", ""]]
    for steps in options.steps:
        whole = macs(PriorUse(num_inference_steps=steps))
        rows.append([f"T = {steps}", f"{whole / 1e3:.1f} k", f"{whole / network - 1:.1%}"])
    return report.markdown_table(["prior", "MACs per pixel", "prior by network"], rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="model with a prior")
    parser.add_argument("--baseline", help="the same network trained equally long without prior")
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy images")
    parser.add_argument("--pairs", type=Path, help="CSV file with columns blurred, sharp, set")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    if not (options.photo or options.microscopy or options.pairs):
        parser.error("nothing to evaluate on: give --photo, --microscopy or --pairs")
    return options


if __name__ == "__main__":
    main()
