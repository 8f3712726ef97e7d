"""Checkpoints of the original latent-diffusion code, converted to the networks of diffusers.

That code, and all that was fine-tuned with it, names the parts of its U-Net ``input_blocks``,
``middle_block`` and ``output_blocks``. The network is the same; its sizes follow from the shapes.
The encoder of the autoencoder lies beside it, under ``first_stage_model.``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_swintormer.errors import FileError, WeightsError
from napari_swintormer.models.files.pickles import size_at

if TYPE_CHECKING:
    from pathlib import Path

HEAD_CHANNELS = 32
"""Channels of one attention head in the paper's denoiser; the weights do not show them."""

_PREFIX = "model.diffusion_model."
_EMA_PREFIX = "model_ema.diffusion_model"
# parts of the network and of its blocks: in the checkpoint, and in diffusers
_OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
_INNER = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "qkv": "to_qkv",
    "proj_out": "to_out.0",
    "op": "downsamplers.0.conv",
    "conv": "upsamplers.0.conv",
}
_FIRST_STAGE = "first_stage_model."
# parts of the encoder of the autoencoder
_ENCODER = {
    "mid.block_1": "mid_block.resnets.0",
    "mid.attn_1": "mid_block.attentions.0",
    "mid.block_2": "mid_block.resnets.1",
    "norm_out": "conv_norm_out",
}
_ENCODER_INNER = {
    "nin_shortcut": "conv_shortcut",
    "attentions.0.norm": "attentions.0.group_norm",
    "attentions.0.q": "attentions.0.to_q",
    "attentions.0.k": "attentions.0.to_k",
    "attentions.0.v": "attentions.0.to_v",
    "attentions.0.proj_out": "attentions.0.to_out.0",
}
_LEVELS_MAX, _BLOCKS_MAX, _CHANNELS_MAX = 8, 8, 4096


def convert_compvis(
    content: object, source: str = "the file", *, head_channels: int = HEAD_CHANNELS
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert the denoiser of a checkpoint.

    Parameters
    ----------
    content
        A state dict, also under ``state_dict``. It holds the denoiser alone, or a whole model with
        the denoiser under ``model.diffusion_model.``, whose moving average is preferred.
    source
        Name of the file for messages.
    head_channels
        Channels of one attention head.

    Returns
    -------
    config, state
        Arguments of diffusers' ``UNet2DModel``, and its float32 weights; unknown keys keep their
        names.

    Raises
    ------
    WeightsError
        A key is missing or of the wrong shape, and the sizes of the U-Net stay unknown.
    """
    weights = _denoiser_weights(content, source)
    config = _read_config(weights, source, head_channels)
    state: dict[str, Tensor] = {}
    for key, weight in weights.items():
        name = _present_name(key, config["layers_per_block"])
        state |= _converted(weight.float(), name, head_channels)
    return config, state


def convert_compvis_encoder(
    content: object, source: str = "the file"
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert the encoder of a checkpoint's autoencoder, as `convert_compvis` does the denoiser.

    The result is for diffusers' ``VQModel``: its arguments, and the weights of ``encoder`` and
    ``quant_conv``.
    """
    begins = tuple(_FIRST_STAGE + part for part in ("encoder.", "quant_conv."))
    weights = {
        key.removeprefix(_FIRST_STAGE): weight.float()
        for key, weight in _tensors_in(content, source).items()
        if key.startswith(begins)
    }
    pattern = re.compile(r"encoder\.down\.(\d{1,3})\.block\.(\d{1,3})\.conv2\.weight")
    blocks = [tuple(map(int, m.groups())) for m in map(pattern.fullmatch, weights) if m]
    levels = 1 + max((level for level, _ in blocks), default=-1)
    counts = [sum(level == i for level, _ in blocks) for i in range(levels)]
    if (
        not 1 <= levels <= _LEVELS_MAX
        or {*counts} - {*range(1, _BLOCKS_MAX + 1)}
        or len({*counts}) != 1
    ):
        raise WeightsError(
            f"{source} holds no autoencoder that can be built (got residual blocks {counts} per "
            "level). Use a checkpoint of a whole latent-diffusion model."
        )
    keys = [f"encoder.down.{level}.block.0.conv2.weight" for level in range(levels)]
    config = {
        "block_out_channels": tuple(size_at(weights, key, 0, source) for key in keys),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "layers_per_block": counts[0],
        "latent_channels": size_at(weights, "quant_conv.weight", 0, source),
    }
    return config, {
        _encoder_name(key): weight.flatten(1)
        if ".attn_1." in key and weight.ndim == 4  # 1 × 1 convolutions
        else weight
        for key, weight in weights.items()
    }


def _encoder_name(key: str) -> str:
    """Return the name of a parameter of the encoder in diffusers; unknown names stay."""
    key = re.sub(r"\.down\.(\d+)\.block\.(\d+)\.", r".down_blocks.\1.resnets.\2.", key)
    key = re.sub(r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0.", key)
    for before, now in (_ENCODER | _ENCODER_INNER).items():
        key = key.replace(f".{before}.", f".{now}.")
    return key


def read_checkpoint(path: Path) -> Any:
    """Read a checkpoint as data; nothing in it is executed.

    Beside the weights, checkpoints name classes of their training. An inert class replaces them.
    """
    if not path.is_file():
        raise FileError(f"There is no checkpoint {path} of a prior.")
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        with torch.serialization.safe_globals([(_Inert, name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or truncated pickle can raise anything
        raise WeightsError(
            f"The checkpoint {path} is damaged, or holds more than plain weights and is not opened "
            "for safety."
        ) from error


class _Inert:
    """A class that does nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _tensors_in(content: object, source: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"{source} holds no state dict (got {type(content).__name__}). Use a checkpoint of a "
            "latent-diffusion model."
        )
    return {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}


def _denoiser_weights(content: object, source: str) -> dict[str, Tensor]:
    tensors = _tensors_in(content, source)
    whole = {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}
    # averaged parameters have the same name without its dots
    averaged = {k: _EMA_PREFIX + k.replace(".", "") for k in whole}
    if whole and tensors.keys() >= set(averaged.values()):
        return {k: tensors[name] for k, name in averaged.items()}
    return whole or tensors


def _read_config(weights: Mapping[str, Tensor], source: str, head_channels: int) -> dict[str, Any]:
    """Infer the arguments of ``UNet2DModel`` from the levels of the encoder."""
    pattern = re.compile(r"input_blocks\.(\d{1,3})\.0\.(out_layers\.3|op)\.weight")
    found = sorted((int(m[1]), m[2]) for m in map(pattern.fullmatch, weights) if m)
    levels: list[list[int]] = [[]]  # numbers of the residual blocks
    for number, part in found:
        if part == "op":  # downsampling ends a level
            levels.append([])
        else:
            levels[-1].append(number)
    counts = [len(level) for level in levels]
    firsts = [level[0] for level in levels if level]
    channels = tuple(
        size_at(weights, f"input_blocks.{first}.0.out_layers.3.weight", 0, source)
        for first in firsts
    )
    fits = len(counts) <= _LEVELS_MAX and set(counts) <= {*range(1, _BLOCKS_MAX + 1)}
    if not fits or len(set(counts)) != 1 or max(channels) > _CHANNELS_MAX:
        raise WeightsError(
            f"{source} describes no U-Net that can be built (got residual blocks {counts} and "
            f"channels {channels} per level). Use the weights of a latent-diffusion denoiser."
        )
    if any(c % head_channels for c in channels):
        raise WeightsError(
            f"{source} has {channels} channels, which attention heads of {head_channels} channels "
            "do not divide. Use the weights of a latent-diffusion denoiser."
        )
    kinds = ["Attn" if f"input_blocks.{n}.1.qkv.weight" in weights else "" for n in firsts]
    return {
        "in_channels": size_at(weights, "input_blocks.0.0.weight", 1, source),
        "out_channels": size_at(weights, "out.2.weight", 0, source),
        "block_out_channels": channels,
        "layers_per_block": counts[0],
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        "attention_head_dim": head_channels,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
    }


def _present_name(key: str, blocks: int) -> str:
    """Return the name of a parameter in diffusers; unknown names stay as they are."""
    part, _, kind = key.rpartition(".")
    if part in _OUTER:
        return f"{_OUTER[part]}.{kind}"
    if (m := re.fullmatch(r"middle_block\.([012])\.(.+)", part)) and m[2] in _INNER:
        return f"mid_block.{_MIDDLE[m[1]]}.{_INNER[m[2]]}.{kind}"
    m = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d)\.(.+)", part)
    if m is None or m[4] not in _INNER:
        return key
    level, block = divmod(int(m[2]) - (m[1] == "input"), blocks + 1)
    name = f"{'down' if m[1] == 'input' else 'up'}_blocks.{level}"
    if m[4] not in ("op", "conv"):
        name += f".{'attentions' if m[3] == '1' else 'resnets'}.{block}"
    return f"{name}.{_INNER[m[4]]}.{kind}"


def _converted(weight: Tensor, name: str, head_channels: int) -> dict[str, Tensor]:
    """Give a weight its new names; the checkpoint's attention consists of 1 × 1 convolutions."""
    if ".attentions." not in name:
        return {name: weight}
    weight = weight.flatten(1) if weight.ndim > 1 else weight
    if ".to_qkv." not in name or len(weight) % (3 * head_channels):
        return {name: weight}
    # the checkpoint stores q, k and v of each head together
    parts = weight.reshape(-1, 3, head_channels, *weight.shape[1:]).unbind(1)
    return {
        name.replace("to_qkv", f"to_{letter}"): part.flatten(0, 1)
        for letter, part in zip("qkv", parts, strict=True)
    }
