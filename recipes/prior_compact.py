"""Give a model a compact prior: four trainings, one after the other.

    python recipes/prior_compact.py --from swintormer-small --photo DIR --microscopy DIR --out DIR

Each stage writes a whole model, `autoencoder.safetensors` to `joint.safetensors`; the last is the
result. An interrupted recipe goes on with `--resume`. What the stages brought stands in the metrics
of the last model's card. With `--baseline` it then trains the network without prior, in the same
steps on the same patches: `benchmarks/prior_ablation.py` compares the two.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_swintormer import train
from napari_swintormer.models.prior_settings import CompactPriorSettings

# stage → steps, learning rate, norm that gradients are cut to, precision
STAGES = {
    "autoencoder": (2000, 2e-3, 1.0, "fp32"),
    "denoiser": (4000, 2e-3, 1.0, "fp32"),
    "network": (1000, 5e-4, 0.01, "bf16"),
    "joint": (3000, 5e-4, 0.01, "bf16"),
}
PRIOR = CompactPriorSettings(
    factor=4, width=32, latent_channels=8, prior_channels=8, num_inference_steps=2
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="base", required=True, help="model without prior")
    parser.add_argument("--photo", type=Path, required=True, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, required=True, help="folder of sharp microscopy")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of steps")
    parser.add_argument("--patch-size", type=int, default=128)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--baseline", action="store_true", help="also train without prior")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = options.base
    for stage in STAGES:
        model = run(stage, model, options.out / f"{stage}.safetensors", options)
    if options.baseline:
        model = options.base
        for stage in ("network", "joint"):
            model = run(
                stage, model, options.out / f"without_{stage}.safetensors", options, prior=False
            )


def run(
    stage: str, model: str, out: Path, options: argparse.Namespace, *, prior: bool = True
) -> str:
    """Train one stage, starting from `model`, or what is missing of it; return the new model."""
    steps, rate, clip, precision = STAGES[stage]
    if not (options.resume and out.exists()):
        begun = (out.with_suffix(".run") / "checkpoint.pt").exists()
        train(
            sharp=[options.photo, options.microscopy],
            kind=["photo", "microscopy"],
            synthesize="defocus",
            from_model=model,
            stage=stage if prior else "network",
            prior=PRIOR if stage == "autoencoder" else None,
            out=out,
            steps=max(1, round(options.scale * steps)),
            learning_rate=rate,
            clip=clip,
            patch_size=options.patch_size,
            batch_size=options.batch_size,
            resume=options.resume and begun,
            # the two that train the network draw the same patches with and without prior
            seed=options.seed + list(STAGES).index(stage),
            device=options.device,
            precision=precision,
            progress=True,
        )
    return str(out)


if __name__ == "__main__":
    main()
