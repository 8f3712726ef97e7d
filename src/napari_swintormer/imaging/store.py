"""The result of a run on disk: complete, resumable, or absent, but never half under its name."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari_swintormer.errors import OutputError
from napari_swintormer.events import Clock
from napari_swintormer.imaging.ome_zarr import OWN_ATTRIBUTE, describe, disk_order
from napari_swintormer.imaging.ordered import Ordered
from napari_swintormer.imaging.pyramid import build_pyramid, count_chunks, create_level
from napari_swintormer.imaging.watching import watch_reads
from napari_swintormer.imaging.writing import ZARR_SUFFIX, check_output, disk_errors, write_image

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.events import Progress
    from napari_swintormer.imaging.writing import Compression

_JOURNAL = "journal.txt"


class ResultStore:
    """A Zarr array that a run fills chunk by chunk, with a journal of the finished chunks.

    It lies in the folder ``.<name>.partial`` beside the destination and is an OME-Zarr image at any
    time. The journal is a text file: a line for each chunk, appended after the chunk is written and
    handed to the operating system at once, so that a killed process loses nothing it has marked; a
    chunk without a line is made again. Equal runs leave equal bytes.

    Made by `create` or `resume`.

    Attributes
    ----------
    destination
        File or folder that `finish` leaves.
    array
        The result: array-like of the image's shape, dtype and axes, to be written chunk by chunk,
        by one thread at a time. Writing raises `OutputError` when the disk is full.
    """

    def __init__(self, destination: Path) -> None:
        import zarr

        self.destination = destination
        self._folder = partial_folder(destination)
        # Without this, a chunk of -0.0 would count as empty, and come back as 0.0.
        with zarr.config.set({"array.write_empty_chunks": True}):
            self._group = zarr.open_group(self._folder, mode="r+")
            level: Any = self._group["0"]
        own: Any = self._group.attrs[OWN_ATTRIBUTE]
        self._axes: str = own["axes"]
        self._run: dict[str, Any] = own["run"]
        self._pixel_size: dict[str, float] = own["pixel_size"]
        self._unit: dict[str, str] = own["unit"]
        self.array = _ResultArray(level, disk_order(self._axes), self._axes, destination)

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
            (folder / _JOURNAL).touch()
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
        return store

    @staticmethod
    def is_unfinished(destination: str | os.PathLike[str]) -> bool:
        """Say whether an unfinished run of this destination can be resumed."""
        return (partial_folder(Path(destination)) / _JOURNAL).is_file()

    def finished(self) -> set[tuple[int, int, int]]:
        """Read the marks ``(plane, row, column)``; a last line that was cut off is none."""
        journal = self._folder / _JOURNAL
        whole, _, torn = journal.read_bytes().rpartition(b"\n")
        if torn:  # or the next mark would continue it
            os.truncate(journal, len(whole) + 1 if whole else 0)
        marks = set()
        for line in whole.decode("ascii").splitlines():
            plane, row, column = line.split()
            marks.add((int(plane), int(row), int(column)))
        return marks

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that the chunk in a row and column of blocks of a plane is written."""
        with disk_errors(self.destination), (self._folder / _JOURNAL).open("ab", 0) as journal:
            journal.write(f"{plane} {row} {column}\n".encode("ascii"))

    def finish(self, *, compression: Compression | None = None, overwrite: bool = False) -> None:
        """Put the complete result in its place; see `finishing`, which tells how far it is."""
        for _ in self.finishing(compression=compression, overwrite=overwrite):
            pass

    def finishing(
        self, *, compression: Compression | None = None, overwrite: bool = False
    ) -> Generator[Progress, None, None]:
        """Put the complete result in its place, chunk by chunk, and remove the journal.

        A Zarr destination gets its pyramid and becomes an OME-Zarr image of version 0.5; any other
        is streamed into its format. Nothing happens before the first event is asked for. Closing
        the generator stops after the chunk at hand; the unfinished run stays, and can be resumed.

        Parameters
        ----------
        compression
            Of a TIFF, see `napari_swintormer.imaging.writing.write_image`.
        overwrite
            Whether an existing destination may be replaced.

        Yields
        ------
        Progress
            In chunks: written, of the coarser levels; or read, to be streamed.

        Raises
        ------
        OutputError
            When it cannot be written; the unfinished run stays, and can be resumed.
        """
        check_output(self.destination, overwrite=overwrite)
        if self.destination.suffix.lower() == ZARR_SUFFIX:
            yield from self._finish_zarr()
        else:
            yield from self._finish_file(compression, overwrite)

    def _finish_zarr(self) -> Generator[Progress, None, None]:
        with disk_errors(self.destination):
            order = disk_order(self._axes)
            levels = yield from build_pyramid(self._group, order)
            name = _name(self.destination)
            described = describe(name, order, self._pixel_size, self._unit, levels)
            self._group.attrs["ome"] = described
            for stray in self._folder.rglob("*.partial"):  # of zarr, after a killed run
                stray.unlink()
            (self._folder / _JOURNAL).unlink()
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
        total, done, pixels = count_chunks(level.shape, level.chunks), 0, 0
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
class _ResultArray(Ordered):
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
