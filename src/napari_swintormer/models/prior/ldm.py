"""The paper's prior: latent diffusion for super-resolution, on the grid of the image.

Its 113.6 million parameters come from the Hugging Face hub, from a folder in the form of diffusers,
or from a checkpoint of the original code. They are always read as data.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from napari_swintormer.errors import FileError, WeightsError, one_line
from napari_swintormer.models.files.card import first_problem
from napari_swintormer.models.files.kinds import PICKLE_SUFFIXES
from napari_swintormer.models.files.pickles import read_pickle, state_dict_in
from napari_swintormer.models.files.weights import file_sha256, read_tensors
from napari_swintormer.models.prior.compvis import convert_compvis, read_checkpoint
from napari_swintormer.models.prior.sampling import SamplingPlan, Schedule, sample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
    from napari_swintormer.models.prior.sampling import NoiseSource
    from napari_swintormer.models.stepwise import Stepwise

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_CONFIG_LIMIT = 2**20  # bytes
# the public folder, of 2022, has the names before the arrow
_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class LdmPrior(nn.Module):
    """A `Prior` that samples ``z0``: three channels, as large as the image.

    The denoiser predicts the noise in the first three channels of its input; the other three
    channels are the blurred image. `sha256` is that of the file of its parameters.
    """

    alignment = 1
    factor = 1
    schedule = Schedule.make()

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
        of diffusers (the folder of the U-Net, or the one above it), or a checkpoint file.
    settings
        Steps and windows.

    Raises
    ------
    FileError, WeightsError
        There is no such file and it cannot be fetched; or it is damaged, or holds another network.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in PICKLE_SUFFIXES:
        config, state = convert_compvis(read_checkpoint(path), str(path))
        denoiser, file = _filled(config, state, path), path
    else:
        denoiser, file = _load_folder(path if path.is_dir() else _fetch(source))
    if (denoiser.config.in_channels, denoiser.config.out_channels) != (6, 3):
        raise WeightsError(
            f"The denoiser in {file} takes {denoiser.config.in_channels} channels and returns "
            f"{denoiser.config.out_channels}; a prior needs 6 and 3. Use one for super-resolution."
        )
    return LdmPrior(denoiser, settings, file_sha256(file))


def build_denoiser(config: Mapping[str, Any]) -> Any:
    """Build diffusers' ``UNet2DModel`` with random parameters."""
    from diffusers import UNet2DModel

    return UNet2DModel(**config)


def _load_folder(folder: Path) -> tuple[Any, Path]:
    if (folder / "unet").is_dir():
        folder = folder / "unet"
    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None or not (folder / "config.json").is_file():
        raise FileError(
            f"{folder} holds no U-Net in the form of diffusers: it needs config.json and "
            f"{_WEIGHTS[0]}."
        )
    if file.suffix == ".safetensors":
        state = read_tensors(file)
    else:
        state = state_dict_in(read_pickle(file), str(file))
    state = {_present_name(key): value for key, value in state.items()}
    return _filled(_read_config(folder / "config.json"), state, file), file


def _present_name(key: str) -> str:
    """Return the name that a part of attention has in diffusers since 2023."""
    if ".attentions." in key:
        for before, now in _ATTENTION_NAMES.items():
            key = key.replace(f".{before}.", f".{now}.")
    return key


def _filled(config: Mapping[str, Any], state: Mapping[str, Tensor], file: Path) -> Any:
    """Build the denoiser and give it its parameters; allocates nothing unless they fit."""
    try:
        with torch.device("meta"):
            denoiser = build_denoiser(config)
        expected = {key: tensor.shape for key, tensor in denoiser.state_dict().items()}
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise WeightsError(
            f"The U-Net of {file} cannot be built ({one_line(error)}). Use another one."
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


_Channels = Annotated[int, Field(ge=1, le=4096)]


class _UNetConfig(BaseModel):
    """What we take from the configuration of a folder, which anyone may have written."""

    model_config = ConfigDict(allow_inf_nan=False)

    in_channels: int | None = Field(None, ge=1, le=64)
    out_channels: int | None = Field(None, ge=1, le=64)
    layers_per_block: int | None = Field(None, ge=1, le=8)
    attention_head_dim: _Channels | None = None
    norm_num_groups: _Channels | None = None
    block_out_channels: Annotated[tuple[_Channels, ...], Field(min_length=1, max_length=8)]
    down_block_types: tuple[Literal["DownBlock2D", "AttnDownBlock2D"], ...]
    up_block_types: tuple[Literal["UpBlock2D", "AttnUpBlock2D"], ...]
    norm_eps: float = 1e-5
    downsample_padding: int = 1
    flip_sin_to_cos: bool = True
    freq_shift: int = 0


def _read_config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise WeightsError(f"{path} is too large for the description of a U-Net.")
        config = _UNetConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror}).") from error
    except ValidationError as error:
        raise WeightsError(
            f"{path} describes no U-Net of a prior {first_problem(error)}."
        ) from error
    return config.model_dump(exclude_none=True)


def _fetch(source: str) -> Path:
    """Fetch a model from the hub, or find it in the hub's cache."""
    from huggingface_hub import snapshot_download

    files = [f"unet/{name}" for name in ("config.json", *_WEIGHTS)]
    try:
        return Path(snapshot_download(source, allow_patterns=files))
    except Exception as error:  # the hub's client raises whatever its parts do
        raise FileError(
            f"The prior {source!r} is no folder or file here, and it could not be fetched from the "
            f"Hugging Face hub ({one_line(error)}). Connect to the internet and unset "
            "HF_HUB_OFFLINE, name a folder or .ckpt file, or use prior='off'."
        ) from error
