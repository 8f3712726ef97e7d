"""Average the parameters of two models of one descent.

    python recipes/average.py defocus.safetensors motion.safetensors --out photo-defocus.safetensors

Models that were trained on from the same weights lie in one valley of the loss: what lies half-way
between them is a model, too, often a more careful one than either. The card is that of the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from napari_swintormer.models.weights import load_weights, save_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", type=Path, help="weights file whose card is kept")
    parser.add_argument("second", type=Path, help="weights file of the same network")
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    options = parser.parse_args()
    card, first = load_weights(options.first)
    other, second = load_weights(options.second)
    if card.network != other.network:
        parser.error(f"{options.second} has another network than {options.first}")
    # computed in double, so that the average of equal parameters is the very same
    average = {
        name: ((1 - options.share) * value.double() + options.share * second[name].double()).to(
            value.dtype
        )
        for name, value in first.items()
    }
    save_weights(options.out, average, card.model_copy(update={"name": options.out.stem}))


if __name__ == "__main__":
    main()
