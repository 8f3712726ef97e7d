"""Coarser levels of an image, for viewers."""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.formats.ome_zarr import axis_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

ChunkIndex = tuple[int, ...]
"""Number of a chunk along every axis of its array."""

# The coarsest level is no longer than this along Y and X, in pixels.
_COARSEST = 1024


class Pyramid:
    """The levels of an image; a coarser chunk is made as soon as all that it covers exists.

    Every pixel is the mean of the 2 x 2 finer pixels that it covers, or of fewer at the lower and
    right border. Two chunks are in memory at a time. Chunks may come in any order; none is made
    twice. `levels` are writable zarr arrays, finest first; `note` is told the level and number of
    every coarser chunk that is made.
    """

    def __init__(
        self, levels: Sequence[Any], axes: str, note: Callable[[int, ChunkIndex], None]
    ) -> None:
        self.levels = levels
        self._axes, self._note = axes, note
        self._existing: list[set[ChunkIndex]] = [set() for _ in levels]

    def add(self, level: int, chunk: ChunkIndex) -> None:
        """Take note of an existing chunk."""
        self._existing[level].add(chunk)

    def grow(self, chunk: ChunkIndex) -> None:
        """Make the coarser chunks that a new chunk of the finest level completes."""
        self.add(0, chunk)
        for level, fine in enumerate(self.levels[:-1]):
            region = _region(fine.shape, fine.chunks, chunk)
            coarse = self.levels[level + 1]
            chunk = tuple(
                half.start // side
                for half, side in zip(_halved(region, self._axes), coarse.chunks, strict=True)
            )
            existing = self._existing[level]
            if chunk in self._existing[level + 1] or any(
                part not in existing for part in self._covered(level + 1, chunk)
            ):
                return
            self.make(level + 1, chunk)

    def missing(self) -> list[tuple[int, ChunkIndex]]:
        """List the missing coarser chunks, each after the chunks that it is made from."""
        return [
            (number, chunk)
            for number, level in enumerate(self.levels)
            for chunk in product(*map(range, chunk_counts(level)))
            if number > 0 and chunk not in self._existing[number]
        ]

    def covers(self) -> list[list[int]]:
        """How many pixels of the finest level one pixel of each level covers, per axis."""
        return [[2**n if a in "YX" else 1 for a in self._axes] for n in range(len(self.levels))]

    def make(self, level: int, chunk: ChunkIndex) -> None:
        """Make a chunk from the chunks that it covers, one at a time to save memory."""
        coarse, fine = self.levels[level], self.levels[level - 1]
        region = _region(coarse.shape, coarse.chunks, chunk)
        pixels = np.empty([part.stop - part.start for part in region], coarse.dtype)
        for covered in self._covered(level, chunk):
            finer = _region(fine.shape, fine.chunks, covered)
            inside = tuple(
                slice(h.start - r.start, h.stop - r.start)
                for h, r in zip(_halved(finer, self._axes), region, strict=True)
            )
            pixels[inside] = halve(np.asarray(fine[finer]), self._axes)
        coarse[region] = pixels
        self.add(level, chunk)
        self._note(level, chunk)

    def _covered(self, level: int, chunk: ChunkIndex) -> Iterator[ChunkIndex]:
        """Give the chunks of the next finer level that a chunk covers."""
        coarse, fine = self.levels[level], self.levels[level - 1]
        region = _region(coarse.shape, coarse.chunks, chunk)
        finer = _doubled(region, self._axes, fine.shape)
        return product(
            *(range(r.start // c, -(-r.stop // c)) for r, c in zip(finer, fine.chunks, strict=True))
        )


def create_levels(
    group: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: str,
    side: int,
    *,
    coarser: bool = True,
) -> list[Any]:
    """Create the empty levels 0, 1, 2, … of an image in a zarr group, or level 0 alone.

    Chunks have `side` along Y and X, all samples of a pixel, and the size 1 along T, C and Z.
    """
    chunks = tuple(
        {"Y": side, "X": side, "S": n}.get(a, 1) for a, n in zip(axes, shape, strict=True)
    )
    shapes = [shape, *(coarser_shapes(shape, axes) if coarser else [])]
    return [
        create_level(group, level, each, dtype.newbyteorder("="), chunks, axes)
        for level, each in enumerate(shapes)
    ]


def renew_levels(levels: Sequence[Any], axes: str, region: tuple[slice, ...]) -> None:
    """Make the coarser levels anew where they cover a region of the finest.

    `levels` are writable arrays, finest first, each half the size of the one before along Y and X.
    `region` has a slice with start and stop for every dimension of the finest.
    """
    for fine, coarse in pairwise(levels):
        region = _halved(region, axes)
        coarse[region] = halve(np.asarray(fine[_doubled(region, axes, fine.shape)]), axes)


def coarser_shapes(shape: tuple[int, ...], axes: str) -> list[tuple[int, ...]]:
    """Give the shapes of the levels 1, 2, …, the last at most 1024 long along Y and X."""
    shapes = []
    while max(n for n, a in zip(shape, axes, strict=True) if a in "YX") > _COARSEST:
        shape = tuple(-(-n // 2) if a in "YX" else n for n, a in zip(shape, axes, strict=True))
        shapes.append(shape)
    return shapes


def chunk_counts(array: Any) -> tuple[int, ...]:
    """Count the chunks of an array along every axis."""
    return tuple(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))


def create_level(
    group: Any,
    name: int | str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...],
    axes: str,
    shards: tuple[int, ...] | None = None,
) -> Any:
    """Create the empty zarr array of one level; `shards` are in pixels.

    Equal pixels become equal bytes.
    """
    from zarr.codecs import ZstdCodec

    return group.create_array(
        str(name),
        shape=shape,
        dtype=np.dtype(dtype.str),  # one of the two equal types of 64 bits is unknown to zarr
        chunks=tuple(min(c, n) for c, n in zip(chunks, shape, strict=True)),
        shards=shards,
        compressors=ZstdCodec(level=1),
        dimension_names=axis_names(axes),
        # else a chunk of -0.0 counts as empty, and comes back as 0.0
        config={"write_empty_chunks": True},
        overwrite=True,
    )


def halve(pixels: NDArray[Any], axes: str) -> NDArray[Any]:
    """Take the mean of 2 x 2 pixels along Y and X; integers are rounded half to even."""
    mean: NDArray[Any] = pixels.astype(np.float32 if pixels.dtype.itemsize <= 2 else np.float64)
    for axis in (axes.index("Y"), axes.index("X")):
        n = mean.shape[axis]
        first = mean.take(range(0, n, 2), axis)
        # An odd border pixel is averaged with itself.
        second = mean.take([min(i, n - 1) for i in range(1, n + 1, 2)], axis)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = (first + second) / 2
    return (mean if pixels.dtype.kind == "f" else np.rint(mean)).astype(pixels.dtype)


def _region(
    shape: tuple[int, ...], chunks: tuple[int, ...], chunk: ChunkIndex
) -> tuple[slice, ...]:
    """Give the pixels of a chunk."""
    return tuple(
        slice(i * c, min((i + 1) * c, n)) for i, c, n in zip(chunk, chunks, shape, strict=True)
    )


def _halved(region: tuple[slice, ...], axes: str) -> tuple[slice, ...]:
    """Region of the next coarser level that covers a region."""
    return tuple(
        slice(r.start // 2, -(-r.stop // 2)) if a in "YX" else r
        for r, a in zip(region, axes, strict=True)
    )


def _doubled(region: tuple[slice, ...], axes: str, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Region of the next finer level, of this shape, that a region covers."""
    return tuple(
        slice(2 * r.start, min(2 * r.stop, n)) if a in "YX" else r
        for r, a, n in zip(region, axes, shape, strict=True)
    )
