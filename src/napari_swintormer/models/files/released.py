"""Weights of the authors' released code: their parameters by our names, their sizes as settings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import ceil
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError
from torch import Tensor

from napari_swintormer.errors import WeightsError
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.models.files.card import ModelCard, card_name, first_problem
from napari_swintormer.models.files.pickles import size_at, state_dict_in, tensor_at
from napari_swintormer.models.network.network_settings import SwintormerSettings
from napari_swintormer.models.network.swintormer import Swintormer

if TYPE_CHECKING:
    from pathlib import Path

# Our names as patterns, and the released names; applied one after the other to a whole key.
_Replacement = str | Callable[[re.Match[str]], str]
_NAMES: list[tuple[str, _Replacement]] = [
    (r"^embed\.", "patch_embed.proj2."),
    (r"^encoder\.3\.", "latent."),
    (r"^(encoder|decoder)\.(\d)\.", lambda m: f"{m[1]}_level{int(m[2]) + 1}."),
    (r"^down\.(\d)\.", lambda m: f"down{int(m[1]) + 1}_{int(m[1]) + 2}.body.0."),
    (r"^up\.(\d)\.", lambda m: f"up{int(m[1]) + 2}_{int(m[1]) + 1}.body.0."),
    (r"^reduce\.(\d)\.", lambda m: f"reduce_chan_level{int(m[1]) + 2}."),
    (r"^skip\.", "skip_conv."),
    (r"^output\.", "output.0."),
    (r"\.attention_norm\.", ".norm1.body."),
    (r"\.ffn_norm\.", ".norm2.body."),
    (r"\.attention\.depthwise\.", ".attn.qkv_dwconv."),
    (r"\.attention\.merge\.", ".attn.project_out."),
    (r"\.attention\.position_bias\.hidden\.", ".attn.cpb_mlp.0."),
    (r"\.attention\.position_bias\.heads\.", ".attn.cpb_mlp.2."),
    (r"\.attention\.", ".attn."),
    (r"\.ffn\.expand\.", ".ffn.project_in."),
    (r"\.ffn\.project\.", ".ffn.project_out."),
]
_ENCODER = ("encoder_level1", "encoder_level2", "encoder_level3", "latent")


def released_name(name: str) -> str:
    """Return the name that the released code gives a parameter of `Swintormer`."""
    for pattern, released in _NAMES:
        name = re.sub(pattern, released, name)
    return name


def convert_released(
    content: object, source: str = "the file", *, window_size: int = 16
) -> tuple[SwintormerSettings, dict[str, Tensor]]:
    """Convert weights that were trained with the released code.

    Parameters
    ----------
    content
        A state dict, also under ``params_ema`` or ``params``, as the released code saves it.
    source
        Name of the file for messages.
    window_size
        Side of the attention windows, which the weights do not show.

    Returns
    -------
    settings, state
        Sizes inferred from the shapes, with ``softmax="released"``; and float32 weights for
        ``Swintormer(settings)``.

    Raises
    ------
    WeightsError
        A key is missing, unexpected or of the wrong shape; the message names it.
    """
    weights = state_dict_in(content, source)
    settings = _infer_settings(weights, source, window_size)
    with torch.device("meta"):  # shapes only
        expected = Swintormer(settings).state_dict()
    state = {}
    for name, like in expected.items():
        key = released_name(name)
        weight = tensor_at(weights, key, source)
        # the released 1 × 1 convolutions and logit scales have trailing axes of length 1
        if [n for n in weight.shape if n != 1] != [n for n in like.shape if n != 1]:
            raise WeightsError(
                f"{source} has shape {tuple(weight.shape)} at key {key!r}, where the other keys "
                f"ask for {tuple(like.shape)}. Use the weights of one whole network."
            )
        state[name] = weight.reshape(like.shape).float()
    if unexpected := weights.keys() - map(released_name, expected):
        raise WeightsError(
            f"{source} has the unexpected key {min(unexpected)!r}. "
            "Use weights of the released Swintormer network without convolution biases."
        )
    return settings, state


def released_card(path: Path, settings: SwintormerSettings) -> ModelCard:
    """Describe released weights, whose file holds no description."""
    return ModelCard(
        name=card_name(path, "released"),
        title=f"Weights of the released code ({path.name})",
        summary="Trained with the authors' released code; works best on 8-bit RGB photographs.",
        network=settings,
        # the paper's best tiles: 512 with a stride of 220, uniform average
        tile_size=512,
        overlap=292,
        blend="uniform",
        intensity=IntensityConvention(scope="image", low=0, high=100),
        clip_output=True,
    )


def _infer_settings(
    weights: Mapping[str, Tensor], source: str, window_size: int
) -> SwintormerSettings:
    in_channels = size_at(weights, "patch_embed.proj2.weight", 1, source) // 4
    channels = size_at(weights, "output.0.weight", 0, source) // 4
    dim = size_at(weights, "patch_embed.proj2.weight", 0, source)
    hidden = [
        size_at(weights, f"{level}.0.ffn.project_out.weight", 1, source) for level in _ENCODER
    ]
    views = max(in_channels // max(channels, 1), 1)
    try:
        return SwintormerSettings(
            channels=channels,
            views=views,
            prior_channels=max(in_channels - views * channels, 0),
            dim=dim,
            num_blocks=tuple(_count_blocks(weights, level) for level in _ENCODER),
            num_heads=tuple(
                size_at(weights, f"{level}.0.attn.logit_scale", 0, source) for level in _ENCODER
            ),
            num_refinement_blocks=_count_blocks(weights, "refinement"),
            ffn_expansion=_infer_expansion(dim, hidden, source),
            window_size=window_size,
            softmax="released",
        )
    except ValidationError as error:
        raise WeightsError(
            f"{source} describes a network that cannot be built {first_problem(error)}."
        ) from error


def _infer_expansion(dim: int, hidden: list[int], source: str) -> float:
    """Find the shortest decimal with ``int(dim * expansion)`` equal to all four hidden widths."""
    dims = [dim * 2**level for level in range(len(hidden))]
    least = max(width / d for width, d in zip(hidden, dims, strict=True) if d)
    for digits in range(8):
        expansion: float = ceil(least * 10**digits) / 10**digits
        if [int(d * expansion) for d in dims] == hidden:
            return expansion
    raise WeightsError(
        f"{source} has feed-forward widths {hidden} for {dims} channels, which no single expansion "
        "gives. Use the weights of one whole network."
    )


def _count_blocks(weights: Mapping[str, Tensor], level: str) -> int:
    matches = (re.match(rf"{level}\.(\d{{1,4}})\.", key) for key in weights)
    return 1 + max((int(m[1]) for m in matches if m), default=-1)
