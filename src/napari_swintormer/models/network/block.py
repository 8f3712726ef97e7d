"""The transformer block: attention and feed-forward within windows of an NHWC image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from napari_swintormer.models.network.attention import (
    AttentionWeights,
    Masks,
    WindowAttention,
    cast,
)
from napari_swintormer.models.network.products import add_product, product
from napari_swintormer.models.network.windows import (
    BorderWindows,
    border_windows,
    cut_strips,
    merge_windows,
    partition_windows,
    read_strip,
    shift_masks,
    write_strip,
)

if TYPE_CHECKING:
    from napari_swintormer.models.network.network_settings import SwintormerSettings

# Matrix products are faster with widths that fill vector registers: pad with zero weights.
_WIDTH_MULTIPLE = 8
# Largest tensor, in bytes, of one strip of windows on a CPU: it fits in the cache.
_STRIP_BYTES = 2**22


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
        left, right = product(x, expand).chunk(2, dim=-1)
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
        device = x.device
        if torch.is_autocast_enabled(device.type):
            x = x.to(torch.get_autocast_dtype(device.type))
        with torch.autocast(device.type, enabled=False):
            weights = self._weights(x.dtype)
            in_strips = device.type == "cpu" and not torch.is_grad_enabled()
            return (self._in_strips if in_strips else self._at_once)(x, weights)

    def _at_once(self, x: Tensor, weights: BlockWeights) -> Tensor:
        """Transform all windows of a batch together."""
        size, shift = self.window_size, self.shift_size
        batch, height, width, _ = x.shape
        rows, border = range(height // size), None
        if shift:
            x = x.roll((-shift, -shift), (1, 2))
            border = border_windows(batch, rows, width // size, rows[-1], x.device)
        windows = self._transform(partition_windows(x, size), weights, border)
        x = merge_windows(windows, height, width)
        return x.roll((shift, shift), (1, 2)) if shift else x

    def _in_strips(self, x: Tensor, weights: BlockWeights) -> Tensor:
        """Transform windows strip by strip, so that all that is made of a strip stays in cache."""
        size, shift, x = self.window_size, self.shift_size, x.contiguous()
        batch, height, width, _ = x.shape
        n_rows, n_columns = height // size, width // size
        widest = 2 * self.ffn.project.in_features * size * width * x.itemsize
        transformed, border = torch.empty_like(x), None
        for strip in cut_strips(batch, n_rows, max(1, _STRIP_BYTES // widest)):
            if shift:
                border = border_windows(1, strip.rows, n_columns, n_rows - 1, x.device)
            windows = read_strip(x, strip, size, shift)
            windows = self._transform(windows, weights, border)
            write_strip(transformed, strip, windows, shift)
        return transformed

    def _transform(
        self, windows: Tensor, weights: BlockWeights, border: BorderWindows | None
    ) -> Tensor:
        """Transform windows ``(n, p, C)``; those at the border get masks."""
        masks = None
        if border is not None:
            masks = Masks(border.numbers, weights.masks[border.kinds][:, None])
        y = F.layer_norm(windows, windows.shape[-1:], *weights.attention_norm)
        windows = self.attention(y, weights.attention, masks, windows)
        y = F.layer_norm(windows, windows.shape[-1:], *weights.ffn_norm)
        return self.ffn(y, weights.ffn, windows)  # type: ignore[no-any-return]

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
