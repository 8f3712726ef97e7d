"""The Train widget: choose pairs, check them, train, and use the model at once."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image
from napari.qt.threading import create_worker
from qtpy.QtCore import QEvent, QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import Progress, Trained
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur.run_panel import RunPanel
from napari_swintormer.plugin.shared.closing import ClosingQuestion
from napari_swintormer.plugin.shared.form_area import FormArea
from napari_swintormer.plugin.shared.style import style_sheet
from napari_swintormer.plugin.shared.wiring import attach, show_error
from napari_swintormer.plugin.train.curves import CurvePlot
from napari_swintormer.plugin.train.pair_table import PairTable
from napari_swintormer.plugin.train.train_form import TrainForm
from napari_swintormer.plugin.train.train_worker import CheckWorker, TrainWorker, keep_best
from napari_swintormer.settings.preferences import models_folder
from napari_swintormer.training.loop.checkpoint import FILE_NAME as CHECKPOINT
from napari_swintormer.training.loop.saved_settings import load_settings
from napari_swintormer.training.train_settings import TrainSettings

_PREVIEW = ("before", "after", "sharp")
_GAP = 16  # pixels between the preview and the images
_READY_DELAY = 150  # milliseconds without a change before the fields are judged


class TrainWidget(QWidget):
    """Trains a model further on the user's pairs, in a worker; opening it imports no torch.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget belongs to.

    Attributes
    ----------
    form
        The fields; a script sets them, for example ``widget.form.steps.value = 500``.
    finished
        Signal: a training has ended, with the weights file, or None if there is none.
    checked
        Signal: the pair check has ended, with its reports.
    """

    finished = Signal(object)
    checked = Signal(object)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._worker: TrainWorker | None = None
        self._settings: TrainSettings | None = None  # of the training at hand, or the last one
        self._paused = False
        self._checker: CheckWorker | None = None
        self._preview: list[Image] = []
        self._closing = ClosingQuestion(self, self._question)
        self._hint = ""  # what is missing, as long as it is shown
        self.form = TrainForm(lambda: list(napari_viewer.layers), list_models)
        self.check_button = QPushButton("Check pairs")
        self.check_button.setToolTip(
            "Look for shifted, swapped, damaged and mismatched pairs; trains nothing."
        )
        self.table = PairTable()
        self.resume_button = QPushButton("Resume a training …")
        self.resume_button.setToolTip(
            "Go on with a training that was stopped: choose its folder, whose name ends in .run."
        )
        self.run_panel = RunPanel()
        self.run_panel.preview.hide()
        self.run_panel.run.setText("Train")
        self.run_panel.run.setToolTip("Train; the new model appears in every list of models.")
        self.run_panel.cancel.setText("Stop")
        self.run_panel.cancel.setToolTip(
            "Stop after the step at hand. The best weights so far become the model,\n"
            "and the training can go on later."
        )
        self.run_panel.pause.setToolTip(
            "Stop after the step at hand and free the memory, until you resume."
        )
        self.run_panel.resume.setToolTip(
            "Go on where the training was, to the weights it would have had."
        )
        self.quality = CurvePlot("Validation PSNR", "dB")
        self.loss = CurvePlot("Training loss", digits=4)
        self._ready_timer = QTimer(self, singleShot=True, interval=_READY_DELAY)
        self._lay_out()
        self.form.changed.connect(self._ready_timer.start)
        self._ready_timer.timeout.connect(self.update_ready)
        self.check_button.clicked.connect(self._check_if_possible)
        self.run_panel.run.clicked.connect(self._run_if_possible)
        self.resume_button.clicked.connect(self._choose_run)
        self.run_panel.cancel.clicked.connect(self.stop)
        self.run_panel.pause.clicked.connect(self.pause)
        self.run_panel.resume.clicked.connect(self.resume)
        napari_viewer.events.theme.connect(self._use_theme)
        self._use_theme()
        self.update_ready()

    # ---- before a training -------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """List layers and models again; napari calls this when layers come, go or are renamed."""
        self.form.refresh()
        self._ready_timer.start()

    def update_ready(self) -> bool:
        """Enable the buttons if the fields describe a training; else say what is missing."""
        self._ready_timer.stop()
        try:
            settings: TrainSettings | None = self.form.settings()
            message = ""
        except SwintormerError as error:
            settings, message = None, str(error)
        idle = self._worker is None and self._checker is None
        self.run_panel.run.setEnabled(settings is not None and idle)
        self.resume_button.setEnabled(idle)
        synthetic = settings is not None and settings.synthesize is not None
        self.check_button.setEnabled(settings is not None and idle and not synthetic)
        if idle and message != self._hint:
            self._say(message)
            self._hint = message
        return settings is not None

    def _say(self, message: str) -> None:
        self._hint = ""
        self.run_panel.show_message(message)

    def check(self) -> None:
        """Check the pairs, in a worker; the table shows them one by one.

        Raises
        ------
        SwintormerError
            The fields do not describe pairs.
        """
        if self._checker is not None or self._worker is not None:
            return
        self.table.restart()
        self._checker = checker = CheckWorker(self.form.settings())
        checker.checked.connect(self.table.add)
        checker.errored.connect(self._show_error)
        checker.finished.connect(self._end_check)
        self.destroyed.connect(checker.quit)
        self._say("Checking the pairs …")
        self.update_ready()
        checker.start()

    def _check_if_possible(self) -> None:
        if self.update_ready():
            self.check()

    def _end_check(self) -> None:
        if self._checker is not None:
            self.destroyed.disconnect(self._checker.quit)
        self._checker = None
        if self.table.reports:
            bad = any(report.bad for report in self.table.reports)
            self.run_panel.show_message(self.table.summary(), error=bad)
        self.update_ready()
        self.checked.emit(self.table.reports)

    # ---- a training --------------------------------------------------------------------------

    def run(self) -> None:
        """Start the training that the fields describe.

        Does nothing while another one goes on.

        Raises
        ------
        SwintormerError
            The fields do not fit each other; one sentence says what would work.
        """
        if self._worker is not None or self._checker is not None:
            return
        self._start(self.form.settings())

    def resume(self) -> None:
        """Go on with the training that was paused or stopped last."""
        if self._worker is None and self._settings is not None:
            self._start(dataclasses.replace(self._settings, resume=True))

    def resume_from(self, run_folder: str | Path) -> None:
        """Go on with the training of a folder; one of layers takes those that are chosen now.

        Raises
        ------
        SwintormerError
            It is no such folder, or the images are not there.
        """
        if self._worker is None and self._checker is None:
            self._start(load_settings(Path(run_folder), self.form.sources.pairs_of_layers()))

    def _choose_run(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, "Folder of the training", str(models_folder())
        )
        if folder:
            try:
                self.resume_from(folder)
            except SwintormerError as error:
                self._show_error(error)

    def _start(self, settings: TrainSettings) -> None:
        if not settings.resume or settings.out != getattr(self._settings, "out", None):
            self.quality.restart(settings.steps)
            self.loss.restart(settings.steps)
        self._settings, self._paused = settings, False
        self._closing.watch()
        self._worker = worker = TrainWorker(settings)
        worker.progressed.connect(self._show_progress)
        worker.noticed.connect(self.run_panel.show_message)
        worker.trained.connect(self._show_trained)
        attach(worker, self, self._show_error, self._reset)
        self._say("")
        self.run_panel.set_running(True, pausable=True)
        self.run_panel.progress_text.setText("Checking the images …")
        self.form.setEnabled(False)
        self.check_button.setEnabled(False)
        self.resume_button.setEnabled(False)
        worker.start()

    def _run_if_possible(self) -> None:
        if self.update_ready():
            self.run()

    def stop(self) -> None:
        """Stop after the step at hand; the best weights so far become the model."""
        if self._worker is not None:
            self._worker.keeps = True
            self._worker.quit()
            for button in (self.run_panel.cancel, self.run_panel.pause):
                button.setEnabled(False)
            self.run_panel.show_message("Stopping after the step at hand …")
        elif self._paused and self._settings is not None:
            keeper = create_worker(keep_best, self._settings, _start_thread=False)
            keeper.returned.connect(self._end)
            keeper.errored.connect(self._show_error)
            keeper.start()

    def pause(self) -> None:
        """Stop after the step at hand and free the memory; `resume` goes on."""
        if self._worker is not None:
            self._worker.keeps = False
            self._worker.quit()
            self.run_panel.pause.setEnabled(False)
            self.run_panel.show_message("Pausing after the step at hand …")

    def _show_progress(self, event: Progress) -> None:
        self.run_panel.show_progress(event)

    def _show_trained(self, event: Trained) -> None:
        self.loss.add(event.step, event.loss)
        if event.psnr is not None:
            self.quality.add(event.step, event.psnr, event.psnr_blurred)
        if event.picture is not None:
            self._show_picture(event.picture)

    def _show_picture(self, file: Path) -> None:
        """Show a validation patch before and after; a layer that the user deletes stays away."""
        with open_image(file) as image:
            picture = np.asarray(image.data[...])
        parts = np.split(picture, len(_PREVIEW), axis=1)
        if not self._preview:
            side, rgb = picture.shape[0] + _GAP, picture.ndim == 3
            for k, (name, part) in enumerate(zip(_PREVIEW, parts, strict=True)):
                above = (-side, k * side)  # beside the images, not on them
                layer = Image(part, name=f"validation: {name}", rgb=rgb, translate=above)
                self._preview.append(layer)
                self._viewer.add_layer(layer)
            return
        for layer, part in zip(self._preview, parts, strict=True):
            if layer in self._viewer.layers:
                layer.data = part

    def _show_error(self, error: Exception) -> None:
        show_error(error, self.run_panel.show_message)

    def _reset(self) -> None:
        worker = self._worker
        assert worker is not None
        self.destroyed.disconnect(worker.quit)
        stopped = worker.abort_requested
        self._worker, self._paused = None, stopped and not worker.keeps and self._resumable()
        self._end(worker.made, stopped=stopped)

    def _resumable(self) -> bool:
        assert self._settings is not None
        return (self._settings.run_folder / CHECKPOINT).is_file()

    def _end(self, made: Path | None, *, stopped: bool = True) -> None:
        """Show what has come of a training that has ended, for now or for good."""
        self._paused = self._paused and made is None
        if not self._paused:
            self._preview = []
        resumable = stopped and self._resumable()
        self.run_panel.set_running(False, resumable=resumable, paused=self._paused)
        self.form.setEnabled(True)
        self.form.refresh()
        self.update_ready()
        if made is not None:
            self.run_panel.show_message(self._made_message(made, stopped))
        elif stopped:
            says = "" if self._paused else "Stopped before there were any weights."
            self.run_panel.show_message(says)
        self.finished.emit(made)

    def _question(self) -> str:
        if self._worker is None:
            return ""
        return (
            "A training is going on. Stop it? The best weights so far become the model, and it can "
            "be resumed."
        )

    def _made_message(self, made: Path, was_stopped: bool) -> str:
        stopped = "Stopped. " if was_stopped else ""
        gain = ""
        if self.quality.points:
            best = max(value for _, value in self.quality.points)
            first = self.quality.points[0][1]
            gain = f" Best validation: {best:.2f} dB, {best - first:+.2f} dB since its start."
        listed = made.parent == models_folder()  # a resumed one lies wherever it was begun
        where = f"{made.stem} is in the list of models." if listed else f"Written to {made}."
        return f"{stopped}{where}{gain}"

    # ---- the window --------------------------------------------------------------------------

    def event(self, event: QEvent) -> bool:
        """Stop when the dock widget is closed: nobody could stop it any more."""
        gone = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if gone and self._worker is not None:
            self.stop()
        return bool(super().event(event))

    def _use_theme(self, *_: Any) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(8)
        layout.addWidget(FormArea(self.form))
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.check_button)
        buttons.addWidget(self.resume_button)
        buttons.addStretch(1)
        layout.addLayout(buttons)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.run_panel)
        layout.addWidget(self.quality)
        layout.addWidget(self.loss)
