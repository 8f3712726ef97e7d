"""Where the tiles, blocks and chunks of a plane lie.

Everything is in pixels of the plane and depends on the four numbers of `TileGrid` alone: not on how
the image is stored, nor on the batch size or the order of work.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

from napari_swintormer.errors import TilingError

if TYPE_CHECKING:
    from collections.abc import Iterator

BlockIndex = tuple[int, int]
"""(row, column) of a block, and of the chunk that lies at the same place."""

_PAPER_TILE_SIZE, _PAPER_OVERLAP = 512, 292
_SMALLEST_BLOCK = 1024
_BLOCK_MULTIPLE = 256


class Region(NamedTuple):
    """A rectangle of a plane: rows ``y0 <= y < y1``, columns ``x0 <= x < x1``."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns as an index into the plane."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def within(self, outer: Region) -> tuple[slice, slice]:
        """Rows and columns as an index into an array that holds `outer`."""
        (y0, _, x0, _), (height, width) = outer, self.shape
        y, x = self.y0 - y0, self.x0 - x0
        return slice(y, y + height), slice(x, x + width)

    def meets(self, other: Region) -> bool:
        """Say whether two rectangles have a pixel in common."""
        common = self.intersection(other)
        return common.y0 < common.y1 and common.x0 < common.x1

    def intersection(self, other: Region) -> Region:
        """Return the common part of two rectangles that meet."""
        (a, b, c, d), (e, f, g, h) = self, other
        return Region(max(a, e), min(b, f), max(c, g), min(d, h))

    def grown(self, margin: int) -> Region:
        """Return the rectangle with `margin` more pixels on each side."""
        return Region(self.y0 - margin, self.y1 + margin, self.x0 - margin, self.x1 + margin)

    def hull(self, other: Region) -> Region:
        """Return the smallest rectangle around both."""
        (a, b, c, d), (e, f, g, h) = self, other
        return Region(min(a, e), max(b, f), min(c, g), max(d, h))


def check_tiling(tile_size: int, overlap: int, minimum: int = 1) -> None:
    """Refuse a tile size and an overlap that do not fit together, or do not fit the model.

    All are in pixels; `minimum` is the smallest tile size of the model. The `TilingError` names
    values that work.
    """
    if tile_size < minimum:
        raise TilingError(
            f"tile_size is too small for this model (got tile_size={tile_size}). "
            f"Use tile_size >= {minimum}."
        )
    if overlap < 0:
        raise TilingError(
            f"overlap must not be negative (got overlap={overlap}). "
            f"Use overlap between 0 and {tile_size - 1}."
        )
    if overlap >= tile_size:
        paper = f"; the paper's best is {_PAPER_OVERLAP}" * (tile_size == _PAPER_TILE_SIZE)
        raise TilingError(
            f"overlap must be smaller than tile_size (got overlap={overlap}, "
            f"tile_size={tile_size}). Use overlap <= {tile_size - 1}{paper}."
        )


def default_block_size(tile_size: int) -> int:
    """Side of the blocks for tiles of `tile_size` pixels: equal tiles mean equal chunks.

    With 1024 pixels or more, margins that are read twice are small against the block, and chunks
    have 2 to 12 MB.
    """
    return max(_SMALLEST_BLOCK, -(-tile_size // _BLOCK_MULTIPLE) * _BLOCK_MULTIPLE)


def tile_starts(length: int, tile_size: int, overlap: int) -> tuple[int, ...]:
    """First pixels of the tiles along an axis of `length` pixels.

    The first is 0, the step ``tile_size - overlap``, and the last tile is pushed inside. An axis
    no longer than a tile has one tile of the axis's own length.
    """
    if length <= tile_size:
        return (0,)
    return (*range(0, length - tile_size, tile_size - overlap), length - tile_size)


@dataclass(frozen=True)
class TileGrid:
    """The tiles of one plane, grouped into blocks.

    A tile belongs to the block that holds its first pixel. It reaches at most into the next block
    to the right, below, and diagonally::

              |<- block_size ->|
              +----------------+----------------+
              | block (0, 0)   |                |
              |          +-----|------+ a tile of block (0, 0)
              |          |     |      |         |
              +----------|-----+------|---------+
              |          +-----|------+         |
    """

    shape: tuple[int, int]  # height and width of the plane, in pixels
    tile_size: int  # side of the tiles; a shorter axis has tiles of its own length
    overlap: int  # pixels that neighbouring tiles share (more, for the last two)
    block_size: int = 0  # side of the blocks, at least `tile_size`; 0 takes `default_block_size`
    margin: int = 0  # pixels around a tile that its restorer reads, too

    def __post_init__(self) -> None:
        check_tiling(self.tile_size, self.overlap)
        if min(self.shape) < 1:
            raise TilingError(
                f"a plane needs at least one pixel (got shape={self.shape}). "
                "Use an image without empty axes."
            )
        if self.block_size == 0:
            object.__setattr__(self, "block_size", default_block_size(self.tile_size))
        if self.block_size < self.tile_size:
            raise TilingError(
                f"block_size must not be smaller than tile_size (got block_size={self.block_size}, "
                f"tile_size={self.tile_size}). Use block_size >= {self.tile_size}."
            )
        for length, starts, tile in zip(self.shape, self.starts, self.tile_shape, strict=True):
            _assert_covers(length, starts, tile)

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First rows and first columns of the tiles; every pair is a tile."""
        y, x = (tile_starts(length, self.tile_size, self.overlap) for length in self.shape)
        return y, x

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width that all tiles have."""
        return min(self.tile_size, self.shape[0]), min(self.tile_size, self.shape[1])

    @property
    def seen_shape(self) -> tuple[int, int]:
        """Height and width of a tile with its margin."""
        height, width = self.tile_shape
        return height + 2 * self.margin, width + 2 * self.margin

    @property
    def n_tiles(self) -> int:
        """Number of tiles."""
        return len(self.starts[0]) * len(self.starts[1])

    @property
    def n_blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return -(-self.shape[0] // self.block_size), -(-self.shape[1] // self.block_size)

    def blocks(self) -> Iterator[BlockIndex]:
        """Yield all blocks in raster order."""
        rows, columns = self.n_blocks
        return product(range(rows), range(columns))

    def tiles(self) -> Iterator[Region]:
        """Yield all tiles in raster order."""
        return self._tiles(*self.starts)

    def tiles_of(self, block: BlockIndex) -> list[Region]:
        """Tiles that begin in `block`, in raster order; there may be none."""
        return list(self._tiles(*self._starts_in(block)))

    def count_tiles(self, block: BlockIndex) -> int:
        """Count the tiles that begin in `block`."""
        y, x = self._starts_in(block)
        return len(y) * len(x)

    def chunk(self, block: BlockIndex) -> Region:
        """Return the part of the plane that lies in `block`: one chunk of the result."""
        (row, column), size, (height, width) = block, self.block_size, self.shape
        y, x = row * size, column * size
        return Region(y, min(y + size, height), x, min(x + size, width))

    def reach(self, block: BlockIndex) -> Region:
        """Return the rectangle around the tiles of `block`, empty if it has none."""
        y, x = self._starts_in(block)
        if not y or not x:
            corner = self.chunk(block)
            return Region(corner.y0, corner.y0, corner.x0, corner.x0)
        height, width = self.tile_shape
        return Region(y[0], y[-1] + height, x[0], x[-1] + width)

    def seen(self, region: Region) -> Region:
        """Return a region with the margin around it, as far as it lies in the plane."""
        height, width = self.shape
        return region.grown(self.margin).intersection(Region(0, height, 0, width))

    def source(self, block: BlockIndex) -> Region:
        """Return the part of the plane to read for `block`: its chunk, its tiles, their margin."""
        reach = self.reach(block)
        return self.chunk(block).hull(reach if 0 in reach.shape else self.seen(reach))

    def reached(self, block: BlockIndex) -> list[BlockIndex]:
        """Chunks that the tiles of `block` touch, at most four, in raster order."""
        reach = self.reach(block)
        return [] if 0 in reach.shape else self._meeting(reach)

    def sources(self, block: BlockIndex) -> list[BlockIndex]:
        """Chunks that ``source(block)`` touches, in raster order."""
        return self._meeting(self.source(block))

    def contributors(self, chunk: BlockIndex) -> list[BlockIndex]:
        """Blocks whose tiles touch `chunk`, at most four, in raster order."""
        row, column = chunk
        neighbours = product((row - 1, row), (column - 1, column))
        return [block for block in neighbours if min(block) >= 0 and chunk in self.reached(block)]

    def _meeting(self, region: Region) -> list[BlockIndex]:
        size = self.block_size
        rows = range(region.y0 // size, (region.y1 - 1) // size + 1)
        columns = range(region.x0 // size, (region.x1 - 1) // size + 1)
        return list(product(rows, columns))

    def _starts_in(self, block: BlockIndex) -> tuple[tuple[int, ...], tuple[int, ...]]:
        def inside(starts: tuple[int, ...], index: int) -> tuple[int, ...]:
            first, end = index * self.block_size, (index + 1) * self.block_size
            return starts[bisect_left(starts, first) : bisect_left(starts, end)]

        return inside(self.starts[0], block[0]), inside(self.starts[1], block[1])

    def _tiles(self, y: tuple[int, ...], x: tuple[int, ...]) -> Iterator[Region]:
        height, width = self.tile_shape
        return (Region(y0, y0 + height, x0, x0 + width) for y0, x0 in product(y, x))


def _assert_covers(length: int, starts: tuple[int, ...], tile: int) -> None:
    """Assert that tiles of `tile` pixels cover the axis, in order, without leaving it."""
    assert starts[0] == 0
    assert starts[-1] + tile == length
    assert all(0 < b - a <= tile for a, b in pairwise(starts))
