"""The result of a run that goes straight into a file; a layer shows it from there."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from napari_swintormer.errors import ImageError
from napari_swintormer.events import Event
from napari_swintormer.imaging.formats.registry import loss_notice
from napari_swintormer.imaging.formats.writing import check_fits, check_output
from napari_swintormer.imaging.image import Image as ImageFile
from napari_swintormer.plugin.layers.layer_data import LayerSource, pixel_sizes
from napari_swintormer.plugin.reader import open_levels
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.stores import FileStores, check_deviation, deviation_path


class FileResult(FileStores):
    """A result that a run writes beside its file and then puts in place.

    A run that was stopped, even by the end of napari, goes on when the user asks for the same
    result in the same file. The suffix of `path` names the format.

    Attributes
    ----------
    lost
        Sentence on what the file cannot hold of the input; None for nothing.
    shown
        What a layer shows, read lazily from the file; None until the file is in place.
    shown_deviation
        The same for the deviation of the samples; None without uncertainty.

    Raises
    ------
    OutputError
        The file cannot be written, or there is an unfinished run of another image or with other
        settings.
    """

    def __init__(self, job: Job, source: LayerSource, path: Path) -> None:
        check_output(path)
        run = job.provenance() | {"input": job.fingerprint(source.name, source.second_name)}
        pixel_size, unit = pixel_sizes(source.axes, source.look["scale"], source.look["units"])
        super().__init__(path, job, run, resume=True, pixel_size=pixel_size, unit=unit)
        self._carried = source.carried
        image = ImageFile(job.planes.data, source.axes, path, carried=source.carried)
        self.lost = loss_notice(path, image)
        self._axes, self._path, self._uncertainty = source.axes, path, job.settings.uncertainty
        self.shown: Any = None
        self.shown_deviation: Any = None
        self._discarded = False

    def finished(self) -> set[tuple[int, int, int]]:
        """Return the written chunks (plane, row, column); none after `discard_if_empty`."""
        return set() if self._discarded else super().finished()

    @property
    def complete(self) -> bool:
        """Whether the file is in place."""
        return self.shown is not None

    def put_in_place(self) -> Generator[Event, None, None]:
        """Put the file in place and open it."""
        yield from self.finishing(carried=self._carried)
        self.shown = open_levels(self._path, self._axes)
        if self._uncertainty:
            self.shown_deviation = open_levels(deviation_path(self._path), self._axes)

    def discard_if_empty(self) -> None:
        """Remove the unfinished run if it has no finished chunk."""
        if not self.complete and not self.finished():
            self.discard()
            self._discarded = True


def check_destination(path: Path, source: LayerSource, src: str | None, job: Job) -> None:
    """Refuse a file that cannot be written; `src` is the file of the image, or None."""
    check_output(path, src)
    check_fits(path, source.axes, source.data.shape, source.data.dtype)
    check_deviation(path, None if src is None else Path(src), job)


def destination_of(text: str, n_layers: int) -> Path | None:
    """Read the field "Save to": a file, or None for memory."""
    if not text.strip():
        return None
    if n_layers > 1:
        raise ImageError(
            f"One file cannot hold the results of {n_layers} layers. Select one layer, or leave "
            "Save to empty and save the results later."
        )
    return Path(text.strip()).expanduser()
