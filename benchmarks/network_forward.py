"""Measures how much faster the network is than a plain transcription of the paper.

    python benchmarks/network_forward.py [--size 256] [--runs 7] [--model paper|small] [--json FILE]

Both run the same weights in the same process, in turns, so that other programs slow both alike. The
ratio is the median over the turns. The transcription does what the paper writes down: NCHW tensors,
softmax over explicit matrices, shift mask and position bias made again in every call.
"""

from __future__ import annotations

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from napari_swintormer.evaluation.benchmark.timing import ratio, turn_by_turn
from napari_swintormer.evaluation.benchmark.transcription import Transcription
from napari_swintormer.models.network.network_settings import SwintormerSettings
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.training.train_presets import NETWORKS

MODELS = NETWORKS | {"paper": SwintormerSettings(views=2)}


def randomised(settings: SwintormerSettings) -> Swintormer:
    """Make a network whose parts all change the output, ready for inference."""
    torch.manual_seed(0)
    network = Swintormer(settings).eval()
    torch.nn.init.trunc_normal_(network.output.weight, std=0.05)
    return network


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="paper")
    parser.add_argument("--softmax", choices=("plain", "released"), default="plain")
    parser.add_argument("--size", type=int, default=256, help="side of the image, in pixels")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()

    settings = MODELS[options.model].model_copy(update={"softmax": options.softmax})
    network = randomised(settings)
    transcription = Transcription(network)
    x = torch.rand(1, settings.in_channels, options.size, options.size)

    def bf16(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(x)

    with FlopCounterMode(display=False) as counter:
        expected = transcription(x)
    change = (expected - x[:, : settings.channels]).std()
    variants = {"transcription": transcription, "fp32": network, "bf16": bf16}
    errors = {name: float((v(x) - expected).std() / change) for name, v in variants.items()}
    works = {name: partial(variant, x) for name, variant in variants.items()}
    times = turn_by_turn(works, options.runs)

    report = {
        "model": options.model,
        "parameters": sum(weight.numel() for weight in network.parameters()),
        "softmax": options.softmax,
        "size": options.size,
        "threads": torch.get_num_threads(),
        "gmac": counter.get_total_flops() / 2e9,
        "torch": torch.__version__,
        "variants": {
            name: {
                "milliseconds": 1e3 * statistics.median(taken),
                "faster": ratio(times["transcription"], taken),
                "relative_error": errors[name],
            }
            for name, taken in times.items()
        },
    }
    print(
        f"{options.model}, {report['parameters'] / 1e6:.3f} M parameters, {options.size} x "
        f"{options.size}, {report['gmac']:.2f} G multiply-accumulates, {options.softmax} softmax, "
        f"{report['threads']} threads"
    )
    for name, row in report["variants"].items():
        print(
            f"{name:14} {row['milliseconds']:8.1f} ms  {row['faster']:5.2f} x  "
            f"relative error {row['relative_error']:.1e}"
        )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if errors["fp32"] > 1e-4:
        raise SystemExit("the network does not agree with the transcription")


if __name__ == "__main__":
    main()
