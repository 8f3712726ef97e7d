"""The result of a run on disk: complete, resumable, or absent, but never half under its name."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari_swintormer.errors import OutputError
from napari_swintormer.events import Clock
from napari_swintormer.imaging.formats.ome_zarr import OWN_ATTRIBUTE, describe, disk_order
from napari_swintormer.imaging.formats.watching import watch_reads
from napari_swintormer.imaging.formats.writing import (
    ZARR_SUFFIX,
    check_output,
    disk_errors,
    write_image,
)
from napari_swintormer.imaging.ordered import Ordered
from napari_swintormer.imaging.store.journal import Journal
from napari_swintormer.imaging.store.levels import JOURNAL, PLANES, Levels
from napari_swintormer.imaging.store.pyramid import (
    chunk_counts,
    create_coarser_levels,
    create_level,
)
from napari_swintormer.imaging.store.sharding import settle

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.events import Progress
    from napari_swintormer.imaging.formats.writing import Compression
    from napari_swintormer.imaging.store.journal import Mark

_BATCH = "batch_size"


class ResultStore:
    """A Zarr array that a run fills chunk by chunk, with a journal of the finished chunks.

    It lies in the folder ``.<name>.partial`` beside the destination and is an OME-Zarr image at any
    time. A chunk that the journal does not know, or whose file is not what it was when it was
    marked, is made again. Chunks of the coarser levels of a Zarr result are made as soon as all
    that they cover is marked. Equal runs leave equal bytes.

    Made by `create` or `resume`.

    Attributes
    ----------
    destination
        File or folder that `finish` leaves.
    array
        The result: array-like of the image's shape, dtype and axes, to be written chunk by chunk,
        by one thread at a time. Writing raises `OutputError` when the disk is full.
    damaged
        How many files of the run that goes on were not what they were when they were marked.
    """

    def __init__(self, destination: Path) -> None:
        import zarr

        self.destination = destination
        self._folder = partial_folder(destination)
        settle(self._folder)
        # Without this, a chunk of -0.0 would count as empty, and come back as 0.0.
        with zarr.config.set({"array.write_empty_chunks": True}):
            self._group = zarr.open_group(self._folder, mode="r+")
            own: Any = self._group.attrs[OWN_ATTRIBUTE]
            self._axes: str = own["axes"]
            self._levels = Levels(self._group, self._folder, self._axes)
        self._run: dict[str, Any] = own["run"]
        self._pixel_size: dict[str, float] = own["pixel_size"]
        self._unit: dict[str, str] = own["unit"]
        finest = self._levels.arrays[0]
        self.array = StoredArray(finest, disk_order(self._axes), self._axes, destination)
        self.damaged = 0

    @classmethod
    def create(
        cls,
        destination: str | os.PathLike[str],
        shape: Sequence[int],
        dtype: np.dtype[Any],
        axes: str,
        block_size: int,
        run: Mapping[str, Any],
        *,
        pixel_size: Mapping[str, float] | None = None,
        unit: Mapping[str, str] | None = None,
        planes_per_position: int = 1,
        overwrite: bool = False,
    ) -> Self:
        """Begin a result.

        Parameters
        ----------
        destination
            File or folder to leave in the end, checked by `writing.check_output` before.
        shape, dtype, axes
            Of the image.
        block_size
            Side of a chunk in pixels; chunks have the size 1 along T, C and Z.
        run
            What decides the result and describes it: settings, model and input; a JSON object. It
            is kept with a Zarr result.
        pixel_size, unit
            As in `napari_swintormer.imaging.image.Image`.
        planes_per_position
            As in `napari_swintormer.imaging.planes.Planes`: so many marks make a chunk complete.
        overwrite
            Whether an unfinished run of this destination may be thrown away.

        Raises
        ------
        OutputError
            When an unfinished run exists, or the folder cannot be written.
        """
        import zarr

        destination = Path(destination)
        if cls.is_unfinished(destination) and not overwrite:
            raise OutputError(
                f"An unfinished run of {destination} exists; resume it, or overwrite it on purpose."
            )
        folder = partial_folder(destination)
        order = disk_order(axes)
        sizes = dict(zip(axes, shape, strict=True))
        chunks = [
            {"Y": block_size, "X": block_size, "S": sizes.get("S", 1)}.get(a, 1) for a in order
        ]
        own: dict[str, Any] = {
            "axes": axes,
            "pixel_size": dict(pixel_size or {}),
            "unit": dict(unit or {}),
            "run": dict(run),
        }
        with disk_errors(destination):
            if folder.exists():
                shutil.rmtree(folder)
            group = zarr.open_group(folder, mode="w", zarr_format=3)
            stored_shape = tuple(int(sizes[a]) for a in order)
            create_level(group, 0, stored_shape, dtype.newbyteorder("="), tuple(chunks), order)
            described = describe(
                _name(destination), order, own["pixel_size"], own["unit"], [[1] * len(order)]
            )
            group.attrs.put({"ome": described, OWN_ATTRIBUTE: own})
            if _is_zarr(destination):
                create_coarser_levels(group, order)
            (folder / JOURNAL).touch()
            Journal(folder / JOURNAL).note_number(PLANES, planes_per_position)
        return cls(destination)

    @classmethod
    def resume(cls, destination: str | os.PathLike[str], run: Mapping[str, Any]) -> Self:
        """Go on with an unfinished result.

        Parameters
        ----------
        destination, run
            As given to `create`.

        Raises
        ------
        OutputError
            When there is none, or its run differs; the sentence names what differs.
        """
        destination = Path(destination)
        if not cls.is_unfinished(destination):
            raise OutputError(f"There is no unfinished run of {destination} to resume.")
        store = cls(destination)
        before, now = _flat(store._run), _flat(json.loads(json.dumps(dict(run))))
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise OutputError(
                    f"The unfinished run of {destination} differs in {key} (it has "
                    f"{before.get(key)!r}, asked for is {now.get(key)!r}); ask for the same, or "
                    "overwrite it on purpose."
                )
        with disk_errors(destination):
            store.damaged = store._levels.take_up()
        return store

    @staticmethod
    def is_unfinished(destination: str | os.PathLike[str]) -> bool:
        """Say whether an unfinished run of this destination can be resumed."""
        journal = partial_folder(Path(destination)) / JOURNAL
        return journal.is_file() and journal.stat().st_size > 0

    def describe_damage(self) -> str:
        """Say in one sentence what `damaged` counts."""
        files = "1 file" if self.damaged == 1 else f"{self.damaged} files"
        return (
            f"The unfinished run of {self.destination} has {files} that changed on disk or went "
            "missing; what was there is made again."
        )

    @property
    def batch_size(self) -> int | None:
        """Tiles at once when the run began, kept in the journal; None before it has begun."""
        return self._levels.journal.numbers.get(_BATCH)

    @batch_size.setter
    def batch_size(self, n_tiles: int) -> None:
        with disk_errors(self.destination):
            self._levels.journal.note_number(_BATCH, n_tiles)

    def finished(self) -> set[Mark]:
        """Give the marks ``(plane, row, column)``."""
        return set(self._levels.journal.marks)

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that the chunk in a row and column of blocks of a plane is written.

        Of a Zarr result, the chunks of coarser levels are made that it completes.
        """
        with disk_errors(self.destination):
            self._levels.mark(plane, row, column)

    def finish(self, *, compression: Compression | None = None, overwrite: bool = False) -> None:
        """Put the complete result in its place; see `finishing`, which tells how far it is."""
        for _ in self.finishing(compression=compression, overwrite=overwrite):
            pass

    def finishing(
        self, *, compression: Compression | None = None, overwrite: bool = False
    ) -> Generator[Progress, None, None]:
        """Put the complete result in its place, chunk by chunk, and remove the journal.

        A Zarr destination becomes an OME-Zarr image of version 0.5: what is missing of its coarser
        levels is made, and many chunks are packed into shards. Any other is streamed into its
        format. Nothing happens before the first event is asked for. Closing the generator stops
        after the chunk at hand; the unfinished run stays, and can be resumed.

        Parameters
        ----------
        compression
            Of a TIFF, see `napari_swintormer.imaging.formats.writing.write_image`.
        overwrite
            Whether an existing destination may be replaced.

        Yields
        ------
        Progress
            In chunks of coarser levels and shards that are written; or in chunks that are read, to
            be streamed. None, where nothing is left to do.

        Raises
        ------
        OutputError
            When it cannot be written; the unfinished run stays, and can be resumed.
        """
        check_output(self.destination, overwrite=overwrite)
        if _is_zarr(self.destination):
            yield from self._finish_zarr()
        else:
            yield from self._finish_file(compression, overwrite)

    def _finish_zarr(self) -> Generator[Progress, None, None]:
        with disk_errors(self.destination):
            yield from self._levels.finishing()
            name, order = _name(self.destination), disk_order(self._axes)
            covers = self._levels.pyramid.covers()
            described = describe(name, order, self._pixel_size, self._unit, covers)
            self._group.attrs["ome"] = described
            for stray in self._folder.rglob("*.partial"):  # of zarr, after a killed run
                stray.unlink()
            (self._folder / JOURNAL).unlink()
            _replace_folder(self._folder, self.destination)

    def _finish_file(
        self, compression: Compression | None, overwrite: bool
    ) -> Generator[Progress, None, None]:
        def write(array: Any) -> None:
            write_image(
                self.destination,
                array,
                self._axes,
                self._pixel_size,
                self._unit,
                compression=compression,
                overwrite=overwrite,
            )

        # Writers read bands of rows: what they have read is told in chunks.
        level: Any = self._group["0"]
        total, done, pixels = prod(chunk_counts(level)), 0, 0
        clock = Clock(total, "chunks")
        with closing(watch_reads(write, self.array)) as reads:
            for n in reads:
                pixels += n
                new = pixels * total // level.size - done
                if new:
                    done += new
                    yield clock.after(new)
        self.discard()

    def discard(self) -> None:
        """Remove the unfinished run."""
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class StoredArray(Ordered):
    """The array of a store, in the image's own order of axes."""

    destination: Path

    def __setitem__(self, index: Any, value: NDArray[Any]) -> None:
        with disk_errors(self.destination):
            super().__setitem__(index, value)


def partial_folder(destination: Path) -> Path:
    """Give the folder of an unfinished run, beside its destination."""
    return destination.with_name(f".{destination.name}.partial")


def _replace_folder(folder: Path, destination: Path) -> None:
    """Rename a folder; what is replaced goes only after that."""
    old = destination.with_name(f".{destination.name}.old")
    if destination.exists():
        destination.replace(old)
    folder.replace(destination)
    if old.is_dir():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)


def _is_zarr(destination: Path) -> bool:
    return destination.suffix.lower() == ZARR_SUFFIX


def _name(destination: Path) -> str:
    return destination.name.removesuffix(".zarr").removesuffix(".ome")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested settings out as ``outer.inner``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
