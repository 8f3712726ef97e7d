"""The paper's prior: latent diffusion for super-resolution, on the image's own grid.

Its parameters, 113.6 million, come from the Hugging Face hub, from a folder in diffusers' form, or
from a checkpoint of the original code; always as data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_swintormer.errors import FileError, WeightsError
from napari_swintormer.models.prior.compvis import convert_compvis, read_checkpoint
from napari_swintormer.models.prior.sampling import SamplingPlan, Schedule, sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
    from napari_swintormer.models.prior.sampling import NoiseSource
    from napari_swintormer.models.stepwise import Stepwise

_CHECKPOINTS = (".ckpt", ".pt", ".pth")
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_CONFIG_LIMIT = 2**20  # bytes
# What of a folder's configuration we take, and how large its numbers may be.
_CONFIG_NUMBERS = {
    "in_channels": 64,
    "out_channels": 64,
    "layers_per_block": 8,
    "attention_head_dim": 4096,
    "norm_num_groups": 4096,
}
# The public folder was written in 2022.
_ATTENTION_NAMES = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
_BLOCK_TYPES = ("DownBlock2D", "AttnDownBlock2D", "UpBlock2D", "AttnUpBlock2D")


class LdmPrior(nn.Module):
    """Samples ``z0`` in three channels, as large as the image.

    Parameters
    ----------
    denoiser
        Of `load_denoiser`: predicts the noise in the first three channels of its input from all
        six; the other three are the blurred image.
    settings
        Steps and windows.
    sha256
        Of the file that its parameters come from.
    """

    alignment = 1
    factor = 1

    def __init__(self, denoiser: nn.Module, settings: LdmPriorSettings, sha256: str = "") -> None:
        super().__init__()
        self.denoiser = denoiser
        self.settings = settings
        self.sha256 = sha256
        self.schedule = Schedule.make()

    def plan(self, steps: int) -> SamplingPlan:
        """Plan a sampling; DDIM takes the steps of the released script."""
        solver, eta = self.settings.solver, self.settings.eta
        if solver == "ddim":
            return SamplingPlan.leading(
                self.schedule, steps, prediction="noise", solver=solver, eta=eta
            )
        return SamplingPlan.trailing(
            self.schedule, self.settings.start, steps, prediction="noise", solver=solver
        )

    def forward_features(self, images: Tensor) -> Tensor:
        """Bring `images` to [-1, 1], the range that the denoiser is trained on."""
        return 2 * images - 1

    def sampling(self, blurred: Tensor, noise: NoiseSource, steps: int) -> Stepwise[Tensor]:
        """Sample ``z0`` for the result of `forward_features`; latents are never clipped."""

        def denoiser(z: Tensor, t: int) -> Stepwise[Tensor]:
            return self._predict(torch.cat([z, blurred], dim=1), t)

        return sample(denoiser, noise(0, blurred), self.plan(steps), noise)

    def count_calls(self, height: int, width: int, steps: int) -> int:
        """Count the calls of the denoiser: windows times steps."""
        window, shift = self.settings.window, self.settings.shift
        y, x = (_starts(length, min(window, length), shift) for length in (height, width))
        return steps * len(y) * len(x)

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
        for y in _starts(height, size[0], self.settings.shift):
            for x in _starts(width, size[1], self.settings.shift):
                at = (..., slice(y, y + size[0]), slice(x, x + size[1]))
                total[at] += weight * self.denoiser(inputs[at], t).sample.float()
                weights[at] += weight
                yield
        return total / weights


def _starts(length: int, window: int, shift: int) -> list[int]:
    """First pixels of windows along an axis; the last is pushed inside."""
    return [*range(0, length - window, shift), length - window]


def _border_distance(height: int, width: int) -> Tensor:
    """Distance to the nearest border of every pixel of a window, at least one half."""
    y, x = (torch.arange(n) + 0.5 for n in (height, width))
    y, x = torch.minimum(y, height - y), torch.minimum(x, width - x)
    return torch.minimum(y[:, None], x[None, :])


def load_prior(source: str, settings: LdmPriorSettings) -> LdmPrior:
    """Load the paper's prior.

    Parameters
    ----------
    source
        Id on the Hugging Face hub (fetched once, with progress, unless ``HF_HUB_OFFLINE=1``), a
        folder in diffusers' form (the U-Net's own, or the one above it), or a ``.ckpt`` file.
    settings
        Steps and windows.

    Raises
    ------
    FileError
        There is no such file, or it cannot be fetched.
    WeightsError
        What is there is not such a prior.
    """
    from napari_swintormer.models.files.weights import file_sha256

    denoiser, file = load_denoiser(source)
    if (denoiser.config.in_channels, denoiser.config.out_channels) != (6, 3):
        raise WeightsError(
            f"The denoiser in {file} takes {denoiser.config.in_channels} channels and gives "
            f"{denoiser.config.out_channels}; a prior needs 6 and 3. Use one for super-resolution."
        )
    return LdmPrior(denoiser, settings, file_sha256(file))


def load_denoiser(source: str) -> tuple[Any, Path]:
    """Load diffusers' ``UNet2DModel`` in evaluation mode, on the CPU; see `load_prior`.

    Returns
    -------
    denoiser, file
        The file is that of its parameters.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in _CHECKPOINTS:
        return _load_checkpoint(path), path
    if not path.is_dir():
        path = _fetch(source)
    return _load_folder(path)


def build_denoiser(config: Mapping[str, Any]) -> Any:
    """Build diffusers' ``UNet2DModel`` with random parameters."""
    from diffusers import UNet2DModel

    return UNet2DModel(**config)  # type: ignore[no-untyped-call]


def _load_checkpoint(path: Path) -> Any:
    if not path.is_file():
        raise FileError(f"There is no checkpoint {path} of a prior.")
    try:
        content = read_checkpoint(str(path))
    except Exception as error:  # a hostile or truncated pickle can raise anything
        raise WeightsError(
            f"The checkpoint {path} is damaged, or holds more than plain weights and is not opened "
            "for safety."
        ) from error
    config, state = convert_compvis(content, str(path))
    return _filled(config, state, path)


def _load_folder(folder: Path) -> tuple[Any, Path]:
    if (folder / "unet").is_dir():
        folder = folder / "unet"
    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None or not (folder / "config.json").is_file():
        raise FileError(
            f"{folder} holds no U-Net in diffusers' form: it needs config.json and {_WEIGHTS[0]}."
        )
    config = _read_config(folder / "config.json")
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or truncated file can raise anything
        raise WeightsError(f"{file} is damaged. Fetch or copy it again.") from error
    return _filled(config, {_present_name(key): value for key, value in state.items()}, file), file


def _filled(config: Mapping[str, Any], state: Mapping[str, Tensor], file: Path) -> Any:
    """Build the denoiser and give it its parameters; nothing is allocated before they fit."""
    try:
        with torch.device("meta"):
            denoiser = build_denoiser(config)
        expected = {key: tensor.shape for key, tensor in denoiser.state_dict().items()}
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise WeightsError(
            f"The U-Net of {file} cannot be built ({_one_line(error)}). Use another one."
        ) from error
    for key in sorted(expected.keys() ^ state.keys()):
        problem = "lacks the key" if key in expected else "has the unexpected key"
        raise WeightsError(f"{file} {problem} {key!r}. Use the weights of one whole U-Net.")
    for key, shape in expected.items():
        if state[key].shape != shape or not bool(state[key].isfinite().all()):
            raise WeightsError(
                f"{file} has the shape {tuple(state[key].shape)} at key {key!r}, where finite "
                f"numbers of shape {tuple(shape)} are needed."
            )
    state = {key: tensor.float() for key, tensor in state.items()}
    denoiser.load_state_dict(state, assign=True)
    return denoiser.eval().requires_grad_(False)


def _present_name(key: str) -> str:
    """Give a part of attention the name that it has in diffusers since 2023."""
    if ".attentions." in key:
        for before, now in _ATTENTION_NAMES.items():
            key = key.replace(f".{before}.", f".{now}.")
    return key


def _read_config(path: Path) -> dict[str, Any]:
    """Read the sizes of a U-Net from a folder's configuration, which anyone may have written."""
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        config: dict[str, Any] = {
            key: int(found[key]) for key in _CONFIG_NUMBERS if found.get(key) is not None
        }
        config["block_out_channels"] = tuple(int(c) for c in found["block_out_channels"])
        for key in ("down_block_types", "up_block_types"):
            config[key] = tuple(str(kind) for kind in found[key])
        config["norm_eps"] = float(found.get("norm_eps", 1e-5))
        config["downsample_padding"] = int(found.get("downsample_padding", 1))
        config["flip_sin_to_cos"] = bool(found.get("flip_sin_to_cos", True))
        config["freq_shift"] = int(found.get("freq_shift", 0))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} does not describe a U-Net ({_one_line(error)}).") from error
    numbers = all(1 <= config.get(key, 1) <= most for key, most in _CONFIG_NUMBERS.items())
    channels = config["block_out_channels"]
    kinds = {*config["down_block_types"], *config["up_block_types"]}
    if (
        not numbers
        or not 1 <= len(channels) <= 8
        or not all(1 <= c <= 4096 for c in channels)
        or not kinds <= set(_BLOCK_TYPES)
    ):
        raise WeightsError(f"{path} describes a U-Net that a prior cannot be (got {config}).")
    return config


def _fetch(source: str) -> Path:
    """Fetch a model from the hub, or find it among those fetched before."""
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source, allow_patterns=[f"unet/{n}" for n in ("config.json", *_WEIGHTS)]
            )
        )
    except Exception as error:  # the hub's client raises whatever its parts do
        raise FileError(
            f"The prior {source!r} is no folder or file here, and it could not be fetched from the "
            f"Hugging Face hub ({_one_line(error)[:200]}). Connect to the internet and unset "
            "HF_HUB_OFFLINE, name a folder or .ckpt file, or use prior='off'."
        ) from error


def _one_line(message: object) -> str:
    return " ".join(str(message).split()).rstrip(".")
