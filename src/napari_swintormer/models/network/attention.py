"""Attention in shifted windows, with a depthwise convolution of queries, keys and values.

Half of the channels attends over the pixels of a window, the other half over its channels. In the
paper's ablation all channels attend in one of the two ways. No operation crosses the border of a
window. Images are NHWC, windows ``(n, p, C)`` with ``p`` pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from napari_swintormer.models.network.constants import on_cpu
from napari_swintormer.models.network.products import add_product, product

if TYPE_CHECKING:
    from napari_swintormer.models.network.network_settings import SwintormerSettings

_LOGIT_SCALE_MAX = math.log(100.0)
_BIAS_HIDDEN = 512
_EPS = 1e-12  # added to squared lengths


class Masks(NamedTuple):
    """What separates the pixels of those windows that the cyclic shift put together."""

    numbers: Tensor  # which windows they are
    logits: Tensor  # (len(numbers), 1, p, p), added between pixels


class PositionBias(nn.Module):
    """Continuous position bias of Swin v2: a small network of the log-spaced pixel offsets."""

    offsets: Tensor
    pairs: Tensor

    def __init__(self, window_size: int, num_heads: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, _BIAS_HIDDEN)
        self.heads = nn.Linear(_BIAS_HIDDEN, num_heads, bias=False)
        nn.init.trunc_normal_(self.heads.weight, std=0.02)

        self.register_buffer("offsets", _offsets(window_size), persistent=False)
        self.register_buffer("pairs", _pairs(window_size), persistent=False)

    def forward(self) -> Tensor:
        """Return the bias of the logits, ``(h, w*w, w*w)`` between 0 and 16."""
        bias: Tensor = self.heads(F.relu(self.hidden(self.offsets)))  # (span * span, h)
        pixels = math.isqrt(self.pairs.numel())
        return 16 * torch.sigmoid(bias).t()[:, self.pairs].view(-1, pixels, pixels)


@on_cpu
def _offsets(window_size: int) -> Tensor:
    """Give the log-spaced offsets between two pixels of a window, ``(span * span, 2)``."""
    offset = torch.arange(2 * window_size - 1, dtype=torch.float32) - (window_size - 1)
    offset = 8 * offset / (window_size - 1)
    offset = offset.sign() * (offset.abs() + 1).log2() / math.log2(8)
    return torch.stack(torch.meshgrid(offset, offset, indexing="ij"), dim=-1).flatten(0, 1)


@on_cpu
def _pairs(window_size: int) -> Tensor:
    """Give the index into the offsets for each pair of pixels, ``(w*w * w*w,)``."""
    pixel = torch.arange(window_size)
    step = pixel[:, None] - pixel + window_size - 1  # (w, w), index of an offset on one axis
    rows = rearrange(step * (2 * window_size - 1), "yi yj -> yi 1 yj 1")
    return (rows + rearrange(step, "xi xj -> 1 xi 1 xj")).flatten()


class PixelWeights(NamedTuple):
    """The weights of attention over pixels."""

    qk_scale: Tensor  # (2, 1, h, 1, 1)
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
        merge = [m.contiguous() for m in cast(self.merge.weight, dtype).chunk(self.parts, dim=1)]
        return AttentionWeights(
            cast(self.qkv.weight, dtype),
            cast(self.depthwise.weight, dtype),
            self._prepare_pixels(merge[0]) if self.over_pixels else None,
            merge[-1] if self.over_channels else None,
        )

    def _prepare_pixels(self, merge: Tensor) -> PixelWeights:
        per_head = merge.shape[1] // self.num_heads
        scale = self.logit_scale.clamp(max=_LOGIT_SCALE_MAX).exp() / per_head
        qk_scale = torch.stack([scale, torch.ones_like(scale)])[:, None, :, None, None]
        bias: Tensor = self.position_bias()
        # a shift of a row does not change its softmax; half precision is finest near zero
        bias = bias - bias.amax(dim=-1, keepdim=True)
        return PixelWeights(qk_scale.to(merge.dtype), bias.to(merge.dtype), merge)

    def forward(
        self, windows: Tensor, weights: AttentionWeights, masks: Masks | None, onto: Tensor
    ) -> Tensor:
        """Return `onto` plus the attention of normalised `windows`, both ``(n, p, C)``.

        `weights` come from `prepare`.
        """
        size = self.window_size
        qkv = product(windows, weights.qkv)
        # plain views: a pattern of einops would take longer than what it describes
        qkv = qkv.view(len(qkv), size, size, -1).permute(0, 3, 1, 2)
        qkv = F.conv2d(qkv, weights.depthwise, padding=1, groups=len(weights.depthwise))
        # the first part is q, k, v over pixels, the last over channels
        qkv = qkv.permute(0, 2, 3, 1).flatten(1, 2)  # (n, p, C)
        parts = qkv.view(*qkv.shape[:2], self.parts, 3, self.num_heads, -1).unbind(2)
        # merging the parts separately avoids their concatenation
        if weights.pixels is not None:
            onto = self._add_over_pixels(parts[0], weights.pixels, masks, onto)
        if weights.channels is not None:
            onto = self._add_over_channels(parts[-1], weights.channels, onto)
        return onto

    def _add_over_pixels(
        self, qkv: Tensor, weights: PixelWeights, masks: Masks | None, onto: Tensor
    ) -> Tensor:
        """Add cosine attention between pixels; `qkv` is ``(n, p, 3, h, c)``."""
        # each head's pixels side by side: strided reading would cost more than this copy
        qkv = qkv.permute(2, 0, 3, 1, 4).contiguous()  # (three, n, h, p, c)
        q, k = scaled_to_unit(qkv[:2], weights.qk_scale)
        v = qkv[2]
        if self.softmax == "plain" and not weights.bias.requires_grad:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=weights.bias[None], scale=1.0)
            if masks is not None:
                q, k, v = (t[masks.numbers] for t in (q, k, v))
                bias = weights.bias + masks.logits
                again = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
                # frozen weights can carry gradients to what comes before them
                place = out.index_copy if out.requires_grad else out.index_copy_
                out = place(0, masks.numbers, again)
        else:  # the fused attention has neither the released softmax nor gradients of the bias
            logits = (q @ k.transpose(-2, -1)).float() + weights.bias
            if masks is not None:
                added = masks.logits.float().expand(-1, self.num_heads, -1, -1)
                logits = logits.index_add(0, masks.numbers, added)
            out = self._softmax(logits).to(v.dtype) @ v
        return add_product(onto, out.transpose(1, 2).flatten(2), weights.merge)

    def _add_over_channels(self, qkv: Tensor, merge: Tensor, onto: Tensor) -> Tensor:
        """Add cosine attention between channels; `qkv` is ``(n, p, 3, h, c)``."""
        heads = self.num_heads
        qk = qkv[:, :, :2]
        length = (qk * qk).sum(dim=1, dtype=torch.float32)  # squared, (n, 2, h, c)
        q, k, v = qkv.flatten(3).unbind(2)  # (n, p, h*c)
        # one product of all heads with all heads is cheaper than one for each head
        products = q.transpose(1, 2) @ k  # (n, h*c, h*c)
        products = products.view(len(q), heads, q.shape[2] // heads, heads, -1)
        logits = products.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2).float()
        q_length, k_length = (length + _EPS).rsqrt().unbind(1)
        logits = logits * q_length[:, :, :, None] * k_length[:, :, None, :]
        weights = self._softmax(logits)
        # one matrix attends over a window's channels and merges the heads
        merge = merge.t().view(heads, -1, len(merge))  # (h, c, C)
        across = weights.to(merge.dtype).transpose(-2, -1) @ merge
        return torch.baddbmm(onto, v, across.flatten(1, 2))

    def _softmax(self, logits: Tensor) -> Tensor:
        if self.softmax == "plain":
            return logits.softmax(dim=-1)
        # the authors' released code: exp(x - max) / (1 + sum(exp(x - max)))
        weights: Tensor = (logits - logits.amax(dim=-1, keepdim=True).detach()).exp()
        return weights / (1 + weights.sum(dim=-1, keepdim=True))


def cast(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a weight; it carries gradients only while they are enabled."""
    return (weight if torch.is_grad_enabled() else weight.detach()).to(dtype)


def scaled_to_unit(qk: Tensor, scale: Tensor) -> Tensor:
    """Scale queries and keys ``(2, n, h, p, c)`` to a mean square of 1, times `scale`."""
    if qk.dtype == torch.float32:  # in half precision, the factors would lose digits
        mean_square = (qk * qk).mean(dim=-1, keepdim=True)
        return qk * ((mean_square + _EPS).rsqrt() * scale)
    return F.rms_norm(qk, qk.shape[-1:], eps=_EPS) * scale
