"""The transformer block: attention and feed-forward within windows of an NHWC image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_swintormer.models.network.attention import (
    AttentionWeights,
    ShiftedWindows,
    WindowAttention,
    add_product,
    cast,
    merge_windows,
    partition_windows,
    shift_masks,
    shifted_windows,
)

if TYPE_CHECKING:
    from napari_swintormer.models.network.network_settings import SwintormerSettings

# Matrix products are faster with widths that fill vector registers: pad with zero weights.
_WIDTH_MULTIPLE = 8
# Largest tensor, in bytes, of one part of the windows on a CPU: it fits in the cache.
_PART_BYTES = 2**22


class FeedForward(nn.Module):
    """Two linear maps around the product of the two halves of the hidden channels."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.expand = nn.Linear(dim, 2 * hidden, bias=False)
        self.project = nn.Linear(hidden, dim, bias=False)

    def prepare(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Prepare the weights for `forward`; differentiable."""
        missing = -self.project.in_features % _WIDTH_MULTIPLE
        halves = torch.stack(cast(self.expand.weight, dtype).chunk(2))
        expand = F.pad(halves, (0, 0, 0, missing)).flatten(0, 1)
        return expand, F.pad(cast(self.project.weight, dtype), (0, missing))

    def forward(self, x: Tensor, weights: tuple[Tensor, Tensor], onto: Tensor) -> Tensor:
        """Map each pixel of ``(n, p, C)``, and add the result to `onto`."""
        expand, project = weights
        left, right = F.linear(x, expand).chunk(2, dim=-1)
        return add_product(onto, left * right, project)


class BlockWeights(NamedTuple):
    """The weights of a block in the precision of its products."""

    attention_norm: tuple[Tensor, Tensor]
    attention: AttentionWeights
    masks: Tensor
    ffn_norm: tuple[Tensor, Tensor]
    ffn: tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention, then feed-forward; each normalises its input and adds a residual to it.

    A shifted block moves its windows cyclically by half their size. With `recompute` training
    computes the activations inside the block again instead of storing them: less memory, more
    time, equal gradients.
    """

    masks: Tensor

    def __init__(
        self, settings: SwintormerSettings, dim: int, num_heads: int, *, shifted: bool
    ) -> None:
        super().__init__()
        self.window_size = settings.window_size
        self.shift_size = self.window_size // 2 if shifted else 0
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = WindowAttention(settings, dim, num_heads)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, settings.ffn_expansion)
        self.register_buffer("masks", shift_masks(self.window_size), persistent=False)
        self.recompute = False
        self._prepared: dict[torch.dtype, tuple[object, BlockWeights]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, H, W, C)``; H and W are multiples of the window size."""
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(self._forward, x, use_reentrant=False)  # type: ignore[no-any-return]
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        device, size, shift = x.device, self.window_size, self.shift_size
        batch, height, width, _ = x.shape
        if torch.is_autocast_enabled(device.type):
            x = x.to(torch.get_autocast_dtype(device.type))
        order = None
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
            order = shifted_windows(batch, height // size, width // size, device)
        windows = partition_windows(x, size)
        with torch.autocast(device.type, enabled=False):
            weights = self._weights(x.dtype)
            if torch.is_grad_enabled():
                windows = self._transform(windows, weights, order.kinds if order else None)
            else:
                windows = self._transform_parts(windows, weights, order)
        x = merge_windows(windows, height, width)
        return x.roll((shift, shift), (1, 2)) if shift else x

    def _transform(self, windows: Tensor, weights: BlockWeights, kinds: Tensor | None) -> Tensor:
        """Transform windows ``(n, p, C)``; `kinds` are indices into the masks, None for no mask."""
        mask = None if kinds is None else weights.masks[kinds]
        y = F.layer_norm(windows, windows.shape[-1:], *weights.attention_norm)
        windows = self.attention(y, weights.attention, mask, windows)
        y = F.layer_norm(windows, windows.shape[-1:], *weights.ffn_norm)
        return self.ffn(y, weights.ffn, windows)  # type: ignore[no-any-return]

    def _transform_parts(
        self, windows: Tensor, weights: BlockWeights, order: ShiftedWindows | None
    ) -> Tensor:
        """Transform windows part by part; only windows at the border get masks."""
        step = len(windows)
        if windows.device.type == "cpu":
            widest = 2 * self.ffn.project.in_features * windows.shape[1] * windows.itemsize
            step = max(1, _PART_BYTES // widest)
        transformed = torch.empty_like(windows)
        if order is None:
            parts = zip(torch.split(windows, step), torch.split(transformed, step), strict=True)
            for part, out in parts:
                out.copy_(self._transform(part, weights, None))
            return transformed
        for index in torch.split(order.inside, step):
            if len(index):
                transformed[index] = self._transform(windows[index], weights, None)
        for index in torch.split(order.border, step):
            transformed[index] = self._transform(windows[index], weights, order.kinds[index])
        return transformed

    def _weights(self, dtype: torch.dtype) -> BlockWeights:
        """Prepare the weights; without gradients they are cached until a parameter changes."""
        if torch.is_grad_enabled():
            return self._prepare(dtype)
        state = [_stamp(weight) for weight in self.parameters()]
        known = self._prepared.get(dtype)
        if known is None or known[0] != state:
            known = self._prepared[dtype] = (state, self._prepare(dtype))
        return known[1]

    def _prepare(self, dtype: torch.dtype) -> BlockWeights:
        attention_norm, ffn_norm = self.attention_norm, self.ffn_norm
        return BlockWeights(
            (cast(attention_norm.weight, dtype), cast(attention_norm.bias, dtype)),
            self.attention.prepare(dtype),
            self.masks.to(dtype),
            (cast(ffn_norm.weight, dtype), cast(ffn_norm.bias, dtype)),
            self.ffn.prepare(dtype),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached weights out of pickles and copies."""
        return self.__dict__ | {"_prepared": {}}

    def _apply(self, fn: Any, recurse: bool = True) -> Block:
        """Move the block, and drop cached weights if they would stay on the old device."""
        before = next(self.parameters()).device
        moved: Block = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if next(self.parameters()).device != before:
            self._prepared.clear()
        return moved

    def train(self, mode: bool = True) -> Block:
        """Switch the mode, and drop cached weights: training can change parameters unnoticed."""
        self._prepared.clear()
        return super().train(mode)


def _stamp(weight: Tensor) -> tuple[object, ...]:
    """Return a value that changes when the weight is changed, replaced or moved."""
    version = None if weight.is_inference() else weight._version
    return weight.data_ptr(), version, weight.dtype, weight.device
