"""How much each tile counts where tiles overlap.

The weight of a pixel is the product of a weight of its row and a weight of its column. So the sum
of weights over all tiles of the grid is the product of two sums along the axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import TilingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.settings.deblur_settings import Blend
    from napari_swintormer.tiling.grid import Region, TileGrid


@lru_cache(maxsize=64)
def weights_1d(
    length: int, overlap: int, blend: Blend, *, first: bool, last: bool
) -> NDArray[np.float32]:
    """Weights along one axis of a tile: float32 of shape ``(length,)``, read-only.

    ``"uniform"`` weights are ones. ``"smooth"`` weights rise as a squared sine over the overlap;
    they are always positive, and the weights of two neighbours sum to one. The `first` and the
    `last` tile do not fall off towards the border of the image. Lengths are in pixels.
    """
    weights = np.ones(length)
    if blend == "smooth" and overlap > 0:
        depth = np.arange(length) + 0.5
        for distance, falls in ((depth, not first), (depth[::-1], not last)):
            if falls:
                ramp = np.sin(np.pi / 2 * np.minimum(distance / overlap, 1)) ** 2
                weights = np.minimum(weights, ramp)
    result = weights.astype(np.float32)
    result.flags.writeable = False
    return result


@dataclass(frozen=True)
class Blending:
    """Weights of the tiles of a grid, and their sum at every pixel.

    `blend` is ``"uniform"`` (the mean of all tiles, as in the paper) or ``"smooth"``.
    """

    grid: TileGrid
    blend: Blend = "uniform"

    def __post_init__(self) -> None:
        if self.blend not in ("uniform", "smooth"):
            raise TilingError(
                f"blend is unknown (got blend={self.blend!r}). Use 'uniform' or 'smooth'."
            )

    def weights(self, tile: Region) -> NDArray[np.float32] | None:
        """Weights of one tile, float32 ``(h, w)``; None where every weight is one."""
        if self.blend == "uniform":
            return None
        y, x = self._along(0, tile.y0), self._along(1, tile.x0)
        return np.multiply.outer(y, x)

    def sum_inverse(self, region: Region) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One over the sum of weights, as two factors: float32 ``(h, 1)`` and ``(1, w)``."""
        y, x = self._sum_inverse
        return y[region.y0 : region.y1, np.newaxis], x[np.newaxis, region.x0 : region.x1]

    @cached_property
    def _sum_inverse(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return self._sum_inverse_along(0), self._sum_inverse_along(1)

    def _along(self, axis: int, start: int) -> NDArray[np.float32]:
        starts, length = self.grid.starts[axis], self.grid.tile_shape[axis]
        first, last = start == 0, start == starts[-1]
        return weights_1d(length, self.grid.overlap, self.blend, first=first, last=last)

    def _sum_inverse_along(self, axis: int) -> NDArray[np.float32]:
        total = np.zeros(self.grid.shape[axis])
        length = self.grid.tile_shape[axis]
        for start in self.grid.starts[axis]:
            total[start : start + length] += self._along(axis, start)
        return (1 / total).astype(np.float32)
