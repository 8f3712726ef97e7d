"""Denoisers trained with the original latent-diffusion code: their names, and ours of diffusers.

The checkpoints of that code (and of all that was fine-tuned with it) name the parts of their U-Net
``input_blocks``, ``middle_block`` and ``output_blocks``; diffusers' ``UNet2DModel`` is the same
network in other words. Its sizes are read off the shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from napari_swintormer.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
_OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_LEVELS_MAX, _BLOCKS_MAX, _CHANNELS_MAX = 8, 8, 4096
HEAD_CHANNELS = 32
"""Channels of one attention head in the paper's denoiser; they leave no trace in the weights."""


def convert_compvis(
    content: object, source: str = "the file", *, head_channels: int = HEAD_CHANNELS
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Convert the denoiser of a checkpoint.

    Parameters
    ----------
    content
        A checkpoint with a ``state_dict``, or a state dict; of a whole model (whose denoiser lies
        under ``model.diffusion_model.``, its moving average under ``model_ema.`` is preferred) or
        of the denoiser alone.
    source
        What errors call the file.
    head_channels
        Channels of one attention head.

    Returns
    -------
    config
        Arguments of diffusers' ``UNet2DModel``.
    state
        Weights for its ``load_state_dict``, float32.

    Raises
    ------
    WeightsError
        A key is missing, unexpected or of the wrong shape; the message names it.
    """
    weights = _denoiser_weights(content, source)
    sizes = _Sizes.read(weights, source)
    if any(c % head_channels for c in sizes.channels):
        raise WeightsError(
            f"{source} has {sizes.channels} channels, which attention heads of {head_channels} "
            "channels do not divide. Use the weights of a latent-diffusion denoiser."
        )
    state: dict[str, Tensor] = {}
    used = set()
    for old, new in sizes.names():
        for kind in ("weight", "bias"):
            key = f"{old}.{kind}"
            if key in weights:
                used.add(key)
                state |= _converted(weights[key].float(), f"{new}.{kind}", head_channels)
    if unexpected := weights.keys() - used:
        raise WeightsError(
            f"{source} has the unexpected key {min(unexpected)!r}. Use the weights of a "
            "latent-diffusion denoiser without classes and without text."
        )
    return sizes.config(head_channels), state


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
    if not whole:
        return tensors
    # the averaged parameters carry the name without its dots
    names = {k: _EMA_PREFIX + f"diffusion_model.{k}".replace(".", "") for k in whole}
    averaged = all(name in tensors for name in names.values())
    return {k: tensors[names[k]] for k in whole} if averaged else whole


class _Sizes:
    """Sizes of a denoiser, and how its parts are called."""

    def __init__(
        self,
        channels: tuple[int, ...],
        attention: tuple[bool, ...],
        blocks: int,
        ends: tuple[int, int],
    ) -> None:
        self.channels, self.attention, self.blocks, self.ends = channels, attention, blocks, ends

    @classmethod
    def read(cls, weights: Mapping[str, Tensor], source: str) -> _Sizes:
        """Walk the way down: residual blocks, each level but the last ends in a convolution."""
        channels: list[int] = []
        attention: list[bool] = []
        counts, count, i = [], 0, 1
        while True:
            block = f"input_blocks.{i}"
            if f"{block}.0.out_layers.3.weight" in weights:
                width = _axis(weights, f"{block}.0.out_layers.3.weight", 0, source)
                if count == 0:
                    channels.append(width)
                    attention.append(f"{block}.1.qkv.weight" in weights)
                count += 1
            else:
                counts.append(count)
                count = 0
                if f"{block}.0.op.weight" not in weights:
                    break
            i += 1
            if len(channels) > _LEVELS_MAX or count > _BLOCKS_MAX:
                break
        fits = 1 <= len(channels) <= _LEVELS_MAX and 1 <= max(counts, default=0) <= _BLOCKS_MAX
        if not fits or len(set(counts)) != 1 or max(channels) > _CHANNELS_MAX:
            raise WeightsError(
                f"{source} describes no U-Net that can be built (got residual blocks {counts} and "
                f"channels {channels} per level). Use the weights of a latent-diffusion denoiser."
            )
        ends = (
            _axis(weights, "input_blocks.0.0.weight", 1, source),
            _axis(weights, "out.2.weight", 0, source),
        )
        return cls(tuple(channels), tuple(attention), counts[0], ends)

    def config(self, head_channels: int) -> dict[str, Any]:
        """Return the arguments of ``UNet2DModel``."""
        down = ["AttnDownBlock2D" if has else "DownBlock2D" for has in self.attention]
        up = ["AttnUpBlock2D" if has else "UpBlock2D" for has in reversed(self.attention)]
        return {
            "in_channels": self.ends[0],
            "out_channels": self.ends[1],
            "block_out_channels": self.channels,
            "layers_per_block": self.blocks,
            "down_block_types": tuple(down),
            "up_block_types": tuple(up),
            "attention_head_dim": head_channels,
            "norm_num_groups": 32,
            "norm_eps": 1e-5,
        }

    def names(self) -> Iterator[tuple[str, str]]:
        """Yield the names of all parts: there, and in diffusers."""
        yield from _OUTER.items()
        last = len(self.channels) - 1
        for level in range(last + 1):
            for block in range(self.blocks):
                old = f"input_blocks.{1 + level * (self.blocks + 1) + block}"
                yield from _block(old, f"down_blocks.{level}", block, self.attention[level])
            if level < last:
                old = f"input_blocks.{(level + 1) * (self.blocks + 1)}.0.op"
                yield old, f"down_blocks.{level}.downsamplers.0.conv"
        yield from _resnet("middle_block.0", "mid_block.resnets.0")
        yield from _attention("middle_block.1", "mid_block.attentions.0")
        yield from _resnet("middle_block.2", "mid_block.resnets.1")
        for level in range(last + 1):
            attention = self.attention[last - level]
            for block in range(self.blocks + 1):
                old = f"output_blocks.{level * (self.blocks + 1) + block}"
                yield from _block(old, f"up_blocks.{level}", block, attention)
            if level < last:  # behind the last block of the level, and its attention
                yield f"{old}.{2 if attention else 1}.conv", f"up_blocks.{level}.upsamplers.0.conv"


def _block(old: str, new: str, number: int, attention: bool) -> Iterator[tuple[str, str]]:
    yield from _resnet(f"{old}.0", f"{new}.resnets.{number}")
    if attention:
        yield from _attention(f"{old}.1", f"{new}.attentions.{number}")


def _resnet(old: str, new: str) -> Iterator[tuple[str, str]]:
    for there, here in _RESNET.items():
        yield f"{old}.{there}", f"{new}.{here}"


def _attention(old: str, new: str) -> Iterator[tuple[str, str]]:
    yield f"{old}.norm", f"{new}.group_norm"
    yield f"{old}.qkv", f"{new}.to_qkv"
    yield f"{old}.proj_out", f"{new}.to_out.0"


def _converted(weight: Tensor, name: str, head_channels: int) -> dict[str, Tensor]:
    """Give a weight its new names; attention is made of 1 × 1 convolutions there."""
    if ".attentions." not in name:
        return {name: weight}
    weight = weight.flatten(1) if weight.ndim > 1 else weight
    if ".to_qkv." not in name:
        return {name: weight}
    # every head has its q, k and v together there
    heads = len(weight) // (3 * head_channels)
    parts = weight.reshape(heads, 3, head_channels, *weight.shape[1:]).unbind(1)
    return {
        re.sub("to_qkv", f"to_{letter}", name): part.flatten(0, 1)
        for letter, part in zip("qkv", parts, strict=True)
    }


def _axis(weights: Mapping[str, Tensor], key: str, axis: int, source: str) -> int:
    weight = weights.get(key)
    if weight is None or weight.ndim <= axis:
        raise WeightsError(
            f"{source} has no usable key {key!r}. Use the weights of a latent-diffusion denoiser."
        )
    return weight.shape[axis]


class _Inert:
    """Takes the place of every class that a checkpoint names: it does nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def read_checkpoint(path: str) -> Any:
    """Read a checkpoint as data: tensors and plain values; nothing in it is executed.

    Checkpoints of the original code name classes of their training beside the weights; an inert
    class stands for each of them.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    with torch.serialization.safe_globals([(_Inert, name) for name in names]):
        return torch.load(path, map_location="cpu", weights_only=True)
