"""Many chunks of a finished result packed into few files: the shards of Zarr.

A run writes every chunk into a file of its own, so that no two writers share one. When all are
there, the files of neighbouring chunks are put one after the other, as they are: nothing is
decoded, and a part of one is in memory at a time. A shard gets its name when it is complete and on
disk, and only then do its chunks go: packing can be killed at any time, and goes on where it was.
"""

from __future__ import annotations

import os
import shutil
import struct
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import google_crc32c

from napari_swintormer.imaging.store.pyramid import ChunkIndex, chunk_counts, create_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# From so many chunks on, a result is packed: before, its files are few enough for any disk.
_MANY_CHUNKS = 1024
_SIDE = 8  # chunks of a shard along Y and X, where there are as many
_CHUNKS = _SIDE * _SIDE  # of a shard in all; smaller planes share one
_PACKED = ".packed"
_MISSING = 2**64 - 1  # offset and length of a chunk that a shard has not


def is_many(level: Any) -> bool:
    """Say whether the chunks of the finest level are to be packed, and with them all others."""
    return prod(chunk_counts(level)) >= _MANY_CHUNKS


def settle(folder: Path) -> None:
    """Put packed levels in their place, if packing was killed just before."""
    for packed in folder.glob(f"*{_PACKED}"):
        place = packed.with_suffix("")
        if not place.exists():
            packed.replace(place)


class Packing:
    """The chunks of one level on their way into shards.

    Parameters
    ----------
    group
        Writable zarr group.
    folder
        Where it lies.
    level
        Number of the level.
    axes
        Letters of its axes.

    Attributes
    ----------
    done
        Whether all chunks lie in shards.
    n_shards
        How many there are, or will be.
    """

    def __init__(self, group: Any, folder: Path, level: int, axes: str) -> None:
        self._group, self._folder, self._level, self._axes = group, folder, level, axes
        self._array = group[str(level)]
        self._packed = folder / f"{level}{_PACKED}"
        self._counts = chunk_counts(self._array)
        self._in_shard = _chunks_in_shard(self._counts, axes)
        self._shards = [-(-n // m) for n, m in zip(self._counts, self._in_shard, strict=True)]
        self.n_shards = prod(self._shards)
        self.done: bool = self._array.shards is not None

    def has(self, name: str) -> bool:
        """Say whether the chunk of a file lies in a shard."""
        shard = tuple(i // m for i, m in zip(chunk_of(name), self._in_shard, strict=True))
        return self.done or self._path(shard).exists()

    def run(self, check: Callable[[str], None]) -> Iterator[None]:
        """Pack, shard by shard.

        Parameters
        ----------
        check
            Told the name of every file of a chunk, in the group, before it is packed; may refuse.

        Yields
        ------
        None
            After every shard, also those that were there.
        """
        if self.done:
            return
        if not (self._packed / "zarr.json").exists():
            self._create()
        for shard in product(*map(range, self._shards)):
            chunks = self._chunks_of(shard)
            if not self._path(shard).exists():
                self._pack(self._path(shard), chunks, check)
            for name in filter(None, chunks):
                (self._folder / name).unlink(missing_ok=True)
            yield
        loose, away = self._folder / str(self._level), self._folder / f"{self._level}.loose"
        loose.replace(away)
        self._packed.replace(loose)  # when killed before this, `settle` does it
        shutil.rmtree(away)
        self.done = True

    def _create(self) -> None:
        array, name = self._array, self._packed.name
        shards = tuple(c * m for c, m in zip(array.chunks, self._in_shard, strict=True))
        create_array(self._group, name, array.shape, array.dtype, array.chunks, self._axes, shards)

    def _chunks_of(self, shard: ChunkIndex) -> list[str | None]:
        """Names of the files of a shard's chunks, in its order; None outside the image."""
        along = [range(i * m, (i + 1) * m) for i, m in zip(shard, self._in_shard, strict=True)]
        return [
            chunk_name(self._level, self._array, chunk)
            if all(i < n for i, n in zip(chunk, self._counts, strict=True))
            else None
            for chunk in product(*along)
        ]

    def _pack(self, path: Path, chunks: list[str | None], check: Callable[[str], None]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial, index = path.with_name(f"{path.name}.partial"), []
        with partial.open("wb") as file:
            for name in chunks:
                if name is None:
                    index += [_MISSING, _MISSING]
                    continue
                check(name)
                start = file.tell()
                with (self._folder / name).open("rb") as chunk:
                    shutil.copyfileobj(chunk, file)
                index += [start, file.tell() - start]
            table = struct.pack(f"<{len(index)}Q", *index)
            file.write(table + struct.pack("<I", google_crc32c.value(table)))
            file.flush()
            os.fsync(file.fileno())  # its chunks are about to go
        partial.replace(path)

    def _path(self, shard: ChunkIndex) -> Path:
        return self._packed / str(self._array.metadata.encode_chunk_key(shard))


def chunk_name(level: int, array: Any, chunk: ChunkIndex) -> str:
    """Name of the file of a chunk in the group of a level's array."""
    return f"{level}/{array.metadata.encode_chunk_key(chunk)}"


def chunk_of(name: str) -> ChunkIndex:
    """Give the number of the chunk in a file along every axis."""
    return tuple(map(int, name.split("/")[2:]))


def _chunks_in_shard(counts: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """Chunks of a shard along every axis: a square of a plane, and planes where these are small."""
    along = {axis: min(_SIDE, counts[axes.index(axis)]) for axis in "YX"}
    room = _CHUNKS // prod(along.values())
    for axis in (a for a in "ZTC" if a in axes):
        along[axis] = min(room, counts[axes.index(axis)])
        room //= along[axis]
    return tuple(along.get(axis, 1) for axis in axes)
