"""Give a model more blocks, which change nothing until they are trained.

    python recipes/grow.py photo-defocus --num-blocks 2 4 6 6 --out grown.safetensors

Every new block adds zero to its input, so the grown model restores just what the old one does, and
has learned all that it knows when a training goes on from it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from napari_swintormer.models.catalogue import find_model
from napari_swintormer.models.swintormer import Swintormer
from napari_swintormer.models.weights import load_weights, save_weights

# the last product of a block's two halves
LAST = ("attention.merge.weight", "ffn.project.weight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model without prior")
    parser.add_argument("--num-blocks", type=int, nargs=4, required=True, help="of the levels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    options = parser.parse_args()
    card, weights = load_weights(find_model(options.model))
    if any(new < old for new, old in zip(options.num_blocks, card.network.num_blocks, strict=True)):
        parser.error(f"{options.model} has more blocks already: {card.network.num_blocks}")
    network = card.network.model_copy(update={"num_blocks": tuple(options.num_blocks)})
    torch.manual_seed(options.seed)
    grown = Swintormer(network).state_dict()
    for name, value in grown.items():
        if name not in weights and name.endswith(LAST):
            value.zero_()
    save_weights(
        options.out,
        grown | dict(weights),
        card.model_copy(update={"name": options.out.stem, "network": network}),
    )


if __name__ == "__main__":
    main()
