"""Average the parameters of models that began with the same weights.

    python recipes/average.py defocus.safetensors motion.safetensors --out mean.safetensors

Such models lie in one valley of the loss, so what lies between them is a model, too, and often a
more careful one. The card is that of the first model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from napari_swintormer.models.files.weights import load_weights, save_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="weights files of the same network")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    options = parser.parse_args()
    (card, first), *others = map(load_weights, options.models)
    for file, (other, _) in zip(options.models[1:], others, strict=True):
        if card.network != other.network:
            parser.error(f"{file} has another network than {options.models[0]}")
    # in double precision, so that the average of equal parameters equals them
    average = {
        name: torch.stack([value, *(state[name] for _, state in others)])
        .mean(dim=0, dtype=torch.float64)
        .to(value.dtype)
        for name, value in first.items()
    }
    save_weights(options.out, average, card.model_copy(update={"name": options.out.stem}))


if __name__ == "__main__":
    main()
