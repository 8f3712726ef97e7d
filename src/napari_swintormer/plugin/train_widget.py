"""The Train widget: choose pairs, check them, train, and use the model at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import napari
import numpy as np
from napari.layers import Image
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QEvent, Qt, QTimer, Signal
from qtpy.QtWidgets import QPushButton, QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import Progress, Trained
from napari_swintormer.imaging.files import open_image
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.curves import CurvePlot
from napari_swintormer.plugin.form_area import FormArea
from napari_swintormer.plugin.pair_table import PairTable
from napari_swintormer.plugin.run_panel import RunPanel
from napari_swintormer.plugin.style import style_sheet
from napari_swintormer.plugin.train_form import TrainForm
from napari_swintormer.plugin.train_worker import CheckWorker, TrainWorker
from napari_swintormer.training.settings import TrainSettings

_PREVIEW = "validation: blurred | restored | sharp"
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
        self._checker: CheckWorker | None = None
        self._preview: Image | None = None
        self._hint = ""  # what is missing, as long as it is shown
        self.form = TrainForm(lambda: list(napari_viewer.layers), list_models)
        self.check_button = QPushButton("Check pairs")
        self.check_button.setToolTip(
            "Look for shifted, swapped, damaged and mismatched pairs; trains nothing."
        )
        self.table = PairTable()
        self.run_panel = RunPanel()
        self.run_panel.run.setText("Train")
        self.run_panel.run.setToolTip("Train; the new model appears in every list of models.")
        self.run_panel.cancel.setText("Stop")
        self.run_panel.cancel.setToolTip(
            "Stop after the step at hand. The best weights so far become the model,\n"
            "and the training can go on later."
        )
        self.quality = CurvePlot("Validation PSNR", "dB")
        self.loss = CurvePlot("Training loss", digits=4)
        self._ready_timer = QTimer(self, singleShot=True, interval=_READY_DELAY)
        self._lay_out()
        self.form.changed.connect(self._ready_timer.start)
        self._ready_timer.timeout.connect(self.update_ready)
        self.check_button.clicked.connect(self._check_if_possible)
        self.run_panel.run.clicked.connect(self._run_if_possible)
        self.run_panel.cancel.clicked.connect(self.stop)
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
        synthetic = settings is not None and settings.synthesize is not None
        self.check_button.setEnabled(settings is not None and idle and not synthetic)
        if idle and (message or self._hint):
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
        settings = self.form.settings()
        self.quality.restart(settings.steps)
        self.loss.restart(settings.steps)
        self._worker = worker = TrainWorker(settings)
        worker.progressed.connect(self._show_progress)
        worker.noticed.connect(self.run_panel.show_message)
        worker.trained.connect(self._show_trained)
        worker.errored.connect(self._show_error)
        worker.warned.connect(_relay_warning)
        worker.finished.connect(self._reset)
        self.destroyed.connect(worker.quit)  # the viewer was closed
        self._say("")
        self.run_panel.set_running(True)
        self.run_panel.progress_text.setText("Checking the images …")
        self.form.setEnabled(False)
        self.check_button.setEnabled(False)
        worker.start()

    def _run_if_possible(self) -> None:
        if self.update_ready():
            self.run()

    def stop(self) -> None:
        """Stop after the step at hand; the best weights so far become the model."""
        if self._worker is not None:
            self._worker.quit()
            self.run_panel.cancel.setEnabled(False)
            self.run_panel.show_message("Stopping after the step at hand …")

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
        if self._preview is None:
            above = (-picture.shape[0] - _GAP, 0)  # beside the images, not on them
            rgb = picture.ndim == 3
            self._preview = Image(picture, name=_PREVIEW, rgb=rgb, translate=above)
            self._viewer.add_layer(self._preview)
        elif self._preview in self._viewer.layers:
            self._preview.data = picture

    def _show_error(self, error: Exception) -> None:
        if isinstance(error, SwintormerError):
            self.run_panel.show_message(str(error), error=True)
        else:  # not the user's mistake: napari shows the traceback on demand
            self.run_panel.show_message(f"{type(error).__name__}: {error}", error=True)
            notification_manager.receive_error(type(error), error, error.__traceback__)

    def _reset(self) -> None:
        made = None
        if self._worker is not None:
            self.destroyed.disconnect(self._worker.quit)
            made = self._worker.made
            if made is not None:
                self.run_panel.show_message(self._made_message(made))
            elif self._worker.abort_requested:
                self.run_panel.show_message("Stopped before there were any weights.")
        stopped = self._worker is not None and self._worker.abort_requested
        self._worker = self._preview = None
        self.run_panel.set_running(False)
        self.form.setEnabled(True)
        self.form.resume.value = stopped
        self.form.refresh()
        self.update_ready()
        self.finished.emit(made)

    def _made_message(self, made: Path) -> str:
        assert self._worker is not None
        stopped = "Stopped. " if self._worker.abort_requested else ""
        gain = ""
        if self.quality.points:
            best = max(value for _, value in self.quality.points)
            first = self.quality.points[0][1]
            gain = f" Best validation: {best:.2f} dB, {best - first:+.2f} dB since its start."
        return f"{stopped}{made.stem} is in the list of models.{gain}"

    # ---- the window --------------------------------------------------------------------------

    def event(self, event: QEvent) -> bool:
        """Stop when the dock widget is closed: nobody could stop it any more."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self.stop()
        return bool(super().event(event))

    def _use_theme(self, *_: Any) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))

    def _lay_out(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(8)
        layout.addWidget(FormArea(self.form))
        layout.addWidget(self.check_button, alignment=Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.run_panel)
        layout.addWidget(self.quality)
        layout.addWidget(self.loss)


def _relay_warning(arguments: tuple[Any, ...]) -> None:
    notification_manager.receive_warning(*arguments)
