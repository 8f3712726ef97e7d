"""The paper's prior: latent diffusion for super-resolution, on the grid of the image.

Its 113.6 million parameters come from the Hugging Face hub, from a folder in the form of diffusers,
from a checkpoint of the original code, or from a file that training wrote. They are always read as
data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_swintormer.errors import FileError, WeightsError
from napari_swintormer.models.files.kinds import PICKLE_SUFFIXES
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.models.prior.compvis import convert_compvis, read_checkpoint
from napari_swintormer.models.prior.diffusers_files import (
    denoiser_config,
    fill,
    find_part,
    read_config,
    read_part,
    read_single,
    write_single,
)
from napari_swintormer.models.prior.sampling import SamplingPlan, Schedule, sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
    from napari_swintormer.models.prior.sampling import NoiseSource
    from napari_swintormer.models.stepwise import Stepwise

NOTHING = "nothing"
"""Source of a small denoiser with random weights, to train a prior from nothing."""

_SMALL = {
    "in_channels": 6,
    "out_channels": 3,
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownBlock2D",) * 3,
    "up_block_types": ("UpBlock2D",) * 3,
    "layers_per_block": 1,
    "attention_head_dim": 32,
    "norm_num_groups": 8,
    "norm_eps": 1e-5,
}


class LdmPrior(nn.Module):
    """A `Prior` that samples ``z0``: three channels, as large as the image.

    The denoiser predicts the noise in the first three channels of its input; the other three
    channels are the blurred image. `sha256` is that of the file of its parameters.
    `windows_at_once` windows go through the denoiser together: more are faster on a GPU, and change
    the result by rounding.
    """

    alignment = 1
    factor = 1
    schedule = Schedule.make()
    windows_at_once = 1

    def __init__(self, denoiser: nn.Module, settings: LdmPriorSettings, sha256: str = "") -> None:
        super().__init__()
        self.denoiser = denoiser
        self.settings = settings
        self.sha256 = sha256

    def plan(self, steps: int) -> SamplingPlan:
        """Plan a sampling; DDIM takes the steps of the released script."""
        solver = self.settings.solver
        if solver == "ddim":
            return SamplingPlan.leading(
                self.schedule, steps, prediction="noise", solver=solver, eta=self.settings.eta
            )
        return SamplingPlan.trailing(
            self.schedule, self.settings.start, steps, prediction="noise", solver=solver
        )

    def forward_features(self, images: Tensor) -> Tensor:
        """Bring `images` to [-1, 1], the range that the denoiser is trained on.

        Of two views the mean is taken, because both halves of a pixel see what a whole one does.
        """
        views = images.reshape(len(images), -1, self.settings.channels, *images.shape[2:])
        return 2 * views.mean(dim=1) - 1

    def sampling(self, blurred: Tensor, noise: NoiseSource, steps: int) -> Stepwise[Tensor]:
        """Sample ``z0`` for the result of `forward_features`; latents are never clipped."""

        def denoiser(z: Tensor, t: int) -> Stepwise[Tensor]:
            return self._predict(torch.cat([z, blurred], dim=1), t)

        return sample(denoiser, noise(0, blurred), self.plan(steps), noise)

    def count_calls(self, height: int, width: int, steps: int) -> int:
        """Count the calls of the denoiser: windows times steps."""
        window, shift = self.settings.window, self.settings.shift
        y, x = (_starts(length, min(window, length), shift) for length in (height, width))
        return steps * -(-len(y) * len(x) // self.windows_at_once)

    def _predict(self, inputs: Tensor, t: int) -> Stepwise[Tensor]:
        """Predict the noise window by window, blended by the distance to their borders."""
        height, width = inputs.shape[2:]
        size = min(self.settings.window, height), min(self.settings.window, width)
        if size == (height, width):
            whole: Tensor = self.denoiser(inputs, t).sample
            yield
            return whole.float()
        weight = _border_distance(*size).to(inputs.device)
        total = inputs.new_zeros((len(inputs), 3, height, width))
        weights = inputs.new_zeros((height, width))
        places = [
            (..., slice(y, y + size[0]), slice(x, x + size[1]))
            for y in _starts(height, size[0], self.settings.shift)
            for x in _starts(width, size[1], self.settings.shift)
        ]
        for first in range(0, len(places), self.windows_at_once):
            group = places[first : first + self.windows_at_once]
            windows = torch.cat([inputs[place] for place in group])
            predicted = self.denoiser(windows, t).sample.float()
            for place, own in zip(group, predicted.split(len(inputs)), strict=True):
                total[place] += weight * own
                weights[place] += weight
            yield
        return total / weights


def _starts(length: int, window: int, shift: int) -> list[int]:
    """First pixels of windows along an axis; the last is pushed inside."""
    return [*range(0, length - window, shift), length - window]


def _border_distance(height: int, width: int) -> Tensor:
    """Distance of every pixel of a window to its nearest border, at least one half."""
    y, x = (torch.arange(n) + 0.5 for n in (height, width))
    y, x = torch.minimum(y, height - y), torch.minimum(x, width - x)
    return torch.minimum(y[:, None], x[None, :])


def load_prior(source: str, settings: LdmPriorSettings) -> LdmPrior:
    """Load the paper's prior.

    Parameters
    ----------
    source
        Id on the Hugging Face hub (fetched once, unless ``HF_HUB_OFFLINE=1``), a folder in the form
        of diffusers (the folder of the U-Net, or the one above it), a checkpoint file, or a
        ``.safetensors`` file that training wrote. `NOTHING` makes a small one with random weights.
    settings
        Steps and windows, and the SHA-256 of the file that a network was trained with.

    Raises
    ------
    FileError, WeightsError
        There is no such file and it cannot be fetched; or it is damaged, or holds another network.
    """
    if source == NOTHING:
        return LdmPrior(_small_denoiser(), settings)
    if not source:
        raise FileError(
            "The prior of this model lies in a file of its own. Name the file that training wrote "
            "beside the model, prior='….safetensors', or use prior='off'."
        )
    path = Path(source).expanduser()
    if path.suffix.lower() == ".safetensors":
        text, state = read_single(path)
        config, file = denoiser_config(text, path), path
    elif path.suffix.lower() in PICKLE_SUFFIXES:
        (config, state), file = convert_compvis(read_checkpoint(path), str(path)), path
    else:
        folder, file = find_part(source, "unet")
        config, state = read_config(folder / "config.json", denoiser_config), read_part(file)
    denoiser = fill(lambda: build_denoiser(config), state, file, "U-Net")
    if (denoiser.config.in_channels, denoiser.config.out_channels) != (6, 3):
        raise WeightsError(
            f"The denoiser in {file} takes {denoiser.config.in_channels} channels and returns "
            f"{denoiser.config.out_channels}; a prior needs 6 and 3. Use one for super-resolution."
        )
    sha256 = file_sha256(file)
    if settings.sha256 not in ("", sha256):
        raise WeightsError(
            f"The network was trained with another prior than {file} (got SHA-256 {sha256[:12]}…, "
            f"not {settings.sha256[:12]}…). Name the prior that it was trained with."
        )
    return LdmPrior(denoiser, settings, sha256)


def save_denoiser(path: Path, denoiser: Any) -> None:
    """Write a denoiser as one ``.safetensors`` file, with its sizes in the header."""
    names = denoiser_config(json.dumps(dict(denoiser.config)), path)
    state = {key: tensor.cpu() for key, tensor in denoiser.state_dict().items()}
    write_single(path, state, json.dumps(names))


def build_denoiser(config: Mapping[str, Any]) -> Any:
    """Build diffusers' ``UNet2DModel`` with random parameters."""
    from diffusers import UNet2DModel

    return UNet2DModel(**config)


def _small_denoiser() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_denoiser(_SMALL).eval().requires_grad_(False)
