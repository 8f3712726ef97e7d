"""Train the small network from nothing on simple defocus: the shipped model began with it.

    python recipes/from_nothing.py --photo DIR --microscopy DIR --out start.safetensors

The same training on the command line:

    swintormer train --sharp PHOTOS --kind photo --sharp MICROSCOPY --kind microscopy \
        --synthesize defocus --lr 1e-3 --steps 14000 --seed 1 --out start.safetensors

`recipes/README.md` tells the images and the times.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from images import MICROSCOPY, PHOTO

from napari_swintormer import train

STEPS = 14_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, required=True, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, required=True, help="folder of sharp microscopy")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate at its peak")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--from-model", help="start from these weights")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    train(
        sharp=[arguments.photo, arguments.microscopy],
        kind=["photo", "microscopy"],
        synthesize="defocus",
        out=arguments.out,
        network=None if arguments.from_model else "small",
        from_model=arguments.from_model,
        steps=arguments.steps,
        learning_rate=arguments.lr,
        resume=arguments.resume,
        device=arguments.device,
        seed=arguments.seed,
        progress=True,
        title="Defocus in photos and microscopy, for any computer",
        summary=(
            "Removes moderate defocus (blur circles of up to about 10 pixels across) from photos "
            "and microscopy images, and leaves sharp images alone. Trained on synthetic defocus."
        ),
        licence="BSD-3-Clause",
        training_data=(*MICROSCOPY, *PHOTO),
    )


if __name__ == "__main__":
    main()
