"""Work in a thread of its own, so that the viewer stays alive: runs and previews."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

from napari_swintormer.engine.speed import recall_speed, remember_speed
from napari_swintormer.events import ChunkFinished, Event, Notice, Progress
from napari_swintormer.plugin.layers.file_result import FileResult
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.layer_result import LayerResult, make_result
from napari_swintormer.runs.job import Job, planned_speed_key
from napari_swintormer.tiling.grid import Region

if TYPE_CHECKING:
    from napari_swintormer.engine.region import RestoredRegion  # imports torch

_REPORT_EVERY = 0.1  # seconds; more signals than that only slow the viewer down
_FILL_EVERY = 0.4  # seconds between two looks at the result: each draws the layer again

T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """What a run hands over when it has ended or was stopped.

    Attributes
    ----------
    result
        The room that the deblurred image takes.
    provenance
        How it was made.
    seconds
        How long it took.
    """

    result: LayerResult | FileResult
    provenance: dict[str, Any]
    seconds: float


class JobSignals(WorkerBaseSignals):
    """Signals of a worker: those of every worker, and what it tells on the way.

    Attributes
    ----------
    progressed
        A `Progress`, at most ten a second.
    noticed
        One sentence that the user should know.
    opened
        An `Outcome` of 0 seconds: the room for the result is there, and shows the input.
    filled
        More of the result is finished, at most every 0.4 seconds.
    made
        Number of a job of several, and its `RestoredRegion`.
    """

    progressed = Signal(object)
    noticed = Signal(str)
    opened = Signal(object)
    filled = Signal()
    made = Signal(int, object)


class EventWorker(WorkerBase[T | None]):
    """Iterates events in a thread of its own and passes on what is worth it."""

    def __init__(self) -> None:
        super().__init__(SignalsClass=JobSignals)
        self._reported = 0.0
        self._last: Progress | None = None

    def _report(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.noticed.emit(event.message)
        elif isinstance(event, Progress):
            if event.unit == "tiles" and not event.steps:
                self._last = event
            now = time.monotonic()
            if event.done == event.total or now - self._reported >= _REPORT_EVERY:
                self._reported = now
                self.progressed.emit(event)


class JobWorker(EventWorker[T]):
    """Iterates the events of a job; `quit` stops it after the batch of tiles at hand.

    Parameters
    ----------
    job
        Of `runs.job.prepare`. Torch is imported and the model is loaded here, in the
        thread of the worker.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def _remember_first_speed(self) -> None:
        """Keep a speed where none is known yet, so that the plan says a time from now on.

        The engine times runs of several batches and leaves the first of them out; a preview, or a
        run of one batch, has only this speed, which is too slow rather than too fast.
        """
        last = self._last
        if last is None or last.elapsed <= 0:
            return
        key = planned_speed_key(self._job.weights_sha256, self._job.settings)
        if recall_speed(key) is None:
            plan = self._job.plan
            height, width = plan.grid.tile_shape
            remember_speed(key, last.done * plan.samples * height * width / last.elapsed)


class DeblurWorker(JobWorker[Outcome]):
    """Runs a job, or goes on with one that was stopped.

    Parameters
    ----------
    job
        See `JobWorker`.
    source
        What is deblurred.
    result
        Of the run that was stopped, or None.
    destination
        File that the result goes to; None for a layer of its own.
    """

    def __init__(
        self,
        job: Job,
        source: LayerSource,
        result: LayerResult | FileResult | None = None,
        destination: Path | None = None,
    ) -> None:
        super().__init__(job)
        self._source, self._result, self._destination = source, result, destination
        self._filled = 0.0

    def work(self) -> Outcome:
        """Deblur; what is finished at an abort stays in the result."""
        start = time.monotonic()
        result = self._result or self._make_room()
        provenance = self._job.provenance()
        self.opened.emit(Outcome(result, provenance, 0.0))
        try:
            self._fill(result)
        finally:
            if isinstance(result, FileResult):
                result.discard_if_empty()
        if self._result is None:  # else the tiles of the run that was stopped are counted, too
            self._remember_first_speed()
        made = {"time": datetime.now(UTC).isoformat(timespec="seconds")}
        return Outcome(result, provenance | made, time.monotonic() - start)

    def _make_room(self) -> LayerResult | FileResult:
        if self._destination is None:
            return make_result(self._job, self._source.coarser)
        result = FileResult(self._job, self._source, self._destination)
        if result.damage is not None:
            self.noticed.emit(result.damage)
        return result

    def _fill(self, result: LayerResult | FileResult) -> None:
        """Run until the result is complete, or the run is stopped."""
        work = self._job.run(result.array, result, deviation=result.deviation)
        with closing(work) as events:
            for event in events:
                if isinstance(event, ChunkFinished):
                    self._tell_filled()
                if self.abort_requested:
                    return
                self._report(event)
        if isinstance(result, FileResult):
            with closing(result.put_in_place()) as events:
                for event in events:
                    if self.abort_requested:
                        return
                    self._report(event)

    def _tell_filled(self) -> None:
        now = time.monotonic()
        if now - self._filled >= _FILL_EVERY:
            self._filled = now
            self.filled.emit()


class PreviewWorker(JobWorker["RestoredRegion"]):
    """Restores a region ahead of the run.

    Parameters
    ----------
    job
        See `JobWorker`.
    position, region
        As in `napari_swintormer.runs.job.Job.preview`.
    """

    def __init__(self, job: Job, position: Mapping[str, int], region: Region) -> None:
        super().__init__(job)
        self._position, self._region = position, region

    def work(self) -> RestoredRegion | None:
        """Restore the region; None after an abort."""
        with closing(self._restored()) as events:
            for event in events:
                if self.abort_requested:
                    return None
                self._report(event)
        self._remember_first_speed()
        return self._restored_region

    def _restored(self) -> Generator[Event, None, None]:
        self._restored_region = yield from self._job.preview(self._position, self._region)


class VariantsWorker(JobWorker[None]):
    """Restores a region by several jobs, one after the other.

    Parameters
    ----------
    jobs
        At least one, of the same image.
    position, region
        As in `napari_swintormer.runs.job.Job.preview`.
    """

    def __init__(self, jobs: Sequence[Job], position: Mapping[str, int], region: Region) -> None:
        super().__init__(jobs[0])
        self._jobs, self._position, self._region = jobs, position, region

    def work(self) -> None:
        """Restore the region again and again; what is made before an abort has been told."""
        for number, job in enumerate(self._jobs):
            with closing(self._restored(number, job)) as events:
                for event in events:
                    if self.abort_requested:
                        return
                    self._report(event)

    def _restored(self, number: int, job: Job) -> Generator[Event, None, None]:
        restored = yield from job.preview(self._position, self._region)
        self.made.emit(number, restored)
