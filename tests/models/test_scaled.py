"""Restoring smaller images: exact without changes, and consistent between tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.models.scaled import ScaledRestorer
from napari_swintormer.models.tile_restorer import TileRestorer


def plane(height, width):
    pixels = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
    return torch.from_numpy(pixels)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (16, 31)])
def test_the_identity_changes_nothing(scale, shape):
    tiles = plane(*shape)
    assert torch.equal(ScaledRestorer(IdentityRestorer(), scale)(tiles), tiles)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_constant_residual_keeps_its_size(scale):
    tiles = plane(13, 18)

    class Brighter(TileRestorer):
        def forward(self, small):
            return small + 0.1

    brighter = ScaledRestorer(Brighter(), scale)(tiles)
    torch.testing.assert_close(brighter, tiles + 0.1)


@pytest.mark.parametrize("scale", [2, 4])
def test_tiles_agree_inside_wherever_they_begin(scale):
    """Tiles share one grid of averages, so they agree away from their borders."""
    seen = []

    class Square(TileRestorer):
        def in_steps(self, small, origins):
            seen.extend(origin[:3] for origin in origins)
            yield
            return small**2

    whole = plane(64, 64)
    restorer = ScaledRestorer(Square(), scale)
    expected = restorer(whole)
    begins = [(0, 0), (5, 18), (11, 3), (8, 14)]
    tiles = torch.cat([whole[..., y : y + 40, x : x + 40] for y, x in begins])
    together = restorer(tiles, [TileOrigin(2, y, x) for y, x in begins])
    edge = 3 * scale
    for tile, (y, x) in zip(together, begins, strict=True):
        inner = slice(y + edge, y + 40 - edge), slice(x + edge, x + 40 - edge)
        torch.testing.assert_close(
            tile[:, edge:-edge, edge:-edge], expected[0, :, *inner], atol=1e-6, rtol=0
        )
    assert seen[-3] == (2, 5 // scale, 18 // scale)
    alone = restorer(tiles[2:3], [TileOrigin(2, *begins[2])])
    torch.testing.assert_close(alone[0], together[2], atol=0, rtol=0)
