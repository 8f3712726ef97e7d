"""The transformer block: attention and feed-forward within windows of an NHWC image."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_swintormer.models.attention import (
    AttentionWeights,
    WindowAttention,
    merge_windows,
    partition_windows,
    shift_masks,
    window_kinds,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_swintormer.models.settings import SoftmaxForm

# Matrix products like widths that fill whole vector registers; zero weights fill up the rest.
_WIDTH_MULTIPLE = 8
# Values of the widest tensor that one part of the windows makes on a CPU: it stays in the cache,
# and the memory of one part serves the next.
_PART_VALUES = 2**19


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
        halves = torch.stack(self.expand.weight.to(dtype).chunk(2))
        expand = F.pad(halves, (0, 0, 0, missing)).flatten(0, 1)
        return expand, F.pad(self.project.weight.to(dtype), (0, missing))

    def forward(self, x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        """Map every pixel ``(..., C)`` by itself."""
        expand, project = weights
        left, right = F.linear(x, expand).chunk(2, dim=-1)
        return F.linear(left * right, project)


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
    dim, num_heads, window_size, ffn_expansion, softmax
        See `SwintormerSettings`.
    shifted
        Whether the windows are shifted cyclically by half their size.
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
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.shift_size = window_size // 2 if shifted else 0
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = WindowAttention(dim, num_heads, window_size, softmax)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_expansion)
        self.register_buffer("masks", shift_masks(window_size), persistent=False)
        self._prepared: dict[torch.dtype, tuple[object, BlockWeights]] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, H, W, C)``; H and W are multiples of the window size."""
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        batch, height, width, _ = x.shape
        if self.shift_size:
            x = x.roll((-self.shift_size, -self.shift_size), (1, 2))
        windows = partition_windows(x, self.window_size)
        kinds = window_kinds(batch, height // self.window_size, width // self.window_size, x.device)
        with torch.autocast(kind, enabled=False):
            weights = self._weights(x.dtype)
            if torch.is_grad_enabled() or kind != "cpu":
                windows = self._transform(windows, weights, kinds)
            else:
                out = torch.empty_like(windows)
                for part in self._parts(windows):
                    out[part] = self._transform(windows[part], weights, kinds[part])
                windows = out
        x = merge_windows(windows, height, width)
        if self.shift_size:
            x = x.roll((self.shift_size, self.shift_size), (1, 2))
        return x

    def _transform(self, windows: Tensor, weights: BlockWeights, kinds: Tensor) -> Tensor:
        """Transform some windows ``(n, p, C)`` of the given `window_kinds`."""
        mask = weights.masks[kinds] if self.shift_size else None
        y = F.layer_norm(windows, windows.shape[-1:], *weights.attention_norm)
        windows = windows + self.attention(y, weights.attention, mask)
        y = F.layer_norm(windows, windows.shape[-1:], *weights.ffn_norm)
        return windows + self.ffn(y, weights.ffn)  # type: ignore[no-any-return]

    def _parts(self, windows: Tensor) -> Iterator[slice]:
        widest = 2 * self.ffn.project.in_features * windows.shape[1]
        step = max(1, _PART_VALUES // widest)
        for start in range(0, len(windows), step):
            yield slice(start, start + step)

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
            (attention_norm.weight.to(dtype), attention_norm.bias.to(dtype)),
            self.attention.prepare(dtype),
            self.masks.to(dtype),
            (ffn_norm.weight.to(dtype), ffn_norm.bias.to(dtype)),
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
