"""The result of a run that goes straight into a file, and is shown from there."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from napari_swintormer.errors import ImageError
from napari_swintormer.events import ChunkFinished, Event
from napari_swintormer.imaging.formats.writing import check_fits, check_output
from napari_swintormer.plugin.layers.layer_data import LayerSource, pixel_sizes
from napari_swintormer.plugin.layers.reader import open_levels
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.stores import FileStores, check_deviation, deviation_path


def check_destination(path: Path, source: LayerSource, src: str | None, job: Job) -> None:
    """Refuse a file that could not be written in the end, before any work begins.

    Parameters
    ----------
    path
        Of the result.
    source
        What is deblurred.
    src
        The file that it comes from, or None.
    job
        The planned run.

    Raises
    ------
    OutputError
        With what would work.
    """
    check_output(path, src)
    check_fits(path, source.axes, source.data.shape, source.data.dtype)
    check_deviation(path, None if src is None else Path(src), job)


class FileResult:
    """The result of a run in a file; the counterpart of `plugin.layers.results.Result`.

    It fills beside the file, and goes into its place when it is complete. A run that was stopped,
    even by the end of napari, goes on when the same is asked for again.

    Parameters
    ----------
    job
        The planned run.
    source
        What is deblurred.
    path
        File or folder that does not exist; its suffix is the format.

    Attributes
    ----------
    array
        What the run writes.
    shown
        What a layer shows, read lazily from the file; None until the result is in its place.
    deviation, shown_deviation
        The same for the deviation of the samples, in a file beside; None without uncertainty.

    Raises
    ------
    OutputError
        The file cannot be written, or an unfinished run of another image or with other settings
        is in the way.
    """

    def __init__(self, job: Job, source: LayerSource, path: Path) -> None:
        check_output(path)
        self._store = self._open(job, source, path)
        self._axes, self._path, self._uncertainty = source.axes, path, job.settings.uncertainty
        self.array, self.deviation = self._store.array, self._store.deviation
        self.shown: Any = None
        self.shown_deviation: Any = None
        self._discarded = False

    @staticmethod
    def _open(job: Job, source: LayerSource, path: Path) -> FileStores:
        run = job.provenance() | {"input": job.fingerprint(source.name, source.second_name)}
        pixel_size, unit = pixel_sizes(source.axes, source.look["scale"], source.look["units"])
        return FileStores(path, job, run, resume=True, pixel_size=pixel_size, unit=unit)

    @property
    def batch_size(self) -> int | None:
        """Tiles at once when the run began; None before."""
        return self._store.batch_size

    @batch_size.setter
    def batch_size(self, n_tiles: int) -> None:
        self._store.batch_size = n_tiles

    @property
    def notice(self) -> str | None:
        """What the user should know of the run that goes on."""
        return self._store.damage

    def finished(self) -> set[tuple[int, int, int]]:
        """Chunks (plane, row, column) that are written; none after `discard_if_empty`."""
        return set() if self._discarded else self._store.finished()

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that a chunk has been written."""
        self._store.mark(plane, row, column)

    def take(self, event: ChunkFinished) -> None:
        """Nothing is shown before the file is complete."""

    @property
    def complete(self) -> bool:
        """Whether the file is in its place."""
        return self.shown is not None

    def finishing(self) -> Generator[Event, None, None]:
        """Put the result in its place and open it; see `ResultStore.finishing`."""
        yield from self._store.finishing()
        self.shown = open_levels(self._path, self._axes)
        if self._uncertainty:
            self.shown_deviation = open_levels(deviation_path(self._path), self._axes)

    def discard_if_empty(self) -> None:
        """Remove what lies beside the file if there is nothing to go on with."""
        if not self.complete and not self._store.finished():
            self._store.discard()
            self._discarded = True


def destination_of(text: str, n_layers: int) -> Path | None:
    """Read the field "Save to": a file, or None for memory.

    Raises
    ------
    ImageError
        Several layers cannot go into one file.
    """
    if not text.strip():
        return None
    if n_layers > 1:
        raise ImageError(
            f"One file cannot hold the results of {n_layers} layers; select one of them, or leave "
            "Save to empty and save the results later."
        )
    return Path(text.strip()).expanduser()
