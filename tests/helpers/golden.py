"""Recorded results of the authors' code, and how this project computes the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn

from helpers.tiny import sample_prior
from napari_swintormer.models.files.released import convert_released
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.prior.compvis import convert_compvis
from napari_swintormer.models.prior.ldm import LdmPrior, build_denoiser
from napari_swintormer.models.prior.prior_settings import LdmPriorSettings

GOLDEN = Path(__file__).parents[1] / "golden"


def read_golden(name: str, folder: Path = GOLDEN) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of a golden file, and the weights of its network.

    The file holds the weights under ``weights.<name>``, or their shapes in its header: then they
    are the random weights that `random_weights` makes.
    """
    with safe_open(folder / f"{name}.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        shapes = json.loads((file.metadata() or {}).get("shapes", "{}"))
    weights = {
        key.removeprefix("weights."): tensors.pop(key)
        for key in list(tensors)
        if key.startswith("weights.")
    }
    return tensors, weights or random_weights(shapes)


def random_weights(shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """Make weights in which every layer matters, equal on every computer."""
    random = np.random.RandomState(0)
    weights = {}
    for name, shape in shapes.items():
        uniform = random.uniform(-1, 1, shape).astype(np.float32)
        if name.endswith("bias") and "position" not in name:
            values = 0.5 * uniform
        elif name.endswith("logit_scale"):
            values = np.float32(np.log(10)) + uniform
        elif len(shape) == 1:  # the scale of a normalisation
            values = 1 + 0.2 * uniform
        else:
            values = uniform * np.float32(1.5 / np.sqrt(np.prod(shape[1:])))
        weights[name] = torch.from_numpy(values)
    return weights


def released_output(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    """Restore an image of windows of 8 by weights under the released names."""
    settings, state = convert_released(weights, window_size=8)
    network = Swintormer(settings).eval()
    network.load_state_dict(state)
    with torch.inference_mode():
        return network(image)


def ldm_denoiser(weights: dict[str, Tensor]) -> nn.Module:
    """Build the denoiser of weights under the names of the original latent-diffusion code."""
    config, state = convert_compvis(weights)
    denoiser = build_denoiser(config)
    denoiser.load_state_dict(state)
    return denoiser.eval().requires_grad_(False)


def predicted_noise(denoiser: nn.Module, tensors: dict[str, Tensor]) -> Tensor:
    """Predict the noise at step 37."""
    return denoiser(torch.cat([tensors["x_T"], tensors["condition"]], dim=1), 37).sample


def sampled(denoiser: nn.Module, tensors: dict[str, Tensor], steps: int) -> Tensor:
    """Sample the prior with DDIM, η = 0, from the recorded noise."""
    prior = LdmPrior(denoiser, LdmPriorSettings(eta=0.0))
    images = (tensors["condition"] + 1) / 2
    return sample_prior(prior, images, lambda _step, _like: tensors["x_T"], steps)
