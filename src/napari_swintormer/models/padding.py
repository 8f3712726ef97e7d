"""Padding of tiles to sizes that networks take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor


def pad_to_multiple(tiles: Tensor, multiple: int) -> Tensor:
    """Enlarge ``(B, C, H, W)`` to the next multiples, as `enlarge` does."""
    height, width = (-(-side // multiple) * multiple for side in tiles.shape[2:])
    return enlarge(tiles, height, width)


def enlarge(tiles: Tensor, height: int, width: int) -> Tensor:
    """Enlarge ``(B, C, H, W)`` to the right and below.

    The border is mirrored. If the tile is too small for that, its last row or column is repeated.
    """
    for axis, side in ((2, height), (3, width)):
        missing = side - tiles.shape[axis]
        mirrored = min(missing, tiles.shape[axis] - 1)
        for mode, size in (("reflect", mirrored), ("replicate", missing - mirrored)):
            if size:
                padding = (0, 0, 0, size) if axis == 2 else (0, size, 0, 0)
                tiles = F.pad(tiles, padding, mode=mode)
    return tiles
