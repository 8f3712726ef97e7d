"""The network in plain torch, as the paper describes it: the reference of the benchmarks.

Nothing is optimised: NCHW tensors, softmax over explicit matrices, shift mask and position bias
made again in every call. A deconvolution, which the paper does not have, is the network's own, and
a network for a known blur gets the filtered image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from napari_swintormer.models.network.network_settings import BLUR_MAPS
from napari_swintormer.models.network.swintormer import RESIDUAL_GAIN

if TYPE_CHECKING:
    from napari_swintormer.models.network.swintormer import Swintormer


class Transcription:
    """The plain network with the weights, the settings and the device of a `Swintormer`."""

    def __init__(self, network: Swintormer) -> None:
        self.weights = {name: weight.detach() for name, weight in network.state_dict().items()}
        self.settings = network.settings
        self.deconvolution = network.deconvolution
        self.device = next(network.parameters()).device

    def __call__(self, x: Tensor) -> Tensor:
        """Restore an input of the network; the sides are multiples of the settings' `multiple`."""
        sizes, heads = self.settings, self.settings.num_heads
        added = maps = None
        if sizes.known_blur:
            parts = [sizes.channels, sizes.channels, BLUR_MAPS, sizes.prior_channels]
            view, filtered, maps, prior = torch.split(x, parts, dim=1)
            x = filtered + prior if sizes.prior_channels else filtered
            added = x - view
        elif self.deconvolution is not None:
            view, others = x.tensor_split([sizes.channels], dim=1)
            added = self.deconvolution(view)
            x = torch.cat([view + added, others], dim=1)
        x = 2 * x - 1
        embedded = self._conv("embed", F.pixel_unshuffle(x, 2))
        if added is not None:
            added = F.pixel_unshuffle(RESIDUAL_GAIN * added, 2)
            embedded = embedded + self._conv("embed_added", added)
        if maps is not None:
            embedded = embedded + self._conv("embed_maps", maps[..., ::2, ::2])
        features = self._level("encoder.0", embedded, heads[0])
        skips: list[Tensor] = []
        for i in range(3):
            skips.append(features)
            features = F.pixel_unshuffle(self._conv(f"down.{i}", features), 2)
            features = self._level(f"encoder.{i + 1}", features, heads[i + 1])
        for i in (2, 1, 0):
            features = F.pixel_shuffle(self._conv(f"up.{i}", features), 2)
            features = torch.cat([features, skips[i]], dim=1)
            if i > 0:
                features = self._conv(f"reduce.{i - 1}", features)
            features = self._level(f"decoder.{i}", features, heads[i])
        features = self._level("refinement", features, heads[0])
        y = self._conv("output", features + self._conv("skip", embedded))
        return (F.pixel_shuffle(y, 2) + x[:, : sizes.channels] + 1) / 2

    def _conv(self, name: str, x: Tensor, groups: int = 1) -> Tensor:
        weight = self.weights[f"{name}.weight"]
        weight = weight if weight.ndim == 4 else weight[:, :, None, None]
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2, groups=groups)

    def _level(self, name: str, x: Tensor, heads: int) -> Tensor:
        block = 0
        while f"{name}.{block}.attention_norm.weight" in self.weights:
            x = self._block(f"{name}.{block}", x, heads, shifted=block % 2 == 1)
            block += 1
        return x

    def _block(self, name: str, x: Tensor, heads: int, *, shifted: bool) -> Tensor:
        x = x + self._attention(
            f"{name}.attention", self._norm(f"{name}.attention_norm", x), heads, shifted=shifted
        )
        y = self._conv(f"{name}.ffn.expand", self._norm(f"{name}.ffn_norm", x))
        left, right = y.chunk(2, dim=1)
        return x + self._conv(f"{name}.ffn.project", left * right)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        y = rearrange(x, "b c h w -> b (h w) c")
        y = F.layer_norm(
            y, y.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        )
        return rearrange(y, "b (h w) c -> b c h w", h=x.shape[2])

    def _attention(self, name: str, x: Tensor, heads: int, *, shifted: bool) -> Tensor:
        w = self.settings.window_size
        height, width = x.shape[2:]
        if shifted:
            x = x.roll((-w // 2, -w // 2), (2, 3))
        windows = rearrange(x, "b c (ny wy) (nx wx) -> (b ny nx) c wy wx", wy=w, wx=w)
        qkv = self._conv(f"{name}.qkv", windows)
        qkv = self._conv(f"{name}.depthwise", qkv, groups=qkv.shape[1])
        # with two parts, the first attends over pixels and the second over channels
        kind = self.settings.attention
        parts = qkv.chunk(2 if kind == "mixed" else 1, dim=1)
        attended = []
        if kind != "channel":
            mask = self._shift_mask(height, width) if shifted else None
            attended.append(self._over_pixels(name, parts[0], heads, mask))
        if kind != "window":
            attended.append(self._over_channels(parts[-1], heads))

        y = self._conv(f"{name}.merge", torch.cat(attended, dim=1))
        y = rearrange(y, "(b ny nx) c wy wx -> b c (ny wy) (nx wx)", ny=height // w, nx=width // w)
        return y.roll((w // 2, w // 2), (2, 3)) if shifted else y

    def _over_pixels(self, name: str, qkv: Tensor, heads: int, mask: Tensor | None) -> Tensor:
        w = self.settings.window_size
        q, k, v = rearrange(qkv, "n (t h c) y x -> t n h (y x) c", t=3, h=heads)
        scale = self.weights[f"{name}.logit_scale"].clamp(max=math.log(100)).exp()[:, None, None]
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1) * scale
        logits = logits + self._position_bias(name)
        if mask is not None:
            logits = rearrange(logits, "(b m) h p k -> b m h p k", m=len(mask)) + mask[:, None]
            logits = rearrange(logits, "b m h p k -> (b m) h p k")
        attended: Tensor = rearrange(self._softmax(logits) @ v, "n h (y x) c -> n (h c) y x", y=w)
        return attended

    def _over_channels(self, qkv: Tensor, heads: int) -> Tensor:
        w = self.settings.window_size
        q, k, v = rearrange(qkv, "n (t h c) y x -> t n h c (y x)", t=3, h=heads)
        logits = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
        attended: Tensor = rearrange(self._softmax(logits) @ v, "n h c (y x) -> n (h c) y x", y=w)
        return attended

    def _softmax(self, logits: Tensor) -> Tensor:
        logits = (logits - logits.amax(dim=-1, keepdim=True)).exp()
        one = 1 if self.settings.softmax == "released" else 0
        return logits / (one + logits.sum(dim=-1, keepdim=True))

    def _position_bias(self, name: str) -> Tensor:
        w = self.settings.window_size
        offset = 8 * torch.arange(1 - w, w, device=self.device) / (w - 1)
        offset = offset.sign() * (offset.abs() + 1).log2() / 3
        table = torch.stack(torch.meshgrid(offset, offset, indexing="ij"), dim=-1)
        hidden = F.linear(
            table,
            self.weights[f"{name}.position_bias.hidden.weight"],
            self.weights[f"{name}.position_bias.hidden.bias"],
        ).relu()
        bias = 16 * F.linear(hidden, self.weights[f"{name}.position_bias.heads.weight"]).sigmoid()
        pixels = torch.arange(w, device=self.device)
        y, x = torch.meshgrid(pixels, pixels, indexing="ij")
        y, x = y.flatten(), x.flatten()
        return bias[y[:, None] - y + w - 1, x[:, None] - x + w - 1].permute(2, 0, 1)

    def _shift_mask(self, height: int, width: int) -> Tensor:
        w = self.settings.window_size
        region = torch.zeros(height, width, device=self.device)
        cuts = (slice(0, -w), slice(-w, -w // 2), slice(-w // 2, None))
        for i, rows in enumerate(cuts):
            for j, columns in enumerate(cuts):
                region[rows, columns] = 3 * i + j
        region = rearrange(region, "(ny wy) (nx wx) -> (ny nx) (wy wx)", wy=w, wx=w)
        return (region[:, :, None] != region[:, None, :]) * -100.0
