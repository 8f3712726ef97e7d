"""Files of the paper's prior in the form of diffusers: found, fetched, and read as data.

A folder holds a part, such as ``unet`` or ``vqvae``: its sizes in ``config.json`` and its tensors.
What training writes is one ``.safetensors`` file, with the sizes in its header.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from napari_swintormer.errors import FileError, OutputError, WeightsError, one_line
from napari_swintormer.models.files.card import first_problem
from napari_swintormer.models.files.kinds import read_header
from napari_swintormer.models.files.pickles import read_pickle, state_dict_in
from napari_swintormer.models.files.weights import read_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    ReadConfig = Callable[[str | bytes, Path], dict[str, Any]]

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_PARTS = {"unet", "vqvae"}
_CONFIG_LIMIT = 2**20  # bytes
_HEADER_KEY = "swintormer-prior"  # of the sizes in the header of a single file
# the public folder, of 2022, has the names before the arrow
_ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}

_Channels = Annotated[int, Field(ge=1, le=4096)]
_Levels = Annotated[tuple[_Channels, ...], Field(min_length=1, max_length=8)]


class _UNetConfig(BaseModel):
    """What we take from the configuration of a denoiser, which anyone may have written."""

    model_config = ConfigDict(allow_inf_nan=False)

    in_channels: int | None = Field(None, ge=1, le=64)
    out_channels: int | None = Field(None, ge=1, le=64)
    layers_per_block: int | None = Field(None, ge=1, le=8)
    attention_head_dim: _Channels | None = None
    norm_num_groups: _Channels | None = None
    block_out_channels: _Levels
    down_block_types: tuple[Literal["DownBlock2D", "AttnDownBlock2D"], ...]
    up_block_types: tuple[Literal["UpBlock2D", "AttnUpBlock2D"], ...]
    norm_eps: float = 1e-5
    downsample_padding: int = 1
    flip_sin_to_cos: bool = True
    freq_shift: int = 0


class _EncoderConfig(BaseModel):
    """What we take from the configuration of an autoencoder, to build its encoder."""

    in_channels: Literal[3] = 3
    latent_channels: Literal[3] = 3
    layers_per_block: int = Field(1, ge=1, le=8)
    norm_num_groups: _Channels = 32
    block_out_channels: _Levels
    down_block_types: tuple[Literal["DownEncoderBlock2D"], ...]


def denoiser_config(text: str | bytes, path: Path) -> dict[str, Any]:
    """Check the description of a denoiser, JSON of the file `path`."""
    return _checked(_UNetConfig, text, path, "U-Net of a prior")


def encoder_config(text: str | bytes, path: Path) -> dict[str, Any]:
    """Check the description of an autoencoder, JSON of the file `path`."""
    return _checked(_EncoderConfig, text, path, "autoencoder of a prior")


def _checked(kind: type[BaseModel], text: str | bytes, path: Path, what: str) -> dict[str, Any]:
    try:
        return kind.model_validate_json(text).model_dump(exclude_none=True)
    except ValidationError as error:
        raise WeightsError(f"{path} describes no {what} {first_problem(error)}.") from error


def read_config(path: Path, check: ReadConfig) -> dict[str, Any]:
    """Read the description of a part from a file, and check it."""
    try:
        if path.stat().st_size > _CONFIG_LIMIT:
            raise WeightsError(f"{path} is too large for the description of a network.")
        return check(path.read_bytes(), path)
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror}).") from error


def find_part(source: str, part: str) -> tuple[Path, Path]:
    """Find the folder of a part, here or on the hub, and the file of its tensors.

    `source` is the folder of this part or of the other one, the folder above both, or an id on the
    Hugging Face hub.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        folder = _fetch(source, part)
    above = folder.parent if folder.name in _PARTS - {part} else folder
    if (above / part).is_dir():
        folder = above / part
    file = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if file is None or not (folder / "config.json").is_file():
        kind = "U-Net" if part == "unet" else "autoencoder"
        raise FileError(
            f"{folder} holds no {kind} in the form of diffusers: it needs config.json and "
            f"{_WEIGHTS[0]}."
        )
    return folder, file


def read_part(file: Path) -> dict[str, Tensor]:
    """Read the tensors of a part, under the names of today's diffusers."""
    if file.suffix == ".safetensors":
        state = read_tensors(file)
    else:
        state = state_dict_in(read_pickle(file), str(file))
    return {_present_name(key): value for key, value in state.items()}


def read_single(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Read a file of `write_single`."""
    header = read_header(path).get("__metadata__") or {}
    if _HEADER_KEY not in header:
        raise WeightsError(
            f"{path} holds no prior. Name a file that the stage denoiser of a training wrote, a "
            "folder in the form of diffusers, or a .ckpt file."
        )
    return header[_HEADER_KEY], read_tensors(path)


def write_single(path: Path, state: Mapping[str, Tensor], config: str) -> None:
    """Write tensors and the description of their network as one file; a crash leaves no half."""
    from safetensors.torch import save_file

    partial = path.with_name(path.name + ".partial")
    try:
        save_file(
            {key: tensor.contiguous() for key, tensor in state.items()},
            partial,
            {_HEADER_KEY: config},
        )
        partial.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written ({error.strerror or error}). Free some disk space."
        ) from error


def fill(build: Callable[[], Any], state: Mapping[str, Tensor], file: Path, what: str) -> Any:
    """Build a network and give it its parameters; allocates nothing unless they fit."""
    try:
        with torch.device("meta"):
            network = build()
        expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise WeightsError(
            f"The {what} of {file} cannot be built ({one_line(error)}). Use another one."
        ) from error
    for key in sorted(expected.keys() ^ state.keys()):
        problem = "lacks the key" if key in expected else "has the unexpected key"
        raise WeightsError(f"{file} {problem} {key!r}. Use the weights of one whole {what}.")
    for key, shape in expected.items():
        if state[key].shape != shape or not bool(state[key].isfinite().all()):
            raise WeightsError(
                f"{file} has the shape {tuple(state[key].shape)} at key {key!r}, where finite "
                f"numbers of shape {tuple(shape)} are needed."
            )
    network.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    return network.eval().requires_grad_(False)


def _present_name(key: str) -> str:
    """Return the name that a part of attention has in diffusers since 2023."""
    if ".attentions." in key:
        for before, now in _ATTENTION_NAMES.items():
            key = key.replace(f".{before}.", f".{now}.")
    return key


def _fetch(source: str, part: str) -> Path:
    """Fetch a part of a model from the hub, or find it in the hub's cache."""
    from huggingface_hub import snapshot_download

    files = [f"{part}/{name}" for name in ("config.json", *_WEIGHTS)]
    try:
        return Path(snapshot_download(source, allow_patterns=files))
    except Exception as error:  # the hub's client raises whatever its parts do
        raise FileError(
            f"The prior {source!r} is no folder or file here, and it could not be fetched from the "
            f"Hugging Face hub ({one_line(error)}). Connect to the internet and unset "
            "HF_HUB_OFFLINE, name a folder or .ckpt file, or use prior='off'."
        ) from error
