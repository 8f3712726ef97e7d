"""The transformer block: attention and feed-forward within windows of an NHWC image."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

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
    from napari_swintormer.models.network.network_settings import AttentionForm, SoftmaxForm

# Matrix products like widths that fill whole vector registers; zero weights fill up the rest.
_WIDTH_MULTIPLE = 8
# Bytes of the widest tensor that one part of the windows makes on a CPU: it stays in the cache,
# and the memory of one part serves the next.
_PART_BYTES = 2**22


class FeedForward(nn.Module):
    """Two linear maps around the product of the two halves of the hidden channels."""

    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.expand = nn.Linear(dim, 2 * hidden, bias=False)
        self.project = nn.Linear(hidden, dim, bias=False)

    def prepare(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Derive from the parameters what `forward` needs; differentiable."""
        missing = -self.project.in_features % _WIDTH_MULTIPLE
        halves = torch.stack(cast(self.expand.weight, dtype).chunk(2))
        expand = F.pad(halves, (0, 0, 0, missing)).flatten(0, 1)
        return expand, F.pad(cast(self.project.weight, dtype), (0, missing))

    def forward(self, x: Tensor, weights: tuple[Tensor, Tensor], onto: Tensor) -> Tensor:
        """Map every pixel of ``(n, p, C)`` by itself and add it to `onto`."""
        expand, project = weights
        left, right = F.linear(x, expand).chunk(2, dim=-1)
        return add_product(onto, left * right, project)


class BlockWeights(NamedTuple):
    """What a block multiplies with, in the precision of the products."""

    attention_norm: tuple[Tensor, Tensor]
    attention: AttentionWeights
    masks: Tensor
    ffn_norm: tuple[Tensor, Tensor]
    ffn: tuple[Tensor, Tensor]


class Block(nn.Module):
    """Attention, then feed-forward, each on normalised input and added to it.

    Parameters
    ----------
    dim, num_heads, window_size, ffn_expansion, softmax, attention
        See `SwintormerSettings`.
    shifted
        Whether the windows are shifted cyclically by half their size.

    Attributes
    ----------
    recompute
        Whether training computes what is inside the block again instead of keeping it: less memory,
        more time, the same gradients.
    """

    masks: Tensor

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        ffn_expansion: float,
        *,
        shifted: bool,
        softmax: SoftmaxForm,
        attention: AttentionForm = "mixed",
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift_size = window_size // 2 if shifted else 0
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, num_heads, window_size, softmax, attention)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_expansion)
        self.register_buffer("masks", shift_masks(window_size), persistent=False)
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
        """Transform some windows ``(n, p, C)``; `kinds` as in `ShiftedWindows`, None for all 0."""
        mask = None if kinds is None else weights.masks[kinds]
        y = F.layer_norm(windows, windows.shape[-1:], *weights.attention_norm)
        windows = self.attention(y, weights.attention, mask, windows)
        y = F.layer_norm(windows, windows.shape[-1:], *weights.ffn_norm)
        return self.ffn(y, weights.ffn, windows)  # type: ignore[no-any-return]

    def _transform_parts(
        self, windows: Tensor, weights: BlockWeights, order: ShiftedWindows | None
    ) -> Tensor:
        """Do the same part by part, and without masks where no window needs one."""
        step = len(windows)
        if windows.device.type == "cpu":
            widest = 2 * self.ffn.project.in_features * windows.shape[1] * windows.itemsize
            step = max(1, _PART_BYTES // widest)
        transformed = torch.empty_like(windows)
        if order is None:
            for part, out in zip(
                torch.split(windows, step), torch.split(transformed, step), strict=True
            ):
                out.copy_(self._transform(part, weights, None))
            return transformed
        for index in torch.split(order.inside, step):
            if len(index):
                transformed[index] = self._transform(windows[index], weights, None)
        for index in torch.split(order.border, step):
            transformed[index] = self._transform(windows[index], weights, order.kinds[index])
        return transformed

    def _weights(self, dtype: torch.dtype) -> BlockWeights:
        """Prepare the weights for a precision; without gradients once until a weight changes."""
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

    def train(self, mode: bool = True) -> Block:
        """Forget the prepared weights, also where they were changed behind autograd's back."""
        self._prepared.clear()
        return super().train(mode)


def _stamp(weight: Tensor) -> tuple[object, ...]:
    """Return what differs after a weight was changed, replaced or moved."""
    version = None if weight.is_inference() else weight._version
    return weight.data_ptr(), version, weight.dtype, weight.device
