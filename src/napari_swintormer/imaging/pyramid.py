"""Coarser levels of an image, for viewers."""

from __future__ import annotations

from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.events import Clock
from napari_swintormer.imaging.ome_zarr import axis_names

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.events import Progress

# The coarsest level is no longer than this along Y and X.
_COARSEST = 1024


def build_pyramid(group: Any, axes: str) -> Generator[Progress, None, list[list[int]]]:
    """Add the levels 1, 2, … to the group of an image, each half the size of the one before.

    Every pixel is the mean of the 2 x 2 pixels that it covers, or of those that exist at the lower
    and right border. One chunk is in memory at a time; a level that exists is made anew.

    Parameters
    ----------
    group
        Writable zarr group with level 0 in the array ``"0"``.
    axes
        Letters of its axes, in the order of the array.

    Yields
    ------
    Progress
        After every chunk of every level.

    Returns
    -------
    list[list[int]]
        How many pixels of level 0 one pixel of each level covers, per axis.
    """
    fine = group["0"]
    halved = [a in "YX" for a in axes]
    shapes = coarser_shapes(fine.shape, halved)
    clock = Clock(sum(count_chunks(shape, fine.chunks) for shape in shapes), "chunks")
    for level, shape in enumerate(shapes, start=1):
        coarse = create_level(group, level, shape, fine.dtype, fine.chunks, axes)
        for region in _chunk_regions(shape, coarse.chunks):
            finer = tuple(
                slice(2 * r.start, 2 * r.stop) if h else r
                for r, h in zip(region, halved, strict=True)
            )
            coarse[region] = halve(np.asarray(fine[finer]), axes)
            yield clock.after(1)
        fine = coarse
    return [[2**level if h else 1 for h in halved] for level in range(len(shapes) + 1)]


def create_coarser_levels(group: Any, axes: str) -> list[Any]:
    """Add the levels 1, 2, … to the group of an image, empty; `renew_levels` fills them.

    Parameters
    ----------
    group, axes
        As in `build_pyramid`.

    Returns
    -------
    list
        All levels, the array ``"0"`` first.
    """
    fine = group["0"]
    shapes = coarser_shapes(fine.shape, [a in "YX" for a in axes])
    coarser = (
        create_level(group, level, shape, fine.dtype, fine.chunks, axes)
        for level, shape in enumerate(shapes, start=1)
    )
    return [fine, *coarser]


def renew_levels(levels: Sequence[Any], axes: str, region: tuple[slice, ...]) -> None:
    """Make the coarser levels anew where they cover a region of the finest.

    Parameters
    ----------
    levels
        Writable arrays, finest first, each half the size of the one before along Y and X.
    axes
        Letters of their axes, in the order of the arrays.
    region
        A slice with start and stop for every dimension of the finest.
    """
    for fine, coarse in pairwise(levels):
        region = tuple(
            slice(r.start // 2, -(-r.stop // 2)) if a in "YX" else r
            for r, a in zip(region, axes, strict=True)
        )
        finer = tuple(
            slice(2 * r.start, min(2 * r.stop, n)) if a in "YX" else r
            for r, a, n in zip(region, axes, fine.shape, strict=True)
        )
        coarse[region] = halve(np.asarray(fine[finer]), axes)


def coarser_shapes(shape: tuple[int, ...], halved: list[bool]) -> list[tuple[int, ...]]:
    """Give the shapes of the levels 1, 2, …, the last no longer than 1024 where it is halved."""
    shapes = []
    while max(n for n, h in zip(shape, halved, strict=True) if h) > _COARSEST:
        shape = tuple(-(-n // 2) if h else n for n, h in zip(shape, halved, strict=True))
        shapes.append(shape)
    return shapes


def count_chunks(shape: tuple[int, ...], chunks: tuple[int, ...]) -> int:
    """Count the chunks of an array."""
    return prod(-(-n // c) for n, c in zip(shape, chunks, strict=True))


def create_level(
    group: Any,
    level: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...],
    axes: str,
) -> Any:
    """Create the empty zarr array of one level; the same bytes for the same pixels, always."""
    from zarr.codecs import ZstdCodec

    return group.create_array(
        str(level),
        shape=shape,
        dtype=dtype,
        chunks=tuple(min(c, n) for c, n in zip(chunks, shape, strict=True)),
        compressors=ZstdCodec(level=1),
        dimension_names=axis_names(axes),
        # A chunk of -0.0 would count as empty, and come back as 0.0.
        config={"write_empty_chunks": True},
        overwrite=True,
    )


def _chunk_regions(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    starts = [range(0, n, c) for n, c in zip(shape, chunks, strict=True)]
    for corner in product(*starts):
        yield tuple(
            slice(start, min(start + c, n))
            for start, c, n in zip(corner, chunks, shape, strict=True)
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
