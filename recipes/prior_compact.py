"""Give a model a compact prior in three trainings, one after the other.

    python recipes/prior_compact.py --from together.safetensors --photo DIR --microscopy DIR \
        --out DIR --baseline

First the autoencoder is trained, then the denoiser, whose encoder begins with the model itself at
half and a quarter of the size, then all together. The stages write the models
`autoencoder.safetensors`, `denoiser.safetensors` and `joint.safetensors`; `--resume` continues an
interrupted recipe. With `--baseline` the network is then trained without prior, for as many steps
on the same patches, to `without.safetensors`: `benchmarks/prior_ablation.py` compares the two.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from napari_swintormer import train
from napari_swintormer.training.settings_check import Synthesis

# stage: steps, learning rate, largest norm of the gradient, precision, side and number of patches
STAGES = {
    "autoencoder": (400, 4e-3, 1.0, "fp32", 128, 8),
    # smaller patches would not hold a window of the encoder, which spans 256 pixels
    "denoiser": (600, 5e-4, 0.01, "auto", 256, 2),
    "joint": (3600, 5e-4, 0.01, "auto", 256, 2),
}
TITLE = "Defocus and motion, wide blur too, with a diffusion prior"
SUMMARY = (
    "Removes defocus and motion blur from photos and defocus from microscopy images, and leaves "
    "sharp images alone; a diffusion prior sampled at half and a quarter of the size helps where "
    "blur is wide, and says how sure a result is. Trained on synthetic blur."
)
WITHOUT = {"without": (4600, 5e-4, 0.01, "auto", 256, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="base", required=True, help="model without prior")
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy")
    parser.add_argument("--synthesize", default="all", choices=get_args(Synthesis))
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of steps")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--baseline", action="store_true", help="also train without prior")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if not (options.photo or options.microscopy):
        parser.error("nothing to train on: give --photo DIR, --microscopy DIR, or both")
    options.out.mkdir(parents=True, exist_ok=True)
    model = options.base
    for stage in STAGES:
        model = run(stage, model, options.out / f"{stage}.safetensors", options)
    if options.baseline:
        run("without", options.base, options.out / "without.safetensors", options)


def run(stage: str, model: str, out: Path, options: argparse.Namespace) -> str:
    """Train one stage from `model`, or the rest of it; return the new model."""
    steps, rate, clip, precision, patch_size, batch_size = (STAGES | WITHOUT)[stage]
    if not (options.resume and out.exists()):
        begun = (out.with_suffix(".run") / "checkpoint.pt").exists()
        folders = {"photo": options.photo, "microscopy": options.microscopy}
        given = {kind: folder for kind, folder in folders.items() if folder is not None}
        train(
            sharp=list(given.values()),
            kind=list(given),
            synthesize=options.synthesize,
            from_model=model,
            stage="network" if stage in WITHOUT else stage,
            out=out,
            loss="decibel" if stage in WITHOUT else "l1",
            steps=max(1, round(options.scale * steps)),
            learning_rate=rate,
            clip=clip,
            patch_size=patch_size,
            batch_size=batch_size,
            resume=options.resume and begun,
            seed=options.seed,
            device=options.device,
            precision=precision,
            progress=True,
            title=TITLE if stage == "joint" else "",
            summary=SUMMARY if stage == "joint" else "",
        )
    return str(out)


if __name__ == "__main__":
    main()
