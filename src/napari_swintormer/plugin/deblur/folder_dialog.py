"""The dialog before a run over a folder: the folders, the time, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from magicgui.widgets import LineEdit
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QDialog, QDialogButtonBox, QFileDialog, QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import Progress
from napari_swintormer.plugin.shared.form_area import FormArea
from napari_swintormer.plugin.shared.style import (
    add_row,
    button,
    form_layout,
    show_text,
    text_label,
)
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.runs.folder import FolderRun
from napari_swintormer.runs.folder_survey import FolderSurvey, iter_survey

_WIDTH, _HEIGHT = 520, 320  # pixels
_STILL = 400  # milliseconds after which a field counts as still


class FolderDialog(QDialog):
    """Asks for the folders, and says what the run is going to do.

    Parameters
    ----------
    parent
        The panel that the dialog belongs to.
    make_run
        Makes the run of the folder of the images, that of the results and that of the second views.
    second_view
        What the second views show; None for a model of one view.
    """

    wanted = Signal(object)
    """The `FolderRun` that the user wants."""

    def __init__(
        self,
        parent: QWidget,
        make_run: Callable[[Path, Path, Path | None], FolderRun],
        second_view: str | None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Deblur a folder")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._make_run = make_run
        self._run: FolderRun | None = None
        self.work = Work(self)
        self.src = LineEdit(label="Images", tooltip="Folder of the blurred images.")
        view = f"Folder of the {second_view} views, under the names of the images."
        self.second = LineEdit(label="Other views", tooltip=view)
        self.dst = LineEdit(label="Results", tooltip="Folder of the results. It is made if needed.")
        self.facts, self.details = text_label("message"), text_label("caption")
        form = form_layout()
        for field in (self.src, *([self.second] if second_view else []), self.dst):
            choose = button("…", field.tooltip or "", partial(self._choose, field))
            choose.setFixedWidth(30)
            label = add_row(form, field.label, field, beside=choose)
            label.setFixedWidth(80)
            field.changed.connect(self._wait)
        self._two_views = second_view is not None
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Cancel)
        self.begin = button("Deblur", "Deblur these images with the settings of the panel.")
        self.begin.setObjectName("swintormer-run")
        buttons.addButton(self.begin, QDialogButtonBox.ButtonRole.AcceptRole)
        buttons.accepted.connect(self._accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        layout.addWidget(self.facts)
        layout.addWidget(FormArea(self.details, least=60))
        layout.addStretch(1)
        layout.addWidget(buttons)
        self.resize(_WIDTH, _HEIGHT)
        self._timer = QTimer(self, singleShot=True, interval=_STILL)
        self._timer.timeout.connect(self._look)
        self.work.said.connect(self._say)
        self.work.progressed.connect(self._show_progress)
        self.work.ended.connect(self._show_survey)
        self.finished.connect(self.work.cancel)
        self._look()

    def _choose(self, field: LineEdit) -> None:
        start = str(field.value or self.src.value)
        folder = QFileDialog.getExistingDirectory(self, field.tooltip or "", start)
        if folder:
            field.value = folder
            if field is self.src and not self.dst.value:
                self.dst.value = f"{folder}-deblurred"

    def _wait(self, *_: object) -> None:
        self._run = None
        self.begin.setEnabled(False)
        self._timer.start()

    def _look(self) -> None:
        """List the images of the folders; then look at each of them."""
        self._timer.stop()
        if self.work.running:
            self.work.cancel()
            self._timer.start()  # when the last survey has stopped
            return
        self.begin.setEnabled(False)
        self.begin.setText("Deblur")
        show_text(self.details, "", "caption")
        folders = [str(field.value).strip() for field in (self.src, self.dst, self.second)]
        if not folders[0] or not folders[1] or (self._two_views and not folders[2]):
            self._say("Choose the folders. Nothing is written before you press Deblur.", False)
            return
        src, dst, second = (Path(folder).expanduser() for folder in folders)
        try:
            run = self._make_run(src, dst, second if self._two_views else None)
            run.files()
        except SwintormerError as error:
            self._say(str(error), True)
            return
        self._run = run
        self.begin.setEnabled(True)  # also before all images are looked at
        self.work.begin(partial(iter_survey, run))

    def _show_progress(self, event: Progress) -> None:
        self._say(f"Looking at image {event.done:,} of {event.total:,} …", False)

    def _show_survey(self, survey: FolderSurvey | None) -> None:
        if survey is None or self._run is None:
            return
        count = survey.n_images
        self.begin.setText(f"Deblur {count:,} image{'s' * (count != 1)}")
        self.begin.setEnabled(count > 0)
        first, *others = survey.sentences()
        self._say(first, False)
        show_text(self.details, "\n".join(others), "caption")

    def _say(self, text: str, error: bool) -> None:
        show_text(self.facts, text, "error" if error else "message")

    def _accept(self) -> None:
        if self._run is not None:
            self.wanted.emit(self._run)
        self.accept()
