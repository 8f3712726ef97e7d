"""Train the shipped model, in four trainings.

    python recipes/train_shipped.py known --from two.safetensors --photo DIR --microscopy DIR \
        --out known.safetensors

`deconvolution` comes first: the part before the network, trained alone; then both `together`.
`recipes/join.py` makes two networks of that. `known` trains the first one, which is told the blur,
and `unclear` the second one, which finds it. `recipes/README.md` has the images
and times. `--resume` continues an interrupted training. `--network paper` trains the large network
from nothing, for a GPU.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from images import MICROSCOPY, PHOTO

from napari_swintormer import train
from napari_swintormer.models.network.network_settings import DeconvolutionSettings


@dataclass(frozen=True)
class Recipe:
    """One training, and the texts on the card of its model."""

    synthesize: str
    title: str
    summary: str
    steps: int = 2_000
    learning_rate: float = 4e-4
    parameters: str = "all"
    batch_size: int = 2
    warmup: int = 200


TITLE = "Defocus and motion, in photos and microscopy"
SUMMARY = (
    "Restores photos and microscopy images out of focus or blurred by motion, with a blur that is "
    "told, measured, or found place by place. Leaves sharp images alone. Trained on synthetic blur."
)
RECIPES = {
    "deconvolution": Recipe(
        "all",
        "Deconvolution before a network that does not know it yet",
        "Not to be used as it is: the network behind it goes on with what it has learned.",
        steps=5_000,
        learning_rate=2e-3,
        parameters="deconvolution",
        batch_size=4,
        warmup=50,
    ),
    "together": Recipe(
        "all",
        "A network that finds the blur by itself",
        "Removes defocus and motion blur from photos and defocus from microscopy images, and "
        "leaves sharp images alone. Trained on synthetic blur.",
        steps=5_000,
        learning_rate=5e-4,
    ),
    "known": Recipe("known", TITLE, SUMMARY, steps=8_500, learning_rate=5e-4),
    "unclear": Recipe("all", TITLE, SUMMARY, steps=11_000, learning_rate=3e-4),
}
# Patches with one window of the coarsest level make windows that show in the result. The
# deconvolution, too, looks this far around.
PATCH_SIZE = 256
PAPER_STEPS, PAPER_RATE = 200_000, 3e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--photo", type=Path, required=True, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, required=True, help="folder of sharp microscopy")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    begin = parser.add_mutually_exclusive_group(required=True)
    begin.add_argument("--from", dest="base", help="weights of the small network to start from")
    begin.add_argument("--network", choices=["paper"], help="start from nothing")
    parser.add_argument("--steps", type=int, help="number of steps; default: the recipe's")
    parser.add_argument("--lr", type=float, help="peak learning rate; default: the recipe's")
    parser.add_argument("--patch-size", type=int, default=PATCH_SIZE)
    parser.add_argument("--batch-size", type=int, help="patches in a step; default: the recipe's")
    parser.add_argument("--loss", default="l1 + 0.002 * decibel")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    recipe = RECIPES[options.name]
    steps, rate = PAPER_STEPS, PAPER_RATE
    if options.base:
        steps, rate = recipe.steps, recipe.learning_rate
    begun = (options.out.with_suffix(".run") / "checkpoint.pt").exists()
    train(
        sharp=[options.photo, options.microscopy],
        kind=["photo", "microscopy"],
        loss=options.loss,
        synthesize=recipe.synthesize,
        out=options.out,
        network=options.network,
        from_model=options.base,
        deconvolution=DeconvolutionSettings()
        if options.base and options.name in ("deconvolution", "together")
        else None,
        parameters=recipe.parameters,
        steps=options.steps or steps,
        learning_rate=options.lr or rate,
        warmup=recipe.warmup,
        patch_size=options.patch_size,
        batch_size=options.batch_size or recipe.batch_size,
        resume=options.resume and begun,
        seed=options.seed,
        device=options.device,
        precision=options.precision,
        progress=True,
        title=recipe.title,
        summary=recipe.summary,
        licence="BSD-3-Clause",
        training_data=(*MICROSCOPY, *PHOTO),
    )


if __name__ == "__main__":
    main()
