"""Restoring a smaller image: in it, wide blur is moderate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.stepwise import Stepwise, run_to_end
from napari_swintormer.models.tile_restorer import TileRestorer

if TYPE_CHECKING:
    from collections.abc import Sequence


class ScaledRestorer(TileRestorer):
    """Restores tiles at ``1 / scale`` of their size, and keeps their finer detail.

    The tile is averaged and restored; the residual is enlarged by cubic interpolation and added to
    the tile. The averaged squares lie on one grid over the plane, so neighbouring tiles agree.

    Parameters
    ----------
    restorer
        Restores the averaged tiles.
    scale
        Pixels of the image per pixel of the restorer, at least 2.
    """

    def __init__(self, restorer: TileRestorer, scale: int) -> None:
        super().__init__()
        self.restorer = restorer
        self.scale = scale
        self.channels, self.views = restorer.channels, restorer.views
        self.multiple = restorer.multiple * scale
        self.card = restorer.card
        self.sha256 = self._at_scale(restorer.sha256)
        self.movable, self.thread_safe = restorer.movable, restorer.thread_safe

    @property
    def memory_key(self) -> str:
        """Name that differs where the memory for a tile differs; empty if unknown."""
        return self._at_scale(self.restorer.memory_key)

    def _at_scale(self, name: str) -> str:
        return f"{name} at 1/{self.scale}" if name else ""

    def forward(self, tiles: Tensor, origins: Sequence[TileOrigin] | None = None) -> Tensor:
        """Restore a batch of tiles."""
        return run_to_end(self.in_steps(tiles, origins))

    def count_steps(self, height: int, width: int) -> int:
        """Count the steps that `in_steps` makes for tiles of this size."""
        return self.restorer.count_steps(
            *((n + self.scale + -n % self.scale) // self.scale for n in (height, width))
        )

    def in_steps(
        self, tiles: Tensor, origins: Sequence[TileOrigin] | None = None
    ) -> Stepwise[Tensor]:
        """Restore a batch in the steps of the inner restorer."""
        channels = tiles.shape[1] // self.views
        height, width = tiles.shape[2:]
        origins = origins or [TileOrigin(0, 0, 0)] * len(tiles)
        before = [(origin.y % self.scale, origin.x % self.scale) for origin in origins]
        # all tiles get one size: the result of a tile must not depend on the others
        more = [self.scale + -n % self.scale for n in (height, width)]
        enlarged = [
            F.pad(tile, (x, more[1] - x, y, more[0] - y), mode="replicate")
            for tile, (y, x) in zip(torch.split(tiles, 1), before, strict=True)
        ]
        small = F.avg_pool2d(torch.cat(enlarged), self.scale)
        begins = [p._replace(y=p.y // self.scale, x=p.x // self.scale) for p in origins]
        restored = yield from self.restorer.in_steps(small, begins)
        # the contrasts of samples follow the pixels
        residual, contrasts = restored[:, :channels] - small[:, :channels], restored[:, channels:]
        large = F.interpolate(
            torch.cat([residual, contrasts], dim=1), scale_factor=self.scale, mode="bicubic"
        )
        cut = [
            part[:, :, y : y + height, x : x + width]
            for part, (y, x) in zip(torch.split(large, 1), before, strict=True)
        ]
        residual, contrasts = torch.cat(cut).tensor_split([channels], dim=1)
        return torch.cat([tiles[:, :channels] + residual, contrasts], dim=1)
