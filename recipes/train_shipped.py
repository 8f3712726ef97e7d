"""Train one of the shipped models.

    python recipes/train_shipped.py photo-defocus --from swintormer-small --photo DIR \
        --out photo-defocus.safetensors

`deconvolution` comes first: the part before the network, trained alone. Every model starts from
another one; `recipes/README.md` tells which, and the images and times. `--resume` continues an
interrupted training. `--network paper` trains the large network from nothing, for a GPU.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from images import MICROSCOPY, PHOTO

from napari_swintormer import train
from napari_swintormer.models.network.network_settings import DeconvolutionSettings

if TYPE_CHECKING:
    from napari_swintormer.models.files.card import TrainingData


@dataclass(frozen=True)
class Recipe:
    """Training of one model, and the texts on its card."""

    kinds: tuple[str, ...]
    synthesize: str
    training_data: tuple[TrainingData, ...]
    title: str
    summary: str
    steps: int = 2_000
    learning_rate: float = 4e-4
    parameters: str = "all"
    batch_size: int = 2
    warmup: int = 200


RECIPES = {
    "deconvolution": Recipe(
        ("photo", "microscopy"),
        "all",
        (*MICROSCOPY, *PHOTO),
        "Deconvolution before a network that does not know it yet",
        "Not to be used as it is: the network behind it goes on with what it has learned.",
        steps=5_000,
        learning_rate=2e-3,
        parameters="deconvolution",
        batch_size=4,
        warmup=50,
    ),
    "swintormer-small": Recipe(
        ("photo", "microscopy"),
        "all",
        (*MICROSCOPY, *PHOTO),
        "Defocus and motion, in photos and microscopy",
        "Removes defocus and motion blur from photos and defocus from microscopy images, and "
        "leaves sharp images alone. Trained on synthetic blur.",
        steps=5_000,
        learning_rate=5e-4,
    ),
    "photo-defocus": Recipe(
        ("photo",),
        "all",
        PHOTO,
        "Defocus in photos",
        "Removes defocus from photos, also where it changes with the depth of the scene, and "
        "leaves sharp images alone. Trained on synthetic defocus and motion.",
    ),
    "microscopy": Recipe(
        ("microscopy",),
        "optics",
        MICROSCOPY,
        "Defocus in microscopy: fluorescence and transmitted light",
        "Removes defocus from grey and RGB microscopy images of 8 or 16 bit, and leaves sharp "
        "images alone. Trained on synthetic defocus of microscope optics.",
    ),
    "known-blur": Recipe(
        ("photo", "microscopy"),
        "known",
        (*MICROSCOPY, *PHOTO),
        "A blur that is known",
        "Restores photos and microscopy images whose blur is told or measured.",
        steps=4_000,
        learning_rate=5e-4,
    ),
    "photo-motion": Recipe(
        ("photo",),
        "motion",
        PHOTO,
        "Motion blur in photos: camera shake and moving things",
        "Removes the blur of a shaking camera and of moving things from photos, and leaves sharp "
        "images alone. Trained on synthetic motion.",
    ),
}
# Patches with one window of the coarsest level make windows that show in the result. The
# deconvolution, too, looks this far around.
PATCH_SIZE = 256
PAPER_STEPS, PAPER_RATE = 200_000, 3e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=RECIPES)
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy")
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
    folders = [getattr(options, kind) for kind in recipe.kinds]
    for kind, folder in zip(recipe.kinds, folders, strict=True):
        if folder is None:
            parser.error(f"{options.name} needs sharp images: give --{kind} DIR")
    steps, rate = PAPER_STEPS, PAPER_RATE
    if options.base:
        steps, rate = recipe.steps, recipe.learning_rate
    begun = (options.out.with_suffix(".run") / "checkpoint.pt").exists()
    train(
        sharp=folders,
        kind=recipe.kinds,
        loss=options.loss,
        synthesize=recipe.synthesize,
        out=options.out,
        network=options.network,
        from_model=options.base,
        deconvolution=DeconvolutionSettings()
        if options.base and options.name != "known-blur"
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
        training_data=recipe.training_data,
    )


if __name__ == "__main__":
    main()
