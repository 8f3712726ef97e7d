"""Give a model a compact prior: four trainings, one after the other.

    python recipes/prior_compact.py --from swintormer-small --photo DIR --microscopy DIR --out DIR

Each stage writes a whole model, `autoencoder.safetensors` to `joint.safetensors`; the last is the
result. An interrupted recipe goes on with `--resume`. What the stages brought stands in the metrics
of the last model's card; `benchmarks/prior_ablation.py` tells whether the prior earns its place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_swintormer import train
from napari_swintormer.models.prior_settings import CompactPriorSettings

# stage → steps, learning rate, norm that gradients are cut to
STAGES = {
    "autoencoder": (4000, 2e-3, 1.0),
    "denoiser": (8000, 2e-3, 1.0),
    "network": (4000, 3e-4, 0.01),
    "joint": (4000, 1e-4, 0.01),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="base", required=True, help="model without prior")
    parser.add_argument("--photo", type=Path, required=True, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, required=True, help="folder of sharp microscopy")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--factor", type=int, default=4, help="pixels per pixel of the latent")
    parser.add_argument("--width", type=int, default=16, help="channels inside the prior")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--patch-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    prior = CompactPriorSettings(factor=options.factor, width=options.width)
    model = options.base
    for stage, (steps, rate, clip) in STAGES.items():
        out = options.out / f"{stage}.safetensors"
        if not (options.resume and out.exists()):
            begun = (out.with_suffix(".run") / "checkpoint.pt").exists()
            train(
                sharp=[options.photo, options.microscopy],
                kind=["photo", "microscopy"],
                synthesize="defocus",
                from_model=model,
                stage=stage,
                prior=prior if stage == "autoencoder" else None,
                out=out,
                steps=max(1, round(options.scale * steps)),
                learning_rate=rate,
                clip=clip,
                patch_size=options.patch_size,
                batch_size=options.batch_size,
                resume=options.resume and begun,
                seed=options.seed,
                device=options.device,
                progress=True,
            )
        model = str(out)


if __name__ == "__main__":
    main()
