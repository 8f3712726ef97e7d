"""Checkpoints of the original latent-diffusion code, converted to diffusers' ``UNet2DModel``.

That code, and all that was fine-tuned with it, names the parts of its U-Net ``input_blocks``,
``middle_block`` and ``output_blocks``. The network is the same; its sizes follow from the shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from napari_swintormer.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD_CHANNELS = 32
"""Channels of one attention head in the paper's denoiser; the weights do not show them."""

_PREFIX = "model.diffusion_model."
_EMA_PREFIX = "model_ema."
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_ATTENTION = {"norm": "group_norm", "qkv": "to_qkv", "proj_out": "to_out.0"}
_OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_LEVELS_MAX, _BLOCKS_MAX, _CHANNELS_MAX = 8, 8, 4096
_ADVICE = "Use the weights of a latent-diffusion denoiser"


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
        Arguments of diffusers' ``UNet2DModel``, and its float32 weights.

    Raises
    ------
    WeightsError
        A key is missing, unexpected or of the wrong shape; the message names it.
    """
    weights = _denoiser_weights(content, source)
    sizes = _read_sizes(weights, source)
    if any(c % head_channels for c in sizes.channels):
        raise WeightsError(
            f"{source} has {sizes.channels} channels, which attention heads of {head_channels} "
            f"channels do not divide. {_ADVICE}."
        )
    state: dict[str, Tensor] = {}
    used = set()
    for old, new in _names(sizes):
        for kind in ("weight", "bias"):
            key = f"{old}.{kind}"
            if key in weights:
                used.add(key)
                state |= _converted(weights[key].float(), f"{new}.{kind}", head_channels)
    if unexpected := weights.keys() - used:
        raise WeightsError(
            f"{source} has the unexpected key {min(unexpected)!r}. {_ADVICE} without classes and "
            "without text."
        )
    return _config(sizes, head_channels), state


def read_checkpoint(path: str) -> Any:
    """Read a checkpoint as data; nothing in it is executed.

    Beside the weights, checkpoints name classes of their training. An inert class replaces them.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(_Inert, name) for name in names]):
        return torch.load(path, map_location="cpu", weights_only=True)


class _Inert:
    """A class that does nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _denoiser_weights(content: object, source: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(
            f"{source} holds no state dict (got {type(content).__name__}). Use a checkpoint of a "
            "latent-diffusion model."
        )
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    whole = {k.removeprefix(_PREFIX): v for k, v in tensors.items() if k.startswith(_PREFIX)}
    # averaged parameters have the same name without its dots
    averaged = {k: _EMA_PREFIX + f"diffusion_model.{k}".replace(".", "") for k in whole}
    if whole and tensors.keys() >= set(averaged.values()):
        return {k: tensors[name] for k, name in averaged.items()}
    return whole or tensors


class _Sizes(NamedTuple):
    """Sizes of a U-Net: channels and attention of each level, finest first."""

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    ends: tuple[int, int]  # channels of its input and output


def _read_sizes(weights: Mapping[str, Tensor], source: str) -> _Sizes:
    """Walk down the encoder: each level has residual blocks, and ends in a convolution."""
    channels: list[int] = []
    attention: list[bool] = []
    counts, count, i = [], 0, 1
    while len(channels) <= _LEVELS_MAX and count <= _BLOCKS_MAX:
        block = f"input_blocks.{i}"
        i += 1
        if f"{block}.0.out_layers.3.weight" in weights:
            if count == 0:
                channels.append(_size(weights, f"{block}.0.out_layers.3.weight", 0, source))
                attention.append(f"{block}.1.qkv.weight" in weights)
            count += 1
            continue
        counts.append(count)
        count = 0
        if f"{block}.0.op.weight" not in weights:
            break
    fits = 1 <= len(channels) <= _LEVELS_MAX and 1 <= max(counts, default=0) <= _BLOCKS_MAX
    if not fits or len(set(counts)) != 1 or max(channels) > _CHANNELS_MAX:
        raise WeightsError(
            f"{source} describes no U-Net that can be built (got residual blocks {counts} and "
            f"channels {channels} per level). {_ADVICE}."
        )
    ends = (
        _size(weights, "input_blocks.0.0.weight", 1, source),
        _size(weights, "out.2.weight", 0, source),
    )
    return _Sizes(tuple(channels), tuple(attention), counts[0], ends)


def _size(weights: Mapping[str, Tensor], key: str, axis: int, source: str) -> int:
    weight = weights.get(key)
    if weight is None or weight.ndim <= axis:
        raise WeightsError(f"{source} has no usable key {key!r}. {_ADVICE}.")
    return weight.shape[axis]


def _config(sizes: _Sizes, head_channels: int) -> dict[str, Any]:
    """Return the arguments of ``UNet2DModel``."""
    kinds = ["Attn" if has else "" for has in sizes.attention]
    return {
        "in_channels": sizes.ends[0],
        "out_channels": sizes.ends[1],
        "block_out_channels": sizes.channels,
        "layers_per_block": sizes.blocks,
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        "attention_head_dim": head_channels,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
    }


def _names(sizes: _Sizes) -> Iterator[tuple[str, str]]:
    """Yield the names of all parts: in the checkpoint, and in diffusers."""
    yield from _OUTER.items()
    last, blocks = len(sizes.channels) - 1, sizes.blocks
    for level in range(last + 1):
        number = 1 + level * (blocks + 1)
        for block in range(blocks):
            old, new = f"input_blocks.{number + block}", f"down_blocks.{level}"
            yield from _block(old, new, block, sizes.attention[level])
        if level < last:
            old = f"input_blocks.{number + blocks}.0.op"
            yield old, f"down_blocks.{level}.downsamplers.0.conv"
    yield from _parts("middle_block.0", "mid_block.resnets.0", _RESNET)
    yield from _parts("middle_block.1", "mid_block.attentions.0", _ATTENTION)
    yield from _parts("middle_block.2", "mid_block.resnets.1", _RESNET)
    for level in range(last + 1):
        attention = sizes.attention[last - level]
        for block in range(blocks + 1):
            old = f"output_blocks.{level * (blocks + 1) + block}"
            yield from _block(old, f"up_blocks.{level}", block, attention)
        if level < last:  # after the last block of the level, and its attention
            yield f"{old}.{2 if attention else 1}.conv", f"up_blocks.{level}.upsamplers.0.conv"


def _block(old: str, new: str, number: int, attention: bool) -> Iterator[tuple[str, str]]:
    yield from _parts(f"{old}.0", f"{new}.resnets.{number}", _RESNET)
    if attention:
        yield from _parts(f"{old}.1", f"{new}.attentions.{number}", _ATTENTION)


def _parts(old: str, new: str, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for there, here in names.items():
        yield f"{old}.{there}", f"{new}.{here}"


def _converted(weight: Tensor, name: str, head_channels: int) -> dict[str, Tensor]:
    """Give a weight its new names; the checkpoint's attention consists of 1 × 1 convolutions."""
    if ".attentions." not in name:
        return {name: weight}
    weight = weight.flatten(1) if weight.ndim > 1 else weight
    if ".to_qkv." not in name:
        return {name: weight}
    # the checkpoint stores q, k and v of each head together
    heads = len(weight) // (3 * head_channels)
    parts = weight.reshape(heads, 3, head_channels, *weight.shape[1:]).unbind(1)
    return {
        name.replace("to_qkv", f"to_{letter}"): part.flatten(0, 1)
        for letter, part in zip("qkv", parts, strict=True)
    }
