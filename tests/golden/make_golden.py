"""Make the two small golden files of whole networks from the large recordings.

Run ``PYTHONPATH=src:tests python tests/golden/make_golden.py FOLDER`` with the recordings in FOLDER
(README.md says how to get them). The project must first compute what was recorded. It then computes
the same for weights from a random generator, which the tests repeat, so no file stores them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from helpers.golden import (
    GOLDEN,
    ldm_denoiser,
    predicted_noise,
    random_weights,
    read_golden,
    released_output,
    sampled,
)

CLOSE = 1e-5
"""Largest error, relative to the norm of what was recorded."""


def check(found: Tensor, recorded: Tensor) -> None:
    """Stop unless this project computes what was recorded."""
    error = float((found - recorded).norm() / recorded.norm())
    if error > CLOSE:
        sys.exit(f"The result differs from the recording: relative error {error:.1e}.")


def write(name: str, tensors: dict[str, Tensor], shapes: dict[str, list[int]]) -> None:
    """Write tensors, and the shapes of the weights in the header."""
    tensors = {key: tensor.contiguous() for key, tensor in tensors.items()}
    save_file(tensors, GOLDEN / f"{name}.safetensors", {"shapes": json.dumps(shapes)})


def main(folder: Path) -> None:
    """Check both recordings, then write both small files."""
    recorded, weights = read_golden("swintormer_small", folder)
    check(released_output(weights, recorded["input"]), recorded["output"])
    shapes = {name: list(weight.shape) for name, weight in weights.items()}
    image = recorded["input"][:1, :, :, :128]
    output = released_output(random_weights(shapes), image)
    write("swintormer_small", {"input": image, "output": output}, shapes)

    recorded, weights = read_golden("ldm_unet_small", folder)
    for name, result in ldm_results(weights, recorded).items():
        check(result, recorded[name])
    shapes = {name: list(weight.shape) for name, weight in weights.items()}
    inputs = {name: recorded[name] for name in ("x_T", "condition")}
    write("ldm_unet_small", inputs | ldm_results(random_weights(shapes), inputs), shapes)


def ldm_results(weights: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Compute what `ldm_unet_small` holds beside its inputs."""
    denoiser = ldm_denoiser(weights)
    results = {f"z0_ddim{steps}": sampled(denoiser, tensors, steps) for steps in (5, 20)}
    return {"eps_t37": predicted_noise(denoiser, tensors)} | results


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
