"""The check of the pairs and the training, as `napari_swintormer.plugin.shared.work.Work`."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path

from qtpy.QtCore import QObject, Signal

from napari_swintormer.events import Event
from napari_swintormer.plugin.shared.work import Work, in_one_step
from napari_swintormer.training.data.check import PairReport
from napari_swintormer.training.loop.checkpoint import FILE_NAME as CHECKPOINT
from napari_swintormer.training.train_settings import TrainSettings


class TrainWork(Work):
    """Runs one training at a time; it can be paused, stopped and resumed.

    Attributes
    ----------
    settings
        Of the training that is running, or of the last one; None before the first.
    stopped
        Whether the last training ended before its last step.
    paused
        Whether the last training was paused, so that its weights are no model yet.
    trained
        Signal: a `Trained` event.
    """

    trained = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.settings: TrainSettings | None = None
        self.stopped = self.paused = False
        self._pausing = False
        self._kept: Path | None = None

    @property
    def resumable(self) -> bool:
        """Whether the last training was stopped and has a checkpoint to continue from."""
        if self.running or not self.stopped or self.settings is None:
            return False
        return (self.settings.run_folder / CHECKPOINT).is_file()

    def start(self, settings: TrainSettings) -> None:
        """Begin or resume a training. `ended` sends the weights file, or None."""
        self.settings = settings
        self.stopped = self.paused = self._pausing = False
        self.begin(partial(self._iter_train, settings), hear=self.trained.emit)

    def stop(self) -> None:
        """Stop after the current step; the best weights become the model."""
        if self.running:
            self._pausing = False
            self.cancel()
            self.said.emit("Stopping after the current step …", False)
        elif self.paused and self.settings is not None:
            self._pausing = False
            self.begin(in_one_step(partial(keep_best, self.settings)))

    def pause(self) -> None:
        """Stop after the current step and free the memory; no model is written."""
        if self.running:
            self._pausing = True
            self.cancel()
            self.said.emit("Pausing after the current step …", False)

    def _iter_train(self, settings: TrainSettings) -> Generator[Event, None, Path]:
        from napari_swintormer.training.loop.train import iter_train

        try:
            yield from iter_train(settings)
        except GeneratorExit:
            if not self._pausing:
                self._kept = keep_best(settings)
            raise
        return settings.out

    def _end(self, made: Path | None, *, aborted: bool) -> None:
        made, self._kept = made or self._kept, None
        self.stopped = aborted or self.paused  # the best weights of a paused training were kept
        self.paused = made is None and self.resumable and (self._pausing or self.paused)
        super()._end(made, aborted=aborted)


def keep_best(settings: TrainSettings) -> Path | None:
    """Copy the best weights of a stopped training to its weights file; None if there are none."""
    from napari_swintormer.training.loop.trainer import BEST, LAST, put_in_place

    for name in (BEST, LAST):
        if (settings.run_folder / name).is_file():
            put_in_place(settings.run_folder / name, settings.out)
            return settings.out
    return None


def iter_check(settings: TrainSettings) -> Generator[PairReport, None, None]:
    """Check the pairs of a training, plane by plane."""
    from napari_swintormer.training.data.dataset import check_settings

    yield from check_settings(settings)
