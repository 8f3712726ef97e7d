"""Restoring at a part of the size: wide blur is moderate blur in a smaller image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.stepwise import Stepwise, run_to_end

if TYPE_CHECKING:
    from collections.abc import Sequence


class ScaledRestorer(nn.Module):
    """Restores what is left of a tile at a part of its size, and keeps its finer detail.

    The tile is averaged to ``1 / scale`` of its size and restored there; what changed is enlarged
    by cubic interpolation and added to the tile. The squares that are averaged lie on one grid over
    the whole plane, so neighbouring tiles agree on them.

    Parameters
    ----------
    restorer
        Works on the averaged tiles: a `napari_swintormer.models.restorer.Restorer`, or whatever
        the engine takes for one.
    scale
        Pixels of the image per pixel that the restorer sees, at least 2.
    """

    needs_origins = True

    def __init__(self, restorer: Any, scale: int) -> None:
        super().__init__()
        self.restorer = restorer
        self.scale = scale
        self.views: int = getattr(restorer, "views", 1)
        sha256 = getattr(restorer, "sha256", "")
        self.sha256 = f"{sha256} at 1/{scale}" if sha256 else ""

    def forward(self, tiles: Tensor, origins: Sequence[TileOrigin] | None = None) -> Tensor:
        """Restore a batch of tiles; see `napari_swintormer.models.restorer.Restorer`."""
        return run_to_end(self.in_steps(tiles, origins))

    def count_steps(self, height: int, width: int) -> int:
        """Count what `in_steps` does for tiles of this size."""
        if not getattr(self.restorer, "needs_origins", False):
            return 1
        small = [(n + self.scale + -n % self.scale) // self.scale for n in (height, width)]
        steps: int = self.restorer.count_steps(*small)
        return steps

    def in_steps(
        self, tiles: Tensor, origins: Sequence[TileOrigin] | None = None
    ) -> Stepwise[Tensor]:
        """Do the same as `forward`, in the steps of the restorer."""
        channels = tiles.shape[1] // self.views
        height, width = tiles.shape[2:]
        origins = origins or [TileOrigin(0, 0, 0)] * len(tiles)
        before = [(origin.y % self.scale, origin.x % self.scale) for origin in origins]
        # all to one size: a tile's result must not depend on those beside it
        more = [self.scale + -n % self.scale for n in (height, width)]
        enlarged = [
            F.pad(tile, (x, more[1] - x, y, more[0] - y), mode="replicate")
            for tile, (y, x) in zip(torch.split(tiles, 1), before, strict=True)
        ]
        small = F.avg_pool2d(torch.cat(enlarged), self.scale)
        restored = yield from self._restored(small, origins)
        # what samples differ by, behind, is none of the pixels
        change = torch.cat(
            [restored[:, :channels] - small[:, :channels], restored[:, channels:]], dim=1
        )
        change = F.interpolate(change, scale_factor=self.scale, mode="bicubic")
        own = [
            part[:, :, y : y + height, x : x + width]
            for part, (y, x) in zip(torch.split(change, 1), before, strict=True)
        ]
        change = torch.cat(own)
        return torch.cat([tiles[:, :channels] + change[:, :channels], change[:, channels:]], dim=1)

    def _restored(self, small: Tensor, origins: Sequence[TileOrigin]) -> Stepwise[Tensor]:
        if getattr(self.restorer, "needs_origins", False):
            begins = [p._replace(y=p.y // self.scale, x=p.x // self.scale) for p in origins]
            restored: Tensor = yield from self.restorer.in_steps(small, begins)
        else:
            restored = self.restorer(small)
            yield
        return restored
