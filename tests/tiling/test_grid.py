"""The tile grid: cover, alignment, blocks, and the messages for numbers that do not fit."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_swintormer.errors import TilingError
from napari_swintormer.tiling.grid import (
    BlockIndex,
    TileGrid,
    check_tiling,
    default_block_size,
    tile_starts,
)


@st.composite
def grids(draw: st.DrawFn) -> TileGrid:
    shape = (draw(st.integers(1, 80)), draw(st.integers(1, 80)))
    tile_size = draw(st.integers(5, 40))
    overlap = draw(st.integers(0, tile_size - 1))
    return TileGrid(shape, tile_size, overlap, tile_size + draw(st.integers(0, 20)))


@pytest.mark.parametrize(
    ("length", "starts"),
    [
        (1, (0,)),
        (512, (0,)),
        (513, (0, 1)),
        (732, (0, 220)),
        (1000, (0, 220, 440, 488)),
        (1172, (0, 220, 440, 660)),
    ],
)
def test_windows_of_the_paper(length: int, starts: tuple[int, ...]) -> None:
    assert tile_starts(length, 512, 292) == starts


@settings(deadline=None)
@given(grids())
def test_tiles_cover_every_pixel_and_stay_inside(grid: TileGrid) -> None:
    covered = np.zeros(grid.shape, int)
    for tile in grid.tiles():
        assert tile.shape == grid.tile_shape
        covered[tile.slices] += 1  # a slice that leaves the plane would be cut short:
    assert covered.sum() == grid.n_tiles * np.prod(grid.tile_shape)
    assert covered.min() >= 1


@settings(deadline=None)
@given(grids())
def test_blocks_share_out_tiles_and_pixels(grid: TileGrid) -> None:
    chunks = np.zeros(grid.shape, int)
    for block in grid.blocks():
        chunks[grid.chunk(block).slices] += 1
    assert (chunks == 1).all()
    tiles = [tile for block in grid.blocks() for tile in grid.tiles_of(block)]
    assert sorted(tiles) == list(grid.tiles())
    assert sum(map(grid.count_tiles, grid.blocks())) == grid.n_tiles


@settings(deadline=None)
@given(grids())
def test_blocks_know_what_they_reach(grid: TileGrid) -> None:
    touched: dict[BlockIndex, set[BlockIndex]] = {block: set() for block in grid.blocks()}
    for block in grid.blocks():
        for tile in grid.tiles_of(block):  # no longer than a block: its corners touch all it can
            for y, x in product((tile.y0, tile.y1 - 1), (tile.x0, tile.x1 - 1)):
                touched[block].add((y // grid.block_size, x // grid.block_size))
    reached_by = {chunk: sorted(b for b in touched if chunk in touched[b]) for chunk in touched}
    for block in grid.blocks():
        assert grid.reached(block) == sorted(touched[block])
        assert grid.contributors(block) == reached_by[block]
        # in raster order a chunk is complete as soon as its own block is restored
        assert max(grid.contributors(block)) <= block
        source = grid.source(block)
        for tile in grid.tiles_of(block):
            assert source.intersection(tile) == tile
        assert source.intersection(grid.chunk(block)) == grid.chunk(block)


def test_block_size_depends_on_the_tile_size_alone() -> None:
    assert default_block_size(64) == default_block_size(512) == 1024
    assert default_block_size(1025) == 1280
    assert TileGrid((10, 10), 512, 64).block_size == TileGrid((10**5, 10**5), 512, 64).block_size


@pytest.mark.parametrize(
    ("tile_size", "overlap", "minimum", "message"),
    [
        (
            512,
            600,
            1,
            "overlap must be smaller than tile_size (got overlap=600, tile_size=512). "
            "Use overlap <= 511; the paper's best is 292.",
        ),
        (
            64,
            64,
            1,
            "overlap must be smaller than tile_size (got overlap=64, tile_size=64). "
            "Use overlap <= 63.",
        ),
        (
            64,
            -1,
            1,
            "overlap must not be negative (got overlap=-1). Use overlap between 0 and 63.",
        ),
        (
            8,
            0,
            16,
            "tile_size is too small for this model (got tile_size=8). Use tile_size >= 16.",
        ),
    ],
)
def test_numbers_that_do_not_fit(tile_size: int, overlap: int, minimum: int, message: str) -> None:
    with pytest.raises(TilingError) as error:
        check_tiling(tile_size, overlap, minimum)
    assert str(error.value) == message


def test_grid_refuses_small_blocks_and_empty_planes() -> None:
    with pytest.raises(TilingError, match=r"block_size=63, tile_size=64\). Use block_size >= 64"):
        TileGrid((100, 100), 64, 0, 63)
    with pytest.raises(TilingError, match="at least one pixel"):
        TileGrid((0, 100), 64, 0)
