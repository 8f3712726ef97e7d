"""A run in a thread of its own, so that the viewer stays alive."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

from napari_swintormer.events import Event, Notice, Progress
from napari_swintormer.job import Job
from napari_swintormer.plugin.results import Result

_REPORT_EVERY = 0.1  # seconds; more signals than that only slow the viewer down


@dataclass(frozen=True)
class Outcome:
    """What a finished run hands over.

    Attributes
    ----------
    result
        The room that the deblurred image takes.
    shown
        The deblurred image as a layer shows it, see `Result.shown`.
    provenance
        How it was made.
    seconds
        How long it took.
    """

    result: Result
    shown: Any
    provenance: dict[str, Any]
    seconds: float


class DeblurSignals(WorkerBaseSignals):
    """Signals of `DeblurWorker`: those of every worker, progress and notices."""

    progressed = Signal(object)
    noticed = Signal(str)


class DeblurWorker(WorkerBase[Outcome | None]):
    """Runs a job; `quit` stops it after the batch of tiles at hand.

    Parameters
    ----------
    job
        Of `napari_swintormer.job.prepare`. Torch is imported and the model is loaded here, in the
        thread of the worker.
    shape
        Of the image.
    """

    def __init__(self, job: Job, shape: tuple[int, ...]) -> None:
        super().__init__(SignalsClass=DeblurSignals)
        self._job = job
        self._shape = shape
        self._reported = 0.0

    def work(self) -> Outcome | None:
        """Deblur; None after an abort, with nothing left behind."""
        start = time.monotonic()
        result = Result(self._job, self._shape)
        for events in (self._job.run(result.array), result.finishing()):
            with closing(events):
                for event in events:
                    if self.abort_requested:
                        return None
                    self._report(event)
        made = {"time": datetime.now(UTC).isoformat(timespec="seconds")}
        provenance = self._job.provenance() | made
        return Outcome(result, result.shown, provenance, time.monotonic() - start)

    def _report(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.noticed.emit(event.message)
        elif isinstance(event, Progress):
            now = time.monotonic()
            if event.done == event.total or now - self._reported >= _REPORT_EVERY:
                self._reported = now
                self.progressed.emit(event)
