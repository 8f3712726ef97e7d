"""What a prior brings and what it costs: without it, in more and more steps, and a wrong one.

    python benchmarks/prior_ablation.py folders=benchmark microscopy=pairs.csv --out FOLDER \
        --model joint.safetensors --baseline equal.safetensors

An evaluation as `swintormer evaluate` makes it. The baseline is the same network trained equally
long without prior. The "wrong" prior is that of the tile upside down: if it does no harm, the
network does not look at its prior.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from napari_swintormer import load_model
from napari_swintormer.config import DeblurSettings
from napari_swintormer.console import finish
from napari_swintormer.evaluation.methods import Model, parse_method
from napari_swintormer.evaluation.pages import write_report
from napari_swintormer.evaluation.run import Evaluation, find_source
from napari_swintormer.models.restorer import Restorer


class WrongPrior(Restorer):
    """Restores every tile with the prior of the tile upside down."""

    def _sample(self, images, places, seen):
        return super()._sample(images.flip(2, 3), places, seen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="PROTOCOL=PATH, as of swintormer evaluate")
    parser.add_argument("--model", required=True, help="model with a prior")
    parser.add_argument("--baseline", help="the same network trained equally long without prior")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()

    settings = DeblurSettings(device=options.device, precision=options.precision)
    names = [options.baseline] if options.baseline else []
    names.append(f"{options.model}:prior=off")
    names += [f"{options.model}:num_inference_steps={steps}" for steps in options.steps]
    right = load_model(options.model)
    wrong = WrongPrior(right.card, right.network.state_dict(), right.sha256)
    evaluation = Evaluation(
        tuple(map(find_source, options.data)),
        (
            *(parse_method(name, settings) for name in names),
            Model("wrong prior", replace(settings, model=options.model), restorer=wrong),
        ),
        options.out,
    )
    finish(evaluation.events(resume=True), "Evaluating", show=True)
    title = f"What the prior of {Path(options.model).stem} brings"
    for path in write_report(options.out, title, evaluation.rows):
        print(path)


if __name__ == "__main__":
    main()
