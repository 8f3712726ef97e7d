"""The Train panel: choose pairs, check them, train, and use the model at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.layers import Image
from qtpy.QtCore import QEvent, QTimer, Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import Trained
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.shared.closing import ClosingQuestion
from napari_swintormer.plugin.shared.form_area import FormArea
from napari_swintormer.plugin.shared.panel import Panel, open_panel
from napari_swintormer.plugin.shared.run_panel import RunPanel
from napari_swintormer.plugin.shared.style import button
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.plugin.train.curves import CurvePlot
from napari_swintormer.plugin.train.pair_table import PairTable
from napari_swintormer.plugin.train.train_form import TrainForm
from napari_swintormer.plugin.train.train_work import TrainWork, iter_check
from napari_swintormer.plugin.train.validation_picture import ValidationPicture
from napari_swintormer.settings.preferences import models_folder
from napari_swintormer.training.loop.saved_settings import load_settings
from napari_swintormer.training.train_settings import TrainSettings

_READY_DELAY = 150  # milliseconds without a change before the fields are judged


class TrainWidget(Panel):
    """Trains a model on the user's pairs, in a thread; opening this widget imports no torch.

    Attributes
    ----------
    form
        The fields; a script sets them, for example ``widget.form.steps.value = 500``.
    finished
        Signal: a training has ended or was paused, with its weights file or None.
    checked
        Signal: the check of the pairs has ended, with its reports.
    """

    finished = Signal(object)
    checked = Signal(object)

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self._closing = ClosingQuestion(self, self._question)
        self._hint = ""  # says what is missing, as long as it is shown
        self._trained_on: Image | None = None
        self.work, self.checking = TrainWork(self), Work(self)
        self.form = TrainForm(lambda: list(napari_viewer.layers), list_models)
        self.check_button = button(
            "Check pairs",
            "Look for shifted, swapped, damaged and mismatched pairs. This trains nothing.",
            lambda: self._if_ready(self.check),
        )
        self.table = PairTable()
        self.resume_button = button(
            "Resume a training …",
            "Continue a training that was stopped. Choose its folder, whose name ends in .run.",
            self._choose_run,
        )
        self.run_panel = self._make_run_panel()
        self.quality = CurvePlot("Validation PSNR", "dB")
        self.loss = CurvePlot("Training loss", digits=4)
        self.picture = ValidationPicture()
        self.use_model = button(
            "Deblur with it", "Open the Deblur panel with this model and the blurred image."
        )
        self.use_model.setObjectName("swintormer-run")
        self.use_model.clicked.connect(lambda *_: self.deblur_with_it())
        self.use_model.hide()
        self._ready_timer = QTimer(self, singleShot=True, interval=_READY_DELAY)
        self._lay_out()
        self.form.changed.connect(self._ready_timer.start)
        self._ready_timer.timeout.connect(self.update_ready)
        for work in (self.work, self.checking):
            work.said.connect(self._say)
        self.work.changed.connect(self._show_state)
        self.work.progressed.connect(self.run_panel.show_progress)
        self.work.trained.connect(self._show_trained)
        self.work.ended.connect(self._show_end)
        self.checking.changed.connect(self.update_ready)
        self.checking.ended.connect(self._end_check)
        self.update_ready()

    # ---- before a training -------------------------------------------------------------------

    def reset_choices(self, *_: Any) -> None:
        """List layers and models again; napari calls this when the layers change."""
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
        if message == self.form.name_problem.text():
            message = ""  # it stands below its field
        idle = not self._busy
        self.run_panel.run.setEnabled(settings is not None and idle)
        self.resume_button.setEnabled(idle)
        synthetic = settings is not None and settings.synthesize is not None
        self.check_button.setEnabled(settings is not None and idle and not synthetic)
        if idle and message != self._hint:
            self._say(message)
            self._hint = message
        return settings is not None

    @property
    def _busy(self) -> bool:
        return self.work.running or self.checking.running

    def _say(self, message: str, error: bool = False) -> None:
        self._hint = ""
        self.run_panel.show_message(message, error)

    def check(self) -> None:
        """Check the pairs, in a thread; the table shows them one by one."""
        if self._busy:
            return
        settings = self.form.settings()
        self.table.restart()
        self.checking.begin(partial(iter_check, settings), hear=self.table.add)
        self._say("Checking the pairs …")

    def _if_ready(self, begin: Callable[[], None]) -> None:
        if self.update_ready():
            begin()

    def _end_check(self, _: object) -> None:
        if self.table.reports:
            bad = any(report.bad for report in self.table.reports)
            self._say(self.table.summary(), error=bad)
        self.checked.emit(self.table.reports)

    # ---- a training --------------------------------------------------------------------------

    def run(self) -> None:
        """Start the training that the fields describe; do nothing if another one is running."""
        if not self._busy:
            self._start(self.form.settings())

    def stop(self) -> None:
        """Stop after the current step; the best weights become the model."""
        self.work.stop()
        for each in (self.run_panel.cancel, self.run_panel.pause):
            each.setEnabled(False)

    def pause(self) -> None:
        """Stop after the current step and free the memory; `resume` continues."""
        self.work.pause()
        self.run_panel.pause.setEnabled(False)

    def resume(self) -> None:
        """Continue the training that was paused or stopped last."""
        if not self._busy and self.work.settings is not None:
            self._start(dataclasses.replace(self.work.settings, resume=True))

    def resume_from(self, run_folder: str | Path) -> None:
        """Continue the training of a folder; one of layers uses the layers that are chosen now."""
        if not self._busy:
            self._start(load_settings(Path(run_folder), self.form.sources.pairs_of_layers()))

    def _choose_run(self) -> None:
        folder = QFileDialog.getExistingDirectory(
            self, "Folder of the training", str(models_folder())
        )
        if folder:
            try:
                self.resume_from(folder)
            except SwintormerError as error:
                self._say(str(error), error=True)

    def _start(self, settings: TrainSettings) -> None:
        before = self.work.settings
        if not settings.resume or before is None or settings.out != before.out:
            self.quality.restart(settings.steps)
            self.loss.restart(settings.steps)
        self._closing.watch()
        self._learning.show()
        self.use_model.hide()
        self._trained_on = self.form.sources.blurred_layer()
        self.work.start(settings)
        self.run_panel.progress_text.setText("Loading the model and finding the images …")

    def _show_state(self) -> None:
        running = self.work.running
        self.run_panel.set_running(
            running,
            pausable=running,
            resumable=self.work.resumable,
            paused=self.work.paused,
        )
        self.form.setEnabled(not running)
        self.update_ready()

    def _show_trained(self, event: Trained) -> None:
        self.loss.add(event.step, event.loss)
        if event.psnr is not None:
            self.quality.add(event.step, event.psnr, event.psnr_blurred)
        if event.picture is not None:
            self.picture.show_file(event.picture)

    def _show_end(self, made: Path | None) -> None:
        if made is not None:
            self.form.propose_name()  # the next training makes another model
        self.form.refresh()
        self.update_ready()
        usable = made is not None and made.parent == models_folder()
        self.use_model.setVisible(usable)
        if made is not None:
            self._say(self._made_message(made))
        elif self.work.paused:
            self._say("")
        elif self.work.stopped:
            self._say("Stopped before there were any weights.")
        self.finished.emit(made)

    def deblur_with_it(self) -> Any:
        """Open the Deblur panel at the new model and the blurred image; return its widget."""
        if self.work.settings is None:
            return None
        deblur = open_panel(self, "Deblur")
        if deblur is None:
            return None
        deblur.form.refresh()
        if self._trained_on is not None and self._trained_on in self._viewer.layers:
            deblur.form.image.value = self._trained_on
        deblur.form.model.value = self.work.settings.out.stem
        return deblur

    def _made_message(self, made: Path) -> str:
        stopped = "Stopped. " if self.work.stopped else ""
        gain = ""
        if self.quality.points:
            first = self.quality.points[0][1]
            best = max(value for _, value in self.quality.points)
            gain = f" Best validation: {best:.2f} dB, {best - first:+.2f} dB since the start."
        listed = made.parent == models_folder()  # a resumed training may lie elsewhere
        where = f"{made.stem} is in the list of models." if listed else f"Written to {made}."
        return f"{stopped}{where}{gain}"

    def _question(self) -> str:
        if not self.work.running:
            return ""
        return (
            "A training is running. Stop it? The best weights so far become the model, and you "
            "can resume the training later."
        )

    # ---- the window --------------------------------------------------------------------------

    def event(self, event: QEvent) -> bool:
        """Stop when the dock widget is closed: afterwards the user has no button to stop."""
        gone = event.type() == QEvent.Type.ParentChange and self.parent() is None
        if gone and self.work.running:
            self.stop()
        return bool(super().event(event))

    def _make_run_panel(self) -> RunPanel:
        panel = RunPanel()
        panel.preview.hide()
        panel.run.setText("Train")
        panel.cancel.setText("Stop")
        panel.run.clicked.connect(lambda *_: self._if_ready(self.run))
        panel.run.setToolTip("Train. The new model appears in every list.")
        panel.cancel.clicked.connect(self.stop)
        panel.cancel.setToolTip(
            "Stop after the current step. The best weights so far become the model,\n"
            "and you can resume the training later."
        )
        panel.pause.clicked.connect(self.pause)
        panel.pause.setToolTip("Stop after the current step and free the memory until you resume.")
        panel.resume.clicked.connect(self.resume)
        panel.resume.setToolTip("Continue to the same weights as a training without the stop.")
        return panel

    def _lay_out(self) -> None:
        self.column.addWidget(FormArea(self.form))
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.check_button)
        buttons.addWidget(self.resume_button)
        buttons.addStretch(1)
        self.column.addLayout(buttons)
        self.column.addWidget(self.table)
        self.column.addWidget(self.run_panel)
        self.column.addWidget(self.use_model)
        shown = QWidget()
        rows = QVBoxLayout(shown)
        rows.setContentsMargins(0, 0, 0, 0)
        for part in (self.picture, self.quality, self.loss):
            rows.addWidget(part)
        self._learning = FormArea(shown)  # scrolls in a low window
        self._learning.hide()  # until a training begins
        self.column.addWidget(self._learning)
        self.column.addStretch(1)
