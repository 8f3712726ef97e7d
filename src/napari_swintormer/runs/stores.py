"""The stores that a run fills before it writes a file: result, and deviation of the samples."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.carried import NOTHING, Carried
from napari_swintormer.imaging.formats.ome_zarr import ZARR_SUFFIX
from napari_swintormer.imaging.formats.registry import format_of
from napari_swintormer.imaging.formats.writing import check_fits, check_output
from napari_swintormer.imaging.image import split_suffix
from napari_swintormer.imaging.store.result import ResultStore

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from napari_swintormer.events import Event
    from napari_swintormer.imaging.formats.writing import Compression
    from napari_swintormer.runs.job import Job

DEVIATION = np.dtype(np.float32)


def deviation_path(dst: Path) -> Path:
    """Name the file of the deviation beside a result; a TIFF where the format holds no floats.

    Examples
    --------
    >>> from pathlib import Path
    >>> deviation_path(Path("sharp.ome.zarr")).name, deviation_path(Path("sharp.png")).name
    ('sharp-deviation.ome.zarr', 'sharp-deviation.tif')
    """
    stem, suffix = split_suffix(dst)
    form = format_of(dst)
    own = suffix if form is None or form.holds_floats else ".tif"
    return dst.with_name(f"{stem}-deviation{own}")


class FileStores:
    """The stores of one run, and the journal of its finished chunks.

    The deviation is created before the result, and put in its place before it. So the run can be
    resumed as long as the result is unfinished.

    Parameters
    ----------
    dst
        File or folder of the result.
    job
        The planned run; with ``settings.uncertainty`` there is a deviation.
    resume
        Continue an unfinished run, if there is one.
    run, overwrite, pixel_size, unit
        Arguments of `ResultStore.create`.

    Attributes
    ----------
    array, deviation
        Arrays to write to; `deviation` is None if there is none, or it is in its place.
    """

    def __init__(
        self,
        dst: Path,
        job: Job,
        run: Mapping[str, Any],
        *,
        resume: bool,
        overwrite: bool = False,
        pixel_size: Mapping[str, float] | None = None,
        unit: Mapping[str, str] | None = None,
    ) -> None:
        resumes = resume and ResultStore.is_unfinished(dst)

        def open_store(path: Path, dtype: np.dtype[Any], run: Mapping[str, Any]) -> ResultStore:
            if resumes:
                return ResultStore.resume(path, run)
            planes = job.planes
            return ResultStore.create(
                path,
                planes.data.shape,
                dtype,
                planes.axes,
                job.plan.grid.block_size,
                run,
                pixel_size=pixel_size,
                unit=unit,
                planes_per_position=planes.planes_per_position,
                overwrite=overwrite,
            )

        self.deviation = None
        self._stores: list[ResultStore] = []  # that of the result is the last
        if job.settings.uncertainty and not (resumes and _is_placed(dst, job)):
            path = deviation_path(dst)
            if not ResultStore.is_unfinished(dst) and ResultStore.is_unfinished(path):
                ResultStore(path).discard()  # its run was killed before it began
            holds = {"holds": "standard deviation of the samples"}
            self._stores.append(open_store(path, DEVIATION, {**run, **holds}))
            self.deviation = self._stores[0].array
        try:
            self._result = open_store(dst, job.planes.dtype, run)
        except BaseException:
            if not resumes:
                self.discard()
            raise
        self._stores.append(self._result)
        self.array = self._result.array

    @property
    def batch_size(self) -> int | None:
        """Batch size when the run began; None before."""
        return self._result.batch_size

    @batch_size.setter
    def batch_size(self, n_tiles: int) -> None:
        self._result.batch_size = n_tiles

    @property
    def damage(self) -> str | None:
        """Sentence about damage to the unfinished run; None if there is none."""
        damaged = [store for store in self._stores if store.damaged]
        return " ".join(store.describe_damage() for store in damaged) or None

    def note_substitution(self, message: str) -> None:
        """Note for the provenance that something else than was asked for is used."""
        for store in self._stores:
            store.note_substitution(message)

    def finished(self) -> set[tuple[int, int, int]]:
        """Return the chunks (plane, row, column) whose result and deviation are written."""
        return set.intersection(*(store.finished() for store in self._stores))

    def mark(self, plane: int, row: int, column: int) -> None:
        """Note that a chunk of the result and of its deviation is written."""
        for store in self._stores:
            store.mark(plane, row, column)

    def finishing(
        self,
        *,
        carried: Carried = NOTHING,
        compression: Compression | None = None,
        overwrite: bool = False,
    ) -> Generator[Event, None, None]:
        """Put deviation and result in their places."""
        for store in self._stores:
            told = carried
            if store is not self._result:  # the deviation has other numbers
                told = carried.without("native", "white_is_zero", "bits_per_sample", "no_data")
            yield from store.finishing(carried=told, compression=compression, overwrite=overwrite)

    def discard(self) -> None:
        """Remove the unfinished run."""
        for store in reversed(self._stores):
            store.discard()


def check_deviation(dst: Path, src: Path | None, job: Job, *, overwrite: bool = False) -> None:
    """Refuse a run whose deviation cannot be written beside `dst`, with an `OutputError`."""
    if not job.settings.uncertainty:
        return
    path = deviation_path(dst)
    # an unfinished run may have put the deviation in its place already
    check_output(path, src, overwrite or ResultStore.is_unfinished(dst))
    check_fits(path, job.planes.axes, job.planes.data.shape, DEVIATION)


def result_bytes(job: Job) -> int:
    """Return the bytes of the pixels of a result and its deviation."""
    itemsize = job.planes.dtype.itemsize + DEVIATION.itemsize * job.settings.uncertainty
    size: int = prod(job.planes.data.shape) * itemsize
    return size


def file_bytes(job: Job, dst: Path) -> int:
    """Return the most bytes that a run takes on disk while it writes its file.

    The pixels are counted uncompressed. OME-Zarr has coarser levels. A file of another format is
    written from a complete copy, and a TIFF needs one more file for its next level.
    """
    return result_bytes(job) * (4 if dst.suffix.lower() == ZARR_SUFFIX else 8) // 3


def _is_placed(dst: Path, job: Job) -> bool:
    """Say whether an unfinished run has put its deviation in its place."""
    path = deviation_path(dst)
    if ResultStore.is_unfinished(path):
        return False
    rows, columns = job.plan.grid.n_blocks
    complete = len(ResultStore(dst).finished()) == job.plan.n_planes * rows * columns
    if complete and path.exists():
        return True
    raise OutputError(
        f"The unfinished run of {dst} has lost its deviation {path.name}. Overwrite the run."
    )
