"""Many chunks of a finished result packed into few files: the shards of Zarr.

A run writes every chunk into a file of its own, so that no two writers share a file. When all
chunks exist, the files of neighbouring chunks are joined as they are: nothing is decoded. A shard
gets its name when it is complete and on disk, and only then its chunks are removed. Packing can be
killed at any time, and goes on where it was.
"""

from __future__ import annotations

import os
import shutil
import struct
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import google_crc32c

from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.store.pyramid import ChunkIndex, chunk_counts, create_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A result of this many chunks is packed; any disk takes fewer files.
_MANY_CHUNKS = 1024
_SIDE = 8  # chunks of a shard along Y and X, where there are as many
_CHUNKS = _SIDE * _SIDE  # of a shard in all; smaller planes share one
_PACKED = ".packed"
_MISSING = 2**64 - 1  # offset and length of a chunk that a shard does not have


def is_many(level: Any) -> bool:
    """Say whether all levels are to be packed, by the chunks of the finest level."""
    return prod(chunk_counts(level)) >= _MANY_CHUNKS


def settle(folder: Path) -> None:
    """Put packed levels in their place, if packing was killed just before."""
    for packed in folder.glob(f"*{_PACKED}"):
        destination = packed.with_suffix("")
        if not destination.exists():
            packed.replace(destination)


class Packing:
    """The chunks of one level on their way into shards.

    `done` tells whether all chunks lie in shards; `n_shards` counts shards, existing or not.
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

    def check_shards(self) -> None:
        """Raise an `OutputError` if a shard of a packed level went missing."""
        level = self._packed.with_suffix("")
        for shard in product(*map(range, self._shards)) if self.done else ():
            path = level / str(self._array.metadata.encode_chunk_key(shard))
            if not path.exists():
                raise OutputError(
                    f"The unfinished run in {self._folder} has lost its file {path.name}, which "
                    "holds many chunks. Overwrite the run."
                )

    def run(self, check: Callable[[str], None]) -> Iterator[None]:
        """Pack shard by shard; yields after every shard, including existing ones.

        `check` is called with the name of every chunk file before it is packed, and may raise.
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
        level, loose = self._folder / str(self._level), self._folder / f"{self._level}.loose"
        level.replace(loose)
        self._packed.replace(level)  # after a kill before this, `settle` does it
        shutil.rmtree(loose)
        self.done = True

    def _create(self) -> None:
        array, name = self._array, self._packed.name
        shards = tuple(c * m for c, m in zip(array.chunks, self._in_shard, strict=True))
        create_level(self._group, name, array.shape, array.dtype, array.chunks, self._axes, shards)

    def _chunks_of(self, shard: ChunkIndex) -> list[str | None]:
        """File names of a shard's chunks, in its order; None outside the image."""
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
            os.fsync(file.fileno())  # its chunks are removed next
        partial.replace(path)

    def _path(self, shard: ChunkIndex) -> Path:
        return self._packed / str(self._array.metadata.encode_chunk_key(shard))


def chunk_name(level: int, array: Any, chunk: ChunkIndex) -> str:
    """Name the file of a chunk of a level's array, relative to the group."""
    return f"{level}/{array.metadata.encode_chunk_key(chunk)}"


def chunk_of(name: str) -> ChunkIndex:
    """Read the number of a chunk along every axis from its file name."""
    return tuple(map(int, name.split("/")[2:]))


def _chunks_in_shard(counts: tuple[int, ...], axes: str) -> tuple[int, ...]:
    """Chunks of a shard along every axis: a square of a plane, or several small planes."""
    along = {axis: min(_SIDE, counts[axes.index(axis)]) for axis in "YX"}
    room = _CHUNKS // prod(along.values())
    for axis in (a for a in "ZTC" if a in axes):
        along[axis] = min(room, counts[axes.index(axis)])
        room //= along[axis]
    return tuple(along.get(axis, 1) for axis in axes)
