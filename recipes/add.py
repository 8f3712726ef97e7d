"""Add to a model what another one has learned since both were the same.

    python recipes/add.py with_prior.safetensors --learned with_deconvolution.safetensors \
        --since before.safetensors --out start.safetensors

The differences of parameters can be added for models that began with the same weights. So a model
with a prior gets a deconvolution, and the network behind it, without a new training. The result is
a start for further training. Without `--since`, the parameters of the other model replace those of
the same name: so a prior gets another network. The card is that of the first model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from napari_swintormer.models.catalogue import find_model
from napari_swintormer.models.files.weights import load_weights, save_weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model to add to")
    parser.add_argument("--learned", required=True, help="model that has learned more")
    parser.add_argument("--since", help="model that both began with; default: replace parameters")
    parser.add_argument("--share", type=float, default=1.0, help="share of the difference to add")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write")
    options = parser.parse_args()
    card, state = load_weights(find_model(options.model))
    new_card, new = load_weights(find_model(options.learned))
    cards = [card, new_card]
    if options.since:
        old = load_weights(find_model(options.since))[1]
    else:
        old = {name: cut(state[name], value) for name, value in new.items() if name in state}
        cards.reverse()  # then a deconvolution is that of the other model
    first, second = (each.network.deconvolution for each in cards)
    for name, value in new.items():
        if name not in state:
            state[name] = value
        elif name in old:
            change = options.share * (value - old[name])
            state[name] = state[name] + fitted(change, state[name])
    network = card.network.model_copy(update={"deconvolution": first or second})
    changed = {"network": network, "name": options.out.stem}
    save_weights(options.out, state, card.model_copy(update=changed))


def cut(value: Tensor, like: Tensor) -> Tensor:
    """Cut off the channels of a prior."""
    return value[tuple(map(slice, like.shape))]


def fitted(change: Tensor, like: Tensor) -> Tensor:
    """Pad with zeros for the channels of a prior, which come last."""
    missing = [n - m for n, m in zip(like.shape, change.shape, strict=True)]
    sides = [side for n in reversed(missing) for side in (0, n)]
    return pad(change, sides) if any(missing) else torch.clone(change)


if __name__ == "__main__":
    main()
