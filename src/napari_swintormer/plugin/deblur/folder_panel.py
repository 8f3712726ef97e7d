"""The button that deblurs a whole folder, with the settings of the form."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import Progress
from napari_swintormer.plugin.shared.wiring import attach, show_error
from napari_swintormer.plugin.shared.worker import EventWorker
from napari_swintormer.runs.folder import FolderRun
from napari_swintormer.settings.deblur_settings import DeblurSettings


class FolderWorker(EventWorker[bool]):
    """Deblurs a folder; `quit` stops it after the batch of tiles at hand.

    Parameters
    ----------
    run
        See there.
    """

    def __init__(self, run: FolderRun) -> None:
        super().__init__()
        self._run = run

    def work(self) -> bool:
        """Deblur; say whether it went to the end."""
        with closing(self._run.events()) as events:
            for event in events:
                if self.abort_requested:
                    return False
                self._report(event)
        return True


class FolderPanel(QWidget):
    """Asks for a folder of images and one for the results, and runs.

    Parameters
    ----------
    settings
        Gives the settings of the form.
    second_view_name
        Says what the second view of the chosen model shows; None for a model of one view.
    """

    changed = Signal()
    """A folder is being deblurred, or none."""
    progressed = Signal(object)
    said = Signal(str, bool)
    ended = Signal(bool)
    """Whether every image is made."""

    def __init__(
        self,
        settings: Callable[[], DeblurSettings],
        second_view_name: Callable[[], str | None],
    ) -> None:
        super().__init__()
        self._settings, self._second_view_name = settings, second_view_name
        self._worker: FolderWorker | None = None
        self._complete = False
        self.choose = QPushButton("Deblur a folder …")
        self.choose.setToolTip(
            "Deblur every image of a folder into files of the same names in another folder, with\n"
            "the settings above. Images whose results are there already are left out, so that a\n"
            "run that was stopped goes on when it is started again."
        )
        self.choose.clicked.connect(self._choose_folders)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.choose)

    @property
    def running(self) -> bool:
        """Whether a folder is being deblurred."""
        return self._worker is not None

    def start(self, src: Path, dst: Path, second_view: Path | None = None) -> None:
        """Deblur the images of the folder `src` into the folder `dst`; see `FolderRun`."""
        settings = replace(self._settings(), axes=None)  # as each file says
        run = FolderRun(src, dst, settings, second_view=second_view)
        try:
            run.files()
        except SwintormerError as error:
            self.said.emit(str(error), True)
            return
        self._complete = False
        self._worker = worker = FolderWorker(run)
        worker.progressed.connect(self._show_progress)
        worker.noticed.connect(lambda sentence: self.said.emit(sentence, False))
        worker.returned.connect(self._take)
        attach(worker, self, lambda error: show_error(error, self.said.emit), self._reset)
        self.changed.emit()
        worker.start()

    def cancel(self) -> None:
        """Stop after the batch of tiles at hand; the same folders again go on from there."""
        if self._worker is not None:
            self._worker.quit()
            self.said.emit("Stopped. The same folders again go on from there.", False)

    def _choose_folders(self) -> None:
        shows = self._second_view_name()
        asked = ["Folder of blurred images", "Folder for the results"]
        if shows is not None:
            asked.insert(1, f"Folder of the {shows} views, under the same names")
        folders: list[str] = []
        for what in asked:
            folders.append(QFileDialog.getExistingDirectory(self, what, *folders[-1:]))
            if not folders[-1]:
                return
        src, *second_view, dst = map(Path, folders)
        self.start(src, dst, *second_view)

    def _show_progress(self, event: Progress) -> None:
        if event.unit != "images":  # the lines said tell which image it is
            self.progressed.emit(event)

    def _take(self, complete: bool) -> None:
        self._complete = complete
        if complete:
            self.said.emit("Done: every image of the folder is made.", False)

    def _reset(self) -> None:
        if self._worker is None:
            return
        self.destroyed.disconnect(self._worker.quit)
        self._worker = None
        self.changed.emit()
        self.ended.emit(self._complete)
