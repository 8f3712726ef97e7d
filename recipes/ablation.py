"""Train the small networks of the paper's ablation over attention.

    python recipes/ablation.py --photo DIR --out ablation
    swintormer evaluate folders=benchmark/photo --table ablation -m ablation/mixed.safetensors \
        -m ablation/channel.safetensors -m ablation/window.safetensors --out report

Three networks differ in their attention only: over channels, over the pixels of shifted windows,
and half of the channels each. They train on the same patches in the same order. `--resume`
continues an interrupted recipe.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from images import PHOTO

from napari_swintormer import train
from napari_swintormer.models.network.network_settings import SwintormerSettings

NETWORK = SwintormerSettings(
    dim=12, num_blocks=(2, 2, 2, 2), num_refinement_blocks=0, ffn_expansion=2.5, window_size=8
)
STEPS = 1200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, required=True, help="folder of sharp photos")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for attention in ("channel", "window", "mixed"):
        out = options.out / f"{attention}.safetensors"
        if options.resume and out.exists():
            continue
        train(
            sharp=options.photo,
            kind="photo",
            synthesize="defocus",
            network=NETWORK.model_copy(update={"attention": attention}),
            out=out,
            steps=options.steps,
            learning_rate=1e-3,
            batch_size=4,
            ema=0.99,  # with 0.999 the average of so few steps would keep the random start
            resume=options.resume and (out.with_suffix(".run") / "checkpoint.pt").exists(),
            seed=options.seed,
            device=options.device,
            progress=True,
            title=f"Ablation: attention {attention}",
            summary="A network with a tenth of a usual training, to compare kinds of attention.",
            licence="BSD-3-Clause",
            training_data=PHOTO,
        )


if __name__ == "__main__":
    main()
