"""Compute what the paper's recipe costs on DPDD and GoPro, from counted multiply-accumulates.

    python benchmarks/paper_cost.py

Nothing is measured: the hours follow from the counts, the rate of an H100 (989 TFLOP/s in bf16) and
an assumed utilisation. `swintormer train` measures both networks on the device before it begins.
"""

from __future__ import annotations

import argparse

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from napari_swintormer.evaluation.benchmark.complexity import PUBLISHED, network_cost, prior_step
from napari_swintormer.evaluation.methods.cost import count
from napari_swintormer.models.prior.ldm import LdmPrior
from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
from napari_swintormer.training.data.prior_cache import cache_bytes

RATE = 989e12 / 2  # multiply-accumulates per second
NETWORK, PRIOR = (
    0.1,
    0.3,
)  # shares of the rate; the narrow layers of the network are bound by memory
SETS = {"DPDD": (350, 1680, 1120, 2), "GoPro": (2103, 1280, 720, 1)}  # images, sides, views
DENOISER = (100_000, 8, 128)  # steps, patches in a step, side of a patch
TRAINING = (300_000, 9, 256)


def encoder_macs(side: int) -> int:
    """Count the encoder of VQ-f4 on an image of `side` pixels, enlarged four times."""
    from diffusers import VQModel

    with torch.device("meta"):
        model = VQModel(
            block_out_channels=(128, 256, 512),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=2,
        )
    model = model.to_empty(device="cpu").eval()
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.empty(1, 3, 4 * side, 4 * side)
        return count(lambda: model.encoder(images))


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    per_pixel = prior_step().macs / 256**2
    steps, patches, side = DENOISER
    denoiser = steps * patches * (3 * per_pixel * side**2 + encoder_macs(side)) / (RATE * PRIOR)
    print("| | DPDD | GoPro |\n|---|---:|---:|")
    rows: dict[str, list[str]] = {}
    prior = LdmPrior(torch.nn.Identity(), LdmPriorSettings())
    window = prior.settings.window
    for images, width, height, views in SETS.values():
        network = PUBLISHED.model_copy(update={"views": views, "prior_channels": 3})
        macs = network_cost("", network, torch.device("cpu")).macs
        made, number, _ = TRAINING
        hours = {"fine-tuning": denoiser, "network": made * number * 3 * macs / (RATE * NETWORK)}
        for t in (5, 20, 50):
            calls = images * prior.count_calls(height, width, t)
            hours[f"sampling, T = {t}"] = calls * per_pixel * window**2 / (RATE * PRIOR)
        for name, seconds in hours.items():
            rows.setdefault(f"{name}, hours", []).append(f"{seconds / 3600:.1f}")
        size = cache_bytes([(height, width)] * images) / 1e9
        rows.setdefault("sampled priors, GB", []).append(f"{size:.1f}")
        rows.setdefault("GMACs of the network at 256 x 256", []).append(f"{macs / 1e9:.1f}")
    for name, values in rows.items():
        print(f"| {name} | {' | '.join(values)} |")
    print(f"\nencoder on a patch of {side}: {encoder_macs(side) / 1e9:.0f} GMACs")
    print(f"denoiser on it: {per_pixel * side**2 / 1e9:.0f} GMACs")


if __name__ == "__main__":
    main()
