"""Shifted-window attention with a depthwise convolution.

Half of the channels attends over the pixels of a window, the other half over the channels.
Tensors are NHWC.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

if TYPE_CHECKING:
    from napari_swintormer.models.settings import SoftmaxForm

_LOGIT_SCALE_MAX = math.log(100.0)
_MASKED = -100.0
_BIAS_HIDDEN = 512


def partition_windows(x: Tensor, window_size: int) -> Tensor:
    """Cut ``(B, H, W, C)`` into windows ``(B * H/w * W/w, w, w, C)``, rows of windows first."""
    return rearrange(x, "b (ny wy) (nx wx) c -> (b ny nx) wy wx c", wy=window_size, wx=window_size)


def merge_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """Put windows ``(B * H/w * W/w, w, w, C)`` together again to ``(B, H, W, C)``."""
    size = windows.shape[1]
    return rearrange(
        windows,
        "(b ny nx) wy wx c -> b (ny wy) (nx wx) c",
        ny=height // size,
        nx=width // size,
    )


def shift_mask(height: int, width: int, window_size: int, device: torch.device) -> Tensor:
    """Keep pixels apart that only the cyclic shift brought into one window.

    Returns
    -------
    Tensor
        ``(H/w * W/w, w*w, w*w)``, to add to the logits: 0 within a region of the image, -100
        between regions.
    """

    def regions(length: int) -> Tensor:
        # the last window holds, after the shift, the old end and the old beginning of the axis
        ids = torch.zeros(length, device=device)
        ids[-window_size:] = 1
        ids[-(window_size // 2) :] = 2
        return ids

    region = 3 * regions(height)[:, None] + regions(width)
    region = partition_windows(region[None, :, :, None], window_size).flatten(1)
    return (region[:, :, None] != region[:, None, :]) * _MASKED


class PositionBias(nn.Module):
    """Continuous position bias of Swin v2: a small network over log-spaced offsets of two pixels.

    Parameters
    ----------
    window_size
        Side ``w`` of the window.
    num_heads
        Attention heads ``h``; the result is ``(h, w*w, w*w)`` between 0 and 16.
    """

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
        """Return what to add to the logits, ``(h, w*w, w*w)``."""
        bias: Tensor = self.heads(F.relu(self.hidden(self.offsets)))  # (span * span, h)
        pixels = math.isqrt(self.pairs.numel())
        return 16 * torch.sigmoid(bias).t()[:, self.pairs].view(-1, pixels, pixels)


class WindowAttention(nn.Module):
    """Shifted-window attention with a depthwise convolution.

    Parameters
    ----------
    dim
        Channels ``C``.
    num_heads
        Heads of either half of the channels.
    window_size
        Side of the windows.
    shifted
        Whether the windows are shifted cyclically by half their size.
    softmax
        See `SwintormerSettings`.
    """

    def __init__(
        self, dim: int, num_heads: int, window_size: int, *, shifted: bool, softmax: SoftmaxForm
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift_size = window_size // 2 if shifted else 0
        self.softmax = softmax
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.depthwise = nn.Conv2d(3 * dim, 3 * dim, 3, padding=1, groups=3 * dim, bias=False)
        self.merge = nn.Linear(dim, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.full((num_heads,), math.log(10.0)))
        self.position_bias = PositionBias(window_size, num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within windows; ``(B, H, W, C)`` in and out."""
        height, width = x.shape[1:3]
        if self.shift_size:
            x = x.roll((-self.shift_size, -self.shift_size), (1, 2))
        windows = partition_windows(x, self.window_size)
        qkv = self.depthwise(self.qkv(windows).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        over_pixels, over_channels = qkv.flatten(1, 2).chunk(2, dim=-1)
        attended = torch.cat(
            [
                self._attend_pixels(over_pixels, height, width),
                self._attend_channels(over_channels),
            ],
            dim=-1,
        )
        x = merge_windows(self.merge(attended).unflatten(1, windows.shape[1:3]), height, width)
        if self.shift_size:
            x = x.roll((self.shift_size, self.shift_size), (1, 2))
        return x

    def _attend_pixels(self, qkv: Tensor, height: int, width: int) -> Tensor:
        """Cosine attention between the pixels of a window; ``(n, w*w, 3c)`` to ``(n, w*w, c)``."""
        q, k, v = rearrange(qkv, "n p (three h c) -> three n h p c", three=3, h=self.num_heads)
        with torch.autocast(qkv.device.type, enabled=False):
            scale = self.logit_scale.float().clamp(max=_LOGIT_SCALE_MAX).exp()
            q = F.normalize(q.float(), dim=-1) * scale[:, None, None]
            k = F.normalize(k.float(), dim=-1)
            bias = self._bias(height, width, len(q))
            if self.softmax == "plain":
                q, k, bias = q.to(v.dtype), k.to(v.dtype), bias.to(v.dtype)
                out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
            else:
                logits = q @ k.transpose(-2, -1) + bias
                out = _released_softmax(logits).to(v.dtype) @ v
        return rearrange(out, "n h p c -> n p (h c)")

    def _attend_channels(self, qkv: Tensor) -> Tensor:
        """Cosine attention between channels; ``(n, w*w, 3c)`` to ``(n, w*w, c)``."""
        q, k, v = rearrange(qkv, "n p (three h c) -> three n h c p", three=3, h=self.num_heads)
        with torch.autocast(qkv.device.type, enabled=False):
            q = F.normalize(q.float(), dim=-1)
            k = F.normalize(k.float(), dim=-1)
            logits = q @ k.transpose(-2, -1)
            if self.softmax == "plain":
                weights = logits.softmax(dim=-1)
            else:
                weights = _released_softmax(logits)
            out = weights.to(v.dtype) @ v
        return rearrange(out, "n h c p -> n p (h c)")

    def _bias(self, height: int, width: int, windows: int) -> Tensor:
        """Position bias and shift mask, ``(n or 1, h, w*w, w*w)``."""
        bias: Tensor = self.position_bias()[None]
        if not self.shift_size:
            return bias
        mask = shift_mask(height, width, self.window_size, bias.device)
        return (bias + mask[:, None]).repeat(windows // len(mask), 1, 1, 1)


def _released_softmax(logits: Tensor) -> Tensor:
    """``exp(x - max) / (1 + sum(exp(x - max)))``, the form of the authors' released code."""
    weights: Tensor = (logits - logits.amax(dim=-1, keepdim=True).detach()).exp()
    return weights / (1 + weights.sum(dim=-1, keepdim=True))
