"""The runs of a widget: one at a time, the others wait; one that was stopped can go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.components import ViewerModel
from napari.layers import Image
from napari.utils import progress
from qtpy.QtCore import QObject, Signal

from napari_swintormer.events import Progress
from napari_swintormer.plugin.deblur.run_panel import clock
from napari_swintormer.plugin.layers.deviation_layer import deviation_layer
from napari_swintormer.plugin.layers.file_result import FileResult
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.layer_result import LayerResult
from napari_swintormer.plugin.shared.wiring import attach, show_error
from napari_swintormer.plugin.shared.worker import DeblurWorker, Outcome
from napari_swintormer.runs.job import Job


@dataclass(eq=False)
class Run:
    """A run over one layer.

    Attributes
    ----------
    source, job
        What is deblurred, and how.
    record
        Of `napari_swintormer.plugin.deblur.scripts.run_record`.
    destination
        File that the result goes to; None for a layer that is kept in memory or in the cache.
    result
        Once the run has begun.
    layer
        Shows the result; that of a file is there when the file is.
    """

    source: LayerSource
    job: Job
    record: dict[str, Any]
    destination: Path | None = None
    result: LayerResult | FileResult | None = None
    layer: Image | None = None


class Runs(QObject):
    """Starts runs one after the other, and shows each result while it fills in.

    Parameters
    ----------
    viewer
        Gets the layers.

    Attributes
    ----------
    stopped
        The run that `resume` goes on with, or None.
    paused
        Whether that run was paused: then those that wait go on waiting.
    """

    changed = Signal()
    """Another run is going on, or none, or the one that was stopped has gone."""
    opened = Signal(object)
    """The layer of a `Run` is there and begins to fill in."""
    progressed = Signal(object)
    said = Signal(str, bool)
    """Something to tell the user; whether it is an error."""
    ended = Signal(object)
    """A run has ended: the layer that is complete, or None."""

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._waiting: deque[Run] = deque()
        self._current: Run | None = None
        self._worker: DeblurWorker | None = None
        self._activity: progress | None = None
        self.stopped: Run | None = None
        self.paused = False
        viewer.layers.events.removed.connect(self._forget_layer)

    @property
    def running(self) -> bool:
        """Whether a run goes on."""
        return self._worker is not None

    @property
    def n_waiting(self) -> int:
        """How many runs wait for the one that goes on."""
        return len(self._waiting)

    def start(self, run: Run) -> None:
        """Begin a run, or let it wait for the one that goes on or is paused."""
        if self._worker is None and not self.paused:
            self._begin(run)
            return
        self._waiting.append(run)
        other = "the run that is paused" if self._worker is None else "the run that goes on"
        self.said.emit(f"{run.source.name} waits for {other} (waiting: {self.n_waiting}).", False)
        self.changed.emit()

    def resume(self) -> None:
        """Go on with the run that was stopped."""
        run, self.stopped = self.stopped, None
        self.paused = False
        if run is not None:
            self.start(run)

    def pause(self) -> None:
        """Stop after the batch of tiles at hand and free the device; what waits goes on waiting."""
        if self._worker is not None:
            self.paused = True
            self._worker.quit()
            self.said.emit("Pausing after the tiles at hand …", False)

    def cancel(self) -> None:
        """Stop after the batch of tiles at hand; what waits is dropped, what is finished stays."""
        self._waiting.clear()
        paused, self.paused = self.paused, False
        if self._worker is not None:
            self._worker.quit()
            self.said.emit("Stopping after the tiles at hand …", False)
        elif paused and self.stopped is not None:
            run, self.stopped = self.stopped, None
            self._keep_or_remove(run)
            self._say_what_is_kept()
            self.changed.emit()
            self.ended.emit(None)

    def _begin(self, run: Run) -> None:
        self._current, self.stopped = run, None
        self._activity = progress(total=run.job.plan.n_tiles, desc=f"Deblurring {run.source.name}")
        self._worker = worker = DeblurWorker(run.job, run.source, run.result, run.destination)
        worker.progressed.connect(self._show_progress)
        worker.noticed.connect(self._say)
        worker.opened.connect(self._show_layer)
        worker.filled.connect(self._refresh)
        worker.returned.connect(self._take_outcome)
        attach(worker, self, self._show_error, self._reset)
        self.said.emit("", False)
        self.changed.emit()
        worker.start()

    # ---- what the worker tells ---------------------------------------------------------------

    def _show_progress(self, event: Progress) -> None:
        if self._activity is not None and event.unit == "tiles":
            self._activity.update(event.done - self._activity.n)
        self.progressed.emit(event)

    def _show_layer(self, outcome: Outcome) -> None:
        run = self._current
        if run is None or self._worker is None or self._worker.abort_requested:
            return
        run.result = outcome.result
        settings = outcome.provenance["settings"]
        device = {"cpu": "the CPU", "cuda": "the NVIDIA GPU", "mps": "the Apple GPU"}
        self._say(f"{run.source.name}: on {device[settings['device']]}, {settings['precision']}.")
        if run.layer is None and run.destination is None:
            self._add_layer(run, outcome.result, outcome.provenance)

    def _add_layer(
        self, run: Run, result: LayerResult | FileResult, provenance: Mapping[str, Any]
    ) -> None:
        made = dict(provenance) | {"run": run.record, "complete": result.complete}
        run.layer = run.source.result_layer(result.shown, made)
        self._viewer.add_layer(run.layer)
        self.opened.emit(run)

    def _add_deviation(self, run: Run, outcome: Outcome) -> None:
        """Add what the samples differ by; the result stays the layer in hand."""
        data = outcome.result.shown_deviation
        if data is None:
            return
        made = outcome.provenance | {"run": run.record}
        self._viewer.add_layer(deviation_layer(run.source, data, made))
        if run.layer is not None:
            self._viewer.layers.selection.active = run.layer

    def _say(self, sentence: str) -> None:
        self.said.emit(sentence, False)

    def _refresh(self) -> None:
        if self._current is not None and self._current.layer is not None:
            self._current.layer.refresh(extent=False, highlight=False)

    def _take_outcome(self, outcome: Outcome) -> None:
        """Show the complete result, or what is finished of it."""
        run = self._current
        if run is not None and run.destination is not None and outcome.result.complete:
            self._add_layer(run, outcome.result, outcome.provenance)
        if run is not None and outcome.result.complete:
            self._add_deviation(run, outcome)
        if run is None or run.layer is None:
            return
        made = outcome.provenance | {"run": run.record, "complete": outcome.result.complete}
        run.layer.metadata = run.layer.metadata | {"swintormer": made}
        run.layer.refresh()
        if outcome.result.complete:
            where = run.layer.name if run.destination is None else run.destination.name
            text = f"Done in {clock(outcome.seconds)}: {where}"
            self.said.emit(text, False)

    def _show_error(self, error: Exception) -> None:
        show_error(error, self.said.emit)

    def _reset(self) -> None:
        worker, run = self._worker, self._current
        if worker is None or run is None:
            return
        self.destroyed.disconnect(worker.quit)
        self._worker = self._current = None
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        if self.paused and worker.abort_requested and self._hold(run):
            self.said.emit("The memory of the device is free; Resume goes on.", False)
            self.changed.emit()
            return
        self.paused = False
        layer = run.layer
        if run.result is not None and not run.result.complete:
            self._keep_or_remove(run)
            layer = None
        if worker.abort_requested:
            self._say_what_is_kept()
        if self._waiting:
            self._begin(self._waiting.popleft())
        else:
            self.changed.emit()
        self.ended.emit(layer)

    def _say_what_is_kept(self) -> None:
        kept = self.stopped is not None
        self.said.emit(
            "What is finished is kept; Resume goes on to the same result."
            if kept
            else "Cancelled. The layers are as they were.",
            False,
        )

    def _hold(self, run: Run) -> bool:
        """Keep a run for `resume`, also where nothing of it is finished; say whether it is wanted.

        It is not where its layer was removed, or it has just become complete.
        """
        if run.result is not None and run.result.complete:
            return False
        if run.layer is not None and run.layer not in self._viewer.layers:
            return False
        if isinstance(run.result, FileResult) and not run.result.finished():
            run.result = None  # its file has been removed; the next begins anew
        self.stopped = run
        return True

    def _keep_or_remove(self, run: Run) -> None:
        """Keep what an unfinished run has made, or remove the layer where that is nothing."""
        if run.layer is not None and run.layer not in self._viewer.layers:
            return  # removed by the user
        kept = run.result is not None and bool(run.result.finished())
        if kept:
            self.stopped = run
        if run.layer is not None:
            if kept:
                run.layer.refresh()
            else:
                self._viewer.layers.remove(run.layer)

    def _forget_layer(self, event: Any) -> None:
        """Stop a run whose result is not wanted any more."""
        if (
            self.stopped is not None
            and self.stopped.layer is not None
            and event.value == self.stopped.layer
        ):
            self.stopped, paused = None, self.paused
            self.paused = False
            if paused and self._waiting:
                self._begin(self._waiting.popleft())
            self.changed.emit()
        if (
            self._worker is not None
            and self._current is not None
            and event.value == self._current.layer
        ):
            self._worker.quit()
