"""A restorer with a margin sees beyond its tiles, so its tiles equal the filtered whole image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import dask.array as da
import numpy as np
import pytest
from torch.nn import functional as F

from helpers.engine import BLOCK, TILE, noise
from napari_swintormer.models.stepwise import run_to_end
from napari_swintormer.models.tile_restorer import TileRestorer
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling.blending import Blending
from napari_swintormer.tiling.grid import Region

if TYPE_CHECKING:
    import torch

MARGIN = 9


class Blur(TileRestorer):
    """Mean of the pixels up to the margin away: a box, so every pixel of the margin counts."""

    channels = 1
    margin = MARGIN

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(tiles, 2 * MARGIN + 1, 1)


def whole(image: np.ndarray) -> np.ndarray:
    padded = np.pad(image, MARGIN, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * MARGIN + 1,) * 2)
    return windows.mean(axis=(2, 3))


@pytest.mark.parametrize("shape", [(200, 300), (7, 5), (150, 64)])
def test_tiles_and_whole_agree_in_every_engine(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    settings = DeblurSettings(device="cpu", precision="fp32", tile_size=TILE, overlap=8)
    out = np.empty_like(image)
    job = prepare(image, settings, Blur())
    assert job.plan.grid.margin == MARGIN
    grid = replace(job.plan.grid, block_size=BLOCK)
    job = replace(job, plan=replace(job.plan, blending=Blending(grid, "smooth")))
    for _ in job.run(out):
        pass
    np.testing.assert_allclose(out, whole(image), atol=1e-5)
    lazy, _ = replace(job, planes=job.planes_of(da.from_array(image, 50))).lazy()
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), out)
    height, width = shape
    region = Region(height // 2, height, width // 3, width)
    restored = run_to_end(job.preview({}, region))
    np.testing.assert_array_equal(restored.at_strength(1), out[region.slices])


def test_the_plan_tells_the_margin_and_counts_its_memory() -> None:
    image = noise((2000, 2000), "uint8")
    plans = []
    for margin in (0, 200):
        restorer = Blur()
        restorer.margin = margin
        plans.append(prepare(image, DeblurSettings(tile_size=512, overlap=64), restorer).plan)
    assert "tiles of 512 px and 200 px around" in plans[1].describe("CPU")
    assert plans[1].n_tiles == plans[0].n_tiles
    assert plans[1].host_bytes > plans[0].host_bytes
