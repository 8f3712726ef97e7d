"""The runs of a widget: one at a time, others wait, and a stopped one can continue."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

from napari.components import ViewerModel
from napari.layers import Image
from napari.utils import progress
from qtpy.QtCore import QObject, Signal

from napari_swintormer.engine.kept_tiles import KeptTiles
from napari_swintormer.events import ChunkFinished, Progress
from napari_swintormer.plugin.deblur.deblur_events import Outcome, iter_run
from napari_swintormer.plugin.deblur.live_strength import keep_changes
from napari_swintormer.plugin.layers.deviation_layer import deviation_layer
from napari_swintormer.plugin.layers.file_result import FileResult
from napari_swintormer.plugin.layers.layer_data import LayerSource, show_brighter
from napari_swintormer.plugin.layers.layer_result import LayerResult
from napari_swintormer.plugin.layers.made_layers import add_above_source
from napari_swintormer.plugin.shared.run_panel import clock
from napari_swintormer.plugin.shared.work import Work, Worker
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.result_names import result_title

_DEVICES = {"cpu": "the CPU", "cuda": "the GPU", "xpu": "the Intel GPU", "mps": "the Apple GPU"}


_UNFINISHED: WeakKeyDictionary[Image, Run] = WeakKeyDictionary()
"""Runs whose layers are unfinished, without the layer; a panel opened later resumes them."""


@dataclass(eq=False)
class Run:
    """A run over one layer."""

    source: LayerSource
    job: Job
    record: dict[str, Any]  # as `napari_swintormer.plugin.deblur.scripts.run_record` returns it
    destination: Path | None = None  # file of the result; None for a layer
    result: LayerResult | FileResult | None = None  # from when the run has begun
    layer: Image | None = None  # with a destination, from when the file is complete
    worker: ReferenceType[Worker] | None = None  # the thread, from when the run has begun

    @property
    def alive(self) -> bool:
        """Whether its thread is still at work, maybe for a panel that was closed."""
        worker = None if self.worker is None else self.worker()
        return worker is not None and bool(worker.is_running)

    def equals(self, other: Run) -> bool:
        """Whether both make the same pixels, into the same place."""
        mine, its = (
            (run.source.layer_id, run.job.settings, run.destination, run.source.second_name)
            for run in (self, other)
        )
        return mine == its

    @property
    def complete(self) -> bool:
        """Whether the whole result is finished."""
        return self.result is not None and self.result.complete

    @property
    def title(self) -> str:
        """Name of the layer of the result."""
        return result_title(self.source.name, self.record["words"])

    def metadata(self, provenance: dict[str, Any]) -> dict[str, Any]:
        """Return ``metadata["swintormer"]`` of the layer."""
        return provenance | {"run": self.record, "complete": self.complete}


class Runs(Work):
    """Starts runs one after the other, and shows each result while it fills in.

    Tiles that previews have restored are taken over from `kept`.

    Attributes
    ----------
    stopped
        The run that `resume` continues, or None.
    paused
        Whether that run was paused. Waiting runs do not start during a pause.
    """

    opened = Signal(object)
    """The layer of a `Run` is in the viewer and begins to fill in."""

    def __init__(self, viewer: ViewerModel, parent: QObject, kept: KeptTiles) -> None:
        super().__init__(parent)
        self._viewer, self._kept = viewer, kept
        self._waiting: deque[Run] = deque()
        self._current: Run | None = None
        self._activity: progress | None = None
        self.stopped: Run | None = None
        self.paused = False
        self.progressed.connect(self._show_activity)
        viewer.layers.events.removed.connect(self._forget_layer)

    @property
    def n_waiting(self) -> int:
        """Number of runs that wait for the current one."""
        return len(self._waiting)

    def has(self, run: Run) -> bool:
        """Whether an equal run is going on, paused or waiting."""
        held = [self._current] if self.running else [self.stopped] if self.paused else []
        return any(run.equals(other) for other in (*held, *self._waiting) if other is not None)

    def start(self, run: Run) -> None:
        """Begin a run, or let it wait while another is running or paused."""
        if not self.running and not self.paused:
            self._begin_run(run)
            return
        self._waiting.append(run)
        other = "current" if self.running else "paused"
        waits = f"{run.source.name} waits for the {other} run (waiting: {self.n_waiting})."
        self.said.emit(waits, False)
        self.changed.emit()

    def adopt(self) -> None:
        """Offer to resume a run of a panel that was closed, if its layer is still there."""
        if self.running or self.stopped is not None:
            return
        for layer in self._viewer.layers:
            run = _UNFINISHED.get(layer) if isinstance(layer, Image) else None
            if run is not None and not run.alive and run.result and run.result.finished():
                self.stopped = replace(run, layer=layer)
                self.changed.emit()

    def resume(self) -> None:
        """Continue the run that was stopped."""
        run, self.stopped, self.paused = self.stopped, None, False
        if run is not None:
            self.start(run)

    def pause(self) -> None:
        """Stop after the current batch of tiles and free the device; waiting runs keep waiting."""
        if self.running:
            self.paused = True
            super().cancel()
            self.said.emit("Pausing after the current tiles …", False)

    def cancel(self) -> None:
        """Stop after the current batch of tiles, drop the waiting runs, keep what is finished."""
        self._waiting.clear()
        paused, self.paused = self.paused, False
        if self.running:
            super().cancel()
            self.said.emit("Stopping after the current tiles …", False)
        elif paused and self.stopped is not None:
            run, self.stopped = self.stopped, None
            self._keep_or_remove(run)
            self._say_what_is_kept()
            self.changed.emit()
            self.ended.emit(None)

    def _begin_run(self, run: Run) -> None:
        self._current, self.stopped = run, None
        self._activity = progress(total=run.job.plan.n_tiles, desc=f"Deblurring {run.source.name}")
        self.begin(
            partial(iter_run, run.job, run.source, run.result, run.destination, self._kept),
            take=partial(self._show_outcome, run),
            hear=partial(self._show_event, run),
        )
        run.worker = None if self._worker is None else ref(self._worker)

    # ---- during a run ------------------------------------------------------------------------

    def _show_activity(self, event: Progress) -> None:
        if self._activity is not None and event.unit in ("tiles", "iterations"):
            self._activity.total = event.total
            self._activity.update(event.done - self._activity.n)

    def _show_event(self, run: Run, event: Outcome | ChunkFinished) -> None:
        if isinstance(event, ChunkFinished):
            if run.layer is not None:
                run.layer.refresh(extent=False, highlight=False)
        elif not self.stopping:
            run.result = event.result
            settings = event.provenance["settings"]
            device = _DEVICES[settings["device"]]
            self.said.emit(f"{run.source.name}: on {device}, {settings['precision']}.", False)
            if run.layer is None and run.destination is None:
                self._add_layer(run, event)

    def _add_layer(self, run: Run, outcome: Outcome) -> None:
        made = run.metadata(outcome.provenance)
        run.layer = run.source.result_layer(outcome.result.shown, run.title, made)
        add_above_source(self._viewer.layers, run.layer)
        if not run.complete:
            _UNFINISHED[run.layer] = replace(run, layer=None)
        self.opened.emit(run)

    # ---- at the end of a run -----------------------------------------------------------------

    def _show_outcome(self, run: Run, outcome: Outcome) -> None:
        """Show the complete result."""
        if run.destination is not None:
            self._add_layer(run, outcome)
        if run.layer is None:
            return
        _UNFINISHED.pop(run.layer, None)
        keep_changes(run.layer, run.source, run.job, outcome.result)
        if outcome.result.shown_deviation is not None:
            self._add_deviation(run, outcome)
        run.layer.metadata = run.layer.metadata | {"swintormer": run.metadata(outcome.provenance)}
        if not run.job.counts_tiles:
            show_brighter(run.layer, run.source)
        run.layer.refresh()
        where = run.layer.name if run.destination is None else run.destination.name
        self.said.emit(f"Done in {clock(outcome.seconds)}: {where}", False)

    def _add_deviation(self, run: Run, outcome: Outcome) -> None:
        """Add the layer of the deviation; the result stays the active layer."""
        made = outcome.provenance | {"run": run.record}
        layer = deviation_layer(run.source, run.title, outcome.result.shown_deviation, made)
        add_above_source(self._viewer.layers, layer)
        self._viewer.layers.selection.active = run.layer

    def _end(self, made: Any, *, aborted: bool) -> None:
        run, self._current = self._current, None
        assert run is not None
        if self._activity is not None:
            self._activity.close()
            self._activity = None
        if self.paused and aborted and self._hold(run):
            self.said.emit("The memory of the device is free. Resume continues the run.", False)
            self.changed.emit()
            return
        self.paused = False
        layer = run.layer
        if run.result is not None and not run.complete:
            self._keep_or_remove(run)
            layer = None
        if aborted:
            self._say_what_is_kept()
        if self._waiting:
            self._begin_run(self._waiting.popleft())
        else:
            self.changed.emit()
        self.ended.emit(layer)

    def _say_what_is_kept(self) -> None:
        text = "What is finished is kept. Resume continues to the same result."
        if self.stopped is None:
            text = "Cancelled. The layers are as they were."
        self.said.emit(text, False)

    def _hold(self, run: Run) -> bool:
        """Keep a paused run for `resume`, unless it is complete or its layer was removed."""
        if run.complete or self._removed(run):
            return False
        if isinstance(run.result, FileResult) and not run.result.finished():
            run.result = None  # its empty file is gone, and `resume` starts a new one
        self.stopped = run
        return True

    def _keep_or_remove(self, run: Run) -> None:
        """Keep an unfinished run for `resume`; remove its layer if no part is finished."""
        if self._removed(run):
            return
        kept = run.result is not None and bool(run.result.finished())
        if kept:
            self.stopped = run
        if run.layer is not None:
            if kept:
                run.layer.refresh()
            else:
                self._viewer.layers.remove(run.layer)

    def _removed(self, run: Run) -> bool:
        """Whether the user removed the layer of a run."""
        return run.layer is not None and run.layer not in self._viewer.layers

    def _forget_layer(self, event: Any) -> None:
        """Stop a run when its layer is removed."""
        stopped, current = self.stopped, self._current
        if stopped is not None and stopped.layer is not None and event.value == stopped.layer:
            paused, self.stopped, self.paused = self.paused, None, False
            if paused and self._waiting:
                self._begin_run(self._waiting.popleft())
            self.changed.emit()
        if current is not None and event.value == current.layer:
            super().cancel()
