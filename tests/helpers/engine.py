"""A small restorer, random images and plans with small blocks, for tests of the engines."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from napari_swintormer.models.tile_restorer import TileRestorer
from napari_swintormer.tiling.blending import Blending
from napari_swintormer.tiling.grid import TileGrid
from napari_swintormer.tiling.plan import Plan, make_plan

if TYPE_CHECKING:
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.settings.deblur_settings import Blend

CPU = torch.device("cpu")
TILE, BLOCK = 64, 128


class Sharpen(TileRestorer):
    """A restorer whose answer depends on the pixels around and on the border of the tile."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels, channels, 5, padding=2, padding_mode="reflect")
        generator = torch.Generator().manual_seed(0)
        for parameter in self.conv.parameters():
            nn.init.normal_(parameter, std=0.3, generator=generator)
        self.calls = 0

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        with torch.inference_mode():
            return tiles + 0.1 * torch.tanh(self.conv(tiles))


class MemoryJournal:
    """Remember the finished chunks in memory, as a result store does on disk."""

    batch_size: int | None = None

    def __init__(self) -> None:
        self.chunks: list[tuple[int, int, int]] = []

    def finished(self) -> list[tuple[int, int, int]]:
        return self.chunks

    def mark(self, plane: int, row: int, column: int) -> None:
        self.chunks.append((plane, row, column))


def noise(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Random pixels over the whole range of integers, over about -2 to 2 for floats."""
    rng = np.random.default_rng(seed)
    if dtype.startswith("float"):
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def plan_for(
    planes: Planes, overlap: int = 20, blend: Blend = "uniform", batch_size: int = 3
) -> Plan:
    plan = make_plan(
        planes.shape,
        dtype=planes.dtype,
        tile_size=TILE,
        overlap=overlap,
        n_planes=len(planes),
        channels=planes.channels,
        batch_size=batch_size,
    )
    grid = TileGrid(planes.shape, TILE, overlap, BLOCK)  # small blocks for small images
    return replace(plan, blending=Blending(grid, blend))
