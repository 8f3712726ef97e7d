"""The pair check and a training, each in a thread of its own."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from napari.qt.threading import WorkerBase, WorkerBaseSignals
from qtpy.QtCore import Signal

from napari_swintormer.events import Event, Notice, Progress, Trained
from napari_swintormer.training.train_settings import TrainSettings

_REPORT_EVERY = 0.1  # seconds; more signals than that only slow the viewer down


class CheckSignals(WorkerBaseSignals):
    """Signals of `CheckWorker`: those of every worker, and reports."""

    checked = Signal(object)


class CheckWorker(WorkerBase[None]):
    """Checks the pairs of a training one by one.

    Parameters
    ----------
    settings
        Of the training; the blur is not synthesized.
    """

    def __init__(self, settings: TrainSettings) -> None:
        super().__init__(SignalsClass=CheckSignals)
        self._settings = settings

    def work(self) -> None:
        """Report every pair of planes."""
        from napari_swintormer.training.data.check import iter_reports
        from napari_swintormer.training.loop.initial_model import list_images_of

        settings = self._settings
        pairs, unmatched = list(settings.pairs), list[str]()
        if not pairs:
            pairs, unmatched = list_images_of(settings)
        reports = iter_reports(
            pairs,
            unmatched,
            register=settings.register,
            match_intensity=settings.match_intensity,
        )
        for report in reports:
            if self.abort_requested:
                return
            self.checked.emit(report)


class TrainSignals(WorkerBaseSignals):
    """Signals of `TrainWorker`: those of every worker, progress, notices and lines of the log."""

    progressed = Signal(object)
    noticed = Signal(str)
    trained = Signal(object)


class TrainWorker(WorkerBase[None]):
    """Trains; `quit` stops after the step at hand.

    Parameters
    ----------
    settings
        Of the training.

    Attributes
    ----------
    made
        The weights file, as soon as there is one.
    keeps
        Whether the best weights of a training that is stopped become the model.
    """

    def __init__(self, settings: TrainSettings) -> None:
        super().__init__(SignalsClass=TrainSignals)
        self._settings = settings
        self._reported = 0.0
        self.made: Path | None = None
        self.keeps = True

    def work(self) -> None:
        """Train; torch is imported here, in the thread of the worker."""
        from napari_swintormer.training.loop.train import iter_train

        settings = self._settings
        with closing(iter_train(settings)) as events:
            for event in events:
                self._report(event)
                if self.abort_requested:
                    break
            else:
                self.made = settings.out
                return
        if self.keeps:  # stopped: the training has written a checkpoint and its weights
            self.made = keep_best(settings)

    def _report(self, event: Event) -> None:
        if isinstance(event, Notice):
            self.noticed.emit(event.message)
        elif isinstance(event, Trained):
            self.trained.emit(event)
        elif isinstance(event, Progress):
            now = time.monotonic()
            if event.done == event.total or now - self._reported >= _REPORT_EVERY:
                self._reported = now
                self.progressed.emit(event)


def keep_best(settings: TrainSettings) -> Path | None:
    """Make the best weights of a stopped training the model; None if it has not come so far."""
    from napari_swintormer.training.loop.trainer import BEST, LAST, put_in_place

    for name in (BEST, LAST):
        if (settings.run_folder / name).is_file():
            put_in_place(settings.run_folder / name, settings.out)
            return settings.out
    return None
