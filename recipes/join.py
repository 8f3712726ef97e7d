"""Join two networks into one model: one is told the blur, the other one finds it.

    python recipes/join.py known.safetensors unclear.safetensors --out swintormer.safetensors

The first network, with its prior, restores images whose blur is told or measured. The second one
restores images whose blur is not clear. Both have the same sizes. A deconvolution of the first
network is left out, because it is never asked; a prior of the second one, too. Models
of two networks give the one that is asked for. To begin a training of both, join a network that
finds the blur with itself:

    python recipes/join.py small.safetensors small.safetensors --out two.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from napari_swintormer.models.catalogue import find_model
from napari_swintormer.models.files.weights import load_weights, save_weights
from napari_swintormer.training.loop.initial_model import with_known_blur
from napari_swintormer.training.loop.stage import SECOND

if TYPE_CHECKING:
    from torch import Tensor

    from napari_swintormer.models.files.card import ModelCard

    Model = tuple[ModelCard, dict[str, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("known", help="model with a network that is told the blur")
    parser.add_argument("unclear", help="model with a network that finds the blur")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    parser.add_argument("--prior-from", type=float, help="blur that the prior is for, in pixels")
    options = parser.parse_args()
    models = [load_weights(find_model(name)) for name in (options.known, options.unclear)]
    card, state = joined(*(with_known_blur(*model) for model in models))
    changes: dict[str, object] = {"name": options.out.stem}
    if options.prior_from is not None and card.prior is not None:
        changes["prior"] = card.prior.model_copy(update={"from_radius": options.prior_from})
    save_weights(options.out, state, card.model_copy(update=changes))


def joined(known: Model, unclear: Model) -> Model:
    """Join two networks for a known blur of equal sizes; the card is that of the first one."""
    (card, first), (other, second) = known, unclear
    if other.network.unclear:
        second = {n.removeprefix(SECOND): v for n, v in second.items() if n.startswith(SECOND)}
    deconvolution = other.network.deconvolution
    alone = {"prior_channels": 0, "deconvolution": deconvolution, "unclear": False}
    if deconvolution is None or card.network.model_copy(update=alone) != other.network.for_unclear:
        raise SystemExit(
            "The second network must have the sizes of the first one, and a deconvolution."
        )
    left_out = ("deconvolution.", SECOND)
    state = {name: value for name, value in first.items() if not name.startswith(left_out)}
    state |= {SECOND + n: value for n, value in second.items() if not n.startswith("prior.")}
    changes = {"deconvolution": deconvolution, "unclear": True}
    network = card.network.model_copy(update=changes)
    return card.model_copy(update={"network": network, "blur": "auto"}), state


if __name__ == "__main__":
    main()
