"""The result of a run on disk: complete, resumable, or absent, but never half under its name."""

from __future__ import annotations

import json
import shutil
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from napari_swintormer.errors import OutputError
from napari_swintormer.events import Clock
from napari_swintormer.imaging.carried import NOTHING, Carried
from napari_swintormer.imaging.formats.boundary import disk_errors
from napari_swintormer.imaging.formats.ome_zarr import (
    OWN_ATTRIBUTE,
    ZARR_SUFFIX,
    describe,
    disk_order,
)
from napari_swintormer.imaging.formats.writing import (
    check_output,
    sync_file,
    write_image,
    writing_file,
)
from napari_swintormer.imaging.formats.zarr_carried import copy_labels
from napari_swintormer.imaging.hidden_names import hidden_beside
from napari_swintormer.imaging.image import split_suffix
from napari_swintormer.imaging.store.journal import Journal, has_begun
from napari_swintormer.imaging.store.levels import JOURNAL, PLANES, Levels
from napari_swintormer.imaging.store.pyramid import (
    chunk_counts,
    create_levels,
)
from napari_swintormer.imaging.store.sharding import settle
from napari_swintormer.imaging.store.watching import watch_reads
from napari_swintormer.imaging.views import Ordered

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.events import Progress
    from napari_swintormer.imaging.formats.writing import Compression
    from napari_swintormer.imaging.store.journal import Mark

_BATCH, _SUBSTITUTED = "batch_size", "substituted"


class ResultStore:
    """A Zarr array that a run fills chunk by chunk, with a journal of the finished chunks.

    It lies in the folder ``.<name>.partial`` beside the `destination` and is an OME-Zarr image at
    any time. A chunk that the journal does not know, or whose file has changed since it was marked,
    is made again; `damaged` counts such files of a resumed run. Chunks of the coarser levels of a
    Zarr result are made as soon as all that they cover is marked. Equal runs leave equal bytes.

    `array` is the result, in the image's shape, dtype and axes. One thread at a time writes it,
    chunk by chunk. Writing raises an `OutputError` when the disk is full.
    """

    def __init__(self, destination: Path) -> None:
        import zarr

        self.destination = destination
        self._folder = partial_folder(destination)
        settle(self._folder)
        if _journal_aside(destination).exists():  # the last step of `finishing` failed
            _journal_aside(destination).replace(self._folder / JOURNAL)
        # Without this, a chunk of -0.0 counts as empty, and comes back as 0.0.
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
        """Begin a result of this shape, dtype and axes.

        Parameters
        ----------
        destination
            File or folder to leave in the end, which `writing.check_output` has accepted.
        block_size
            Side of a chunk in pixels; chunks have the size 1 along T, C and Z.
        run
            What decides the result and describes it: settings, model and input, as a JSON object. A
            Zarr result keeps it.
        pixel_size, unit
            Size of a step along an axis, and the name of its unit; both may lack axes.
        planes_per_position
            Marks that complete a chunk: 3 for colours that are restored one by one.
        overwrite
            Whether an unfinished run of this destination may be thrown away.
        """
        destination = Path(destination)
        if cls.is_unfinished(destination) and not overwrite:
            raise OutputError(
                f"An unfinished run of {destination} exists. Resume it, choose another name, or "
                f"delete {partial_folder(destination).name} beside it."
            )
        own: dict[str, Any] = {
            "axes": axes,
            "pixel_size": dict(pixel_size or {}),
            "unit": dict(unit or {}),
            "run": dict(run),
        }
        sizes = {a: int(n) for a, n in zip(axes, shape, strict=True)}
        with disk_errors(destination):
            folder = partial_folder(destination)
            try:
                _create_folder(destination, sizes, dtype, block_size, own)
                (folder / JOURNAL).touch()
                Journal(folder / JOURNAL).note_number(PLANES, planes_per_position)
                sync_file(folder / JOURNAL)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)  # it holds nothing to resume
                raise
        return cls(destination)

    @classmethod
    def resume(cls, destination: str | os.PathLike[str], run: Mapping[str, Any]) -> Self:
        """Go on with an unfinished result.

        Raises an `OutputError` when there is none, or when its `run` differs from the one given to
        `create`; the message names the difference.
        """
        destination = Path(destination)
        if not cls.is_unfinished(destination):
            raise OutputError(f"There is no unfinished run of {destination} to resume.")
        with disk_errors(destination):
            store = cls(destination)
        before, now = _flat(store._run), _flat(json.loads(json.dumps(dict(run))))
        # another model explains other differences
        for key in sorted(before.keys() | now.keys(), key=lambda key: (key != "model", key)):
            if before.get(key) != now.get(key):
                raise OutputError(
                    f"The unfinished run of {destination} differs in {key} (it has "
                    f"{before.get(key)!r}, asked for is {now.get(key)!r}). Ask for the same, "
                    f"choose another name, or delete {partial_folder(destination).name} beside it."
                )
        with disk_errors(destination):
            store.damaged = store._levels.take_up()
        return store

    @staticmethod
    def is_unfinished(destination: str | os.PathLike[str]) -> bool:
        """Say whether an unfinished run of this destination can be resumed."""
        folder, aside = partial_folder(Path(destination)), _journal_aside(Path(destination))
        journal = folder / JOURNAL
        complete = folder.is_dir() and aside.is_file() and not _is_placed(Path(destination))
        return complete or has_begun(journal)

    @classmethod
    def run_of(cls, destination: str | os.PathLike[str]) -> dict[str, Any]:
        """Return the `run` that an unfinished result was created with."""
        with disk_errors(Path(destination)):
            return cls(Path(destination))._run

    def describe_damage(self) -> str:
        """Say in one sentence what `damaged` counts."""
        files = "1 file" if self.damaged == 1 else f"{self.damaged} files"
        return (
            f"The unfinished run of {self.destination} has {files} that changed on disk or went "
            "missing; their chunks are made again."
        )

    @property
    def batch_size(self) -> int | None:
        """Tiles at once when the run began, kept in the journal; None before it has begun."""
        return self._levels.journal.numbers.get(_BATCH)

    @batch_size.setter
    def batch_size(self, n_tiles: int) -> None:
        with disk_errors(self.destination):
            self._levels.journal.note_number(_BATCH, n_tiles)

    def note_substitution(self, message: str) -> None:
        """Note beside `run` that something else than was asked for is used."""
        own: Any = self._group.attrs[OWN_ATTRIBUTE]
        noted = own.get(_SUBSTITUTED, [])
        if message not in noted:
            with disk_errors(self.destination):
                self._group.attrs[OWN_ATTRIBUTE] = {**own, _SUBSTITUTED: [*noted, message]}

    def finished(self) -> set[Mark]:
        """Return the marks ``(plane, row, column)`` of all finished chunks."""
        return set(self._levels.journal.marks)

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that the chunk in a row and column of blocks of a plane is written.

        In a Zarr result this makes the chunks of coarser levels that it completes.
        """
        with disk_errors(self.destination):
            self._levels.mark(plane, row, column)

    def finish(
        self,
        *,
        carried: Carried = NOTHING,
        compression: Compression | None = None,
        overwrite: bool = False,
    ) -> None:
        """Put the complete result in its place; `finishing` does it step by step."""
        for _ in self.finishing(carried=carried, compression=compression, overwrite=overwrite):
            pass

    def finishing(
        self,
        *,
        carried: Carried = NOTHING,
        compression: Compression | None = None,
        overwrite: bool = False,
    ) -> Generator[Progress, None, None]:
        """Put the complete result in its place, chunk by chunk, and remove the journal.

        The result tells what is `carried`, as far as its format can.

        A Zarr destination becomes an OME-Zarr image of version 0.5: missing chunks of its coarser
        levels are made, and many chunks are packed into shards. Any other is streamed into its
        format, a TIFF with lossless `compression`. It yields `Progress` in written or read chunks,
        or nothing where nothing is left to do. Nothing happens before the first event is asked for.
        When the generator is closed, or an `OutputError` says why the result cannot be written,
        `resume` still goes on.
        """
        check_output(self.destination, overwrite=overwrite)
        if _is_zarr(self.destination):
            yield from self._finish_zarr(carried)
        else:
            yield from self._finish_file(carried, compression, overwrite)

    def _finish_zarr(self, carried: Carried) -> Generator[Progress, None, None]:
        with disk_errors(self.destination):
            yield from self._levels.finishing()
            name, order = split_suffix(self.destination)[0], disk_order(self._axes)
            covers = self._levels.pyramid.covers()
            sizes = dict(zip(self._axes, self.array.shape, strict=True))
            n_channels = sizes.get("C", sizes.get("S", 0))
            described = describe(
                name, order, self._pixel_size, self._unit, covers, carried, n_channels
            )
            copy_labels(carried, self._group, self._folder)
            self._group.attrs["ome"] = described
            for stray in self._folder.rglob("*.partial"):  # of zarr, after a killed run
                stray.unlink()
            for path in self._folder.rglob("*"):
                if path.is_file():
                    sync_file(path)
            # The journal goes only after the folder has its final name.
            aside = _journal_aside(self.destination)
            (self._folder / JOURNAL).replace(aside)
            _replace_folder(self._folder, self.destination)
            with suppress(OSError):
                aside.unlink()

    def _finish_file(
        self, carried: Carried, compression: Compression | None, overwrite: bool
    ) -> Generator[Progress, None, None]:
        def write(array: Any) -> None:
            write_image(
                self.destination,
                array,
                self._axes,
                self._pixel_size,
                self._unit,
                carried=carried,
                compression=compression,
                overwrite=overwrite,
                placing=self._journal_moved_aside(),
            )

        # Writers read bands of rows; progress counts them in chunks.
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

    @contextmanager
    def _journal_moved_aside(self) -> Iterator[None]:
        """Move the journal out of its folder, and back when the block fails."""
        journal, aside = self._folder / JOURNAL, _journal_aside(self.destination)
        journal.replace(aside)
        try:
            yield
        except BaseException:
            aside.replace(journal)
            raise

    def discard(self) -> None:
        """Remove the unfinished run."""
        # the journals first: what is left cannot be resumed
        for journal in (self._folder / JOURNAL, _journal_aside(self.destination)):
            with suppress(OSError):
                journal.unlink()
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class StoredArray(Ordered):
    """The array of a store, in the image's own order of axes."""

    destination: Path

    def __setitem__(self, index: Any, value: NDArray[Any]) -> None:
        with disk_errors(self.destination):
            super().__setitem__(index, value)


def partial_folder(destination: Path) -> Path:
    """Return the folder of an unfinished run, beside its destination."""
    return hidden_beside(destination, "partial")


def _journal_aside(destination: Path) -> Path:
    """Where the journal lies while a complete folder gets its final name."""
    return hidden_beside(destination, "journal")


def _is_placed(destination: Path) -> bool:
    """Say whether a run whose journal lies aside has put its file in its place."""
    is_file = not _is_zarr(destination) and destination.exists()
    return is_file and not writing_file(destination).exists()


def _create_folder(
    destination: Path,
    sizes: Mapping[str, int],
    dtype: np.dtype[Any],
    block_size: int,
    own: dict[str, Any],
) -> None:
    """Create the folder of an unfinished run, with its empty levels, in place of any other."""
    import zarr

    folder, order = partial_folder(destination), disk_order(own["axes"])
    _journal_aside(destination).unlink(missing_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    group = zarr.open_group(folder, mode="w", zarr_format=3)
    shape = tuple(sizes[a] for a in order)
    create_levels(group, shape, dtype, order, block_size, coarser=_is_zarr(destination))
    name, scales = split_suffix(destination)[0], [[1] * len(order)]
    described = describe(name, order, own["pixel_size"], own["unit"], scales)
    group.attrs.put({"ome": described, OWN_ATTRIBUTE: own})


def _replace_folder(folder: Path, destination: Path) -> None:
    """Rename a folder to its destination; what it replaces is removed only after that."""
    old = hidden_beside(destination, "old")
    replaces = destination.exists()
    if replaces:
        _remove(old)  # left by a killed run
        destination.replace(old)
    try:
        folder.replace(destination)
    except OSError:
        if replaces:
            old.replace(destination)
        raise
    with suppress(OSError):  # the result is in its place, even if a viewer holds the old files
        _remove(old)


def _remove(path: Path) -> None:
    """Remove a file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_zarr(destination: Path) -> bool:
    return destination.suffix.lower() == ZARR_SUFFIX


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Write nested settings as ``outer.inner``."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
