"""Attention in shifted windows, with a depthwise convolution of queries, keys and values.

Half of the channels attends over the pixels of a window, the other half over its channels. In the
paper's ablation all channels attend in one of the two ways. No operation crosses the border of a
window. Images are NHWC, windows ``(n, p, C)`` with ``p`` pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

if TYPE_CHECKING:
    from napari_swintormer.models.network.network_settings import SwintormerSettings

_LOGIT_SCALE_MAX = math.log(100.0)
_MASKED = -100.0
_BIAS_HIDDEN = 512
_EPS = 1e-12  # added to squared lengths


def partition_windows(x: Tensor, window_size: int) -> Tensor:
    """Cut ``(B, H, W, C)`` into windows ``(n, w*w, C)``, row by row of windows."""
    pattern = "b (ny wy) (nx wx) c -> (b ny nx) (wy wx) c"
    return rearrange(x, pattern, wy=window_size, wx=window_size)


def merge_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Join windows ``(n, w*w, C)`` to ``(B, H, W, C)``."""
    size = math.isqrt(windows.shape[1])
    pattern = "(b ny nx) (wy wx) c -> b (ny wy) (nx wx) c"
    return rearrange(windows, pattern, ny=height // size, nx=width // size, wy=size)


class ShiftedWindows(NamedTuple):
    """The windows of a shifted partition; border windows join pixels of opposite borders."""

    kinds: Tensor  # (n,), index into `shift_masks`: 0 inside, +1 last column, +2 last row
    inside: Tensor  # indices of the windows of kind 0
    border: Tensor  # indices of the others


@lru_cache(maxsize=64)
def shifted_windows(batch: int, rows: int, columns: int, device: torch.device) -> ShiftedWindows:
    """Sort the windows of `partition_windows` by kind; cached by size."""
    kinds = np.zeros((batch, rows, columns), np.int64)
    kinds[:, :, -1] += 1
    kinds[:, -1, :] += 2
    flat = kinds.ravel()
    # sorted by numpy: a GPU would have to stop and tell how many windows there are of each kind
    sorted_windows = flat, np.flatnonzero(flat == 0), np.flatnonzero(flat)
    with torch.inference_mode(False):  # training may use the cached tensors later
        return ShiftedWindows(*(torch.from_numpy(part).to(device) for part in sorted_windows))


def shift_masks(window_size: int) -> Tensor:
    """Make the masks that separate pixels which only the cyclic shift brought into one window.

    ``(4, w*w, w*w)``, added to the logits of the four kinds of `ShiftedWindows`: 0 between pixels
    from the same side of the image, -100 between others.
    """
    wrapped = torch.arange(window_size) >= window_size // 2
    inside = torch.zeros_like(wrapped)
    masks = []
    for y, x in ((inside, inside), (inside, wrapped), (wrapped, inside), (wrapped, wrapped)):
        side = (2 * y[:, None] + x).flatten()
        masks.append((side[:, None] != side) * _MASKED)
    return torch.stack(masks)


class PositionBias(nn.Module):
    """Continuous position bias of Swin v2: a small network of the log-spaced pixel offsets."""

    offsets: Tensor
    pairs: Tensor

    def __init__(self, window_size: int, num_heads: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, _BIAS_HIDDEN)
        self.heads = nn.Linear(_BIAS_HIDDEN, num_heads, bias=False)
        nn.init.trunc_normal_(self.heads.weight, std=0.02)

        span = 2 * window_size - 1
        offset = torch.arange(span, dtype=torch.float32) - (window_size - 1)
        offset = 8 * offset / (window_size - 1)
        offset = offset.sign() * (offset.abs() + 1).log2() / math.log2(8)
        offsets = torch.stack(torch.meshgrid(offset, offset, indexing="ij"), dim=-1)
        pixel = torch.arange(window_size)
        step = pixel[:, None] - pixel + window_size - 1  # (w, w), index of an offset on one axis
        pairs = rearrange(step * span, "yi yj -> yi 1 yj 1") + rearrange(step, "xi xj -> 1 xi 1 xj")
        self.register_buffer("offsets", offsets.flatten(0, 1), persistent=False)
        self.register_buffer("pairs", pairs.flatten(), persistent=False)

    def forward(self) -> Tensor:
        """Return the bias of the logits, ``(h, w*w, w*w)`` between 0 and 16."""
        bias: Tensor = self.heads(F.relu(self.hidden(self.offsets)))  # (span * span, h)
        pixels = math.isqrt(self.pairs.numel())
        return 16 * torch.sigmoid(bias).t()[:, self.pairs].view(-1, pixels, pixels)


class PixelWeights(NamedTuple):
    """The weights of attention over pixels."""

    qk_scale: Tensor  # (2, h, c)
    bias: Tensor  # (h, p, p)
    merge: Tensor  # (C, h*c)


class AttentionWeights(NamedTuple):
    """The weights of `WindowAttention` in the precision of its products."""

    qkv: Tensor
    depthwise: Tensor
    pixels: PixelWeights | None
    channels: Tensor | None  # (C, h*c), merges the result of attention over channels


class WindowAttention(nn.Module):
    """Attention within windows: ``h`` heads over pixels and ``h`` heads over channels."""

    def __init__(self, settings: SwintormerSettings, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = settings.window_size
        self.softmax = settings.softmax
        self.over_pixels = settings.attention != "channel"
        self.over_channels = settings.attention != "window"
        self.parts = self.over_pixels + self.over_channels  # divide the channels among them
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.merge = nn.Linear(dim, dim, bias=False)
        if self.over_pixels:
            self.logit_scale = nn.Parameter(torch.full((num_heads,), math.log(10.0)))
            self.position_bias = PositionBias(self.window_size, num_heads)

    def prepare(self, dtype: torch.dtype) -> AttentionWeights:
        """Prepare the weights for `forward`; differentiable."""
        merge = cast(self.merge.weight, dtype).chunk(self.parts, dim=1)
        return AttentionWeights(
            cast(self.qkv.weight, dtype),
            cast(self.depthwise.weight, dtype),
            self._prepare_pixels(merge[0]) if self.over_pixels else None,
            merge[-1] if self.over_channels else None,
        )

    def _prepare_pixels(self, merge: Tensor) -> PixelWeights:
        per_head = merge.shape[1] // self.num_heads
        scale = self.logit_scale.clamp(max=_LOGIT_SCALE_MAX).exp() / per_head
        qk_scale = torch.stack([scale, torch.ones_like(scale)])[:, :, None]
        bias: Tensor = self.position_bias()
        # a shift of a row does not change its softmax; half precision is finest near zero
        bias = bias - bias.amax(dim=-1, keepdim=True)
        return PixelWeights(
            qk_scale.expand(-1, -1, per_head).to(merge.dtype), bias.to(merge.dtype), merge
        )

    def forward(
        self, windows: Tensor, weights: AttentionWeights, mask: Tensor | None, onto: Tensor
    ) -> Tensor:
        """Return `onto` plus the attention of normalised `windows`, both ``(n, p, C)``.

        `weights` come from `prepare`; `mask` is ``(n, p, p)``, added to the logits between pixels.
        """
        size = self.window_size
        qkv = F.linear(windows, weights.qkv)
        qkv = rearrange(qkv, "n (y x) c -> n c y x", y=size, x=size)
        qkv = F.conv2d(qkv, weights.depthwise, padding=1, groups=len(weights.depthwise))
        # the first part is q, k, v over pixels, the last over channels
        pattern = "n (part three h c) y x -> part n (y x) three h c"
        parts = rearrange(qkv, pattern, part=self.parts, three=3, h=self.num_heads)
        # merging the parts separately avoids their concatenation
        if weights.pixels is not None:
            onto = self._add_over_pixels(parts[0], weights.pixels, mask, onto)
        if weights.channels is not None:
            onto = self._add_over_channels(parts[-1], weights.channels, onto)
        return onto

    def _add_over_pixels(
        self, qkv: Tensor, weights: PixelWeights, mask: Tensor | None, onto: Tensor
    ) -> Tensor:
        """Add cosine attention between pixels; `qkv` is ``(n, p, 3, h, c)``."""
        bias = weights.bias[None] if mask is None else weights.bias + mask[:, None]
        qk = F.rms_norm(qkv[:, :, :2], qkv.shape[-1:], eps=_EPS) * weights.qk_scale
        q, k = rearrange(qk, "n p two h c -> two n h p c")
        v = rearrange(qkv[:, :, 2], "n p h c -> n h p c")
        if self.softmax == "plain" and not bias.requires_grad:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        else:  # the fused attention has neither the released softmax nor gradients of the bias
            logits = (q @ k.transpose(-2, -1)).float() + bias
            out = self._softmax(logits).to(v.dtype) @ v
        return add_product(onto, rearrange(out, "n h p c -> n p (h c)"), weights.merge)

    def _add_over_channels(self, qkv: Tensor, merge: Tensor, onto: Tensor) -> Tensor:
        """Add cosine attention between channels; `qkv` is ``(n, p, 3, h, c)``."""
        heads = self.num_heads
        qk = qkv[:, :, :2]
        length = (qk * qk).sum(dim=1, dtype=torch.float32)  # squared, (n, 2, h, c)
        q, k = rearrange(qk, "n p two h c -> two n p (h c)")
        # one product of all heads with all heads is cheaper than one for each head
        products = rearrange(q.transpose(1, 2) @ k, "n (h c) (g d) -> n h c g d", h=heads, g=heads)
        logits = rearrange(products.diagonal(dim1=1, dim2=3), "n c d h -> n h c d").float()
        q_length, k_length = (length + _EPS).rsqrt().unbind(1)
        logits = logits * q_length[:, :, :, None] * k_length[:, :, None, :]
        weights = self._softmax(logits)
        # one matrix attends over a window's channels and merges the heads
        merge = rearrange(merge, "o (h c) -> h c o", h=heads)
        across = weights.to(merge.dtype).transpose(-2, -1) @ merge
        v = rearrange(qkv[:, :, 2], "n p h c -> n p (h c)")
        return torch.baddbmm(onto, v, rearrange(across, "n h c o -> n (h c) o"))

    def _softmax(self, logits: Tensor) -> Tensor:
        if self.softmax == "plain":
            return logits.softmax(dim=-1)
        # the authors' released code: exp(x - max) / (1 + sum(exp(x - max)))
        weights: Tensor = (logits - logits.amax(dim=-1, keepdim=True).detach()).exp()
        return weights / (1 + weights.sum(dim=-1, keepdim=True))


def cast(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a weight; it carries gradients only while they are enabled."""
    return (weight if torch.is_grad_enabled() else weight.detach()).to(dtype)


def add_product(onto: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """Return ``onto + linear(x, weight)`` in one pass; ``(n, p, C)`` all but the weight."""
    total = torch.addmm(onto.flatten(0, 1), x.flatten(0, 1), weight.t())
    return total.view(onto.shape)
