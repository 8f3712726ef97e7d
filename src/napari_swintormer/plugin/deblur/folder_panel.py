"""The button that deblurs a whole folder with the settings of the form."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from qtpy.QtWidgets import QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import Event, ImageBegun, Progress
from napari_swintormer.plugin.deblur.folder_dialog import FolderDialog
from napari_swintormer.plugin.shared.run_panel import ImageProgress
from napari_swintormer.plugin.shared.style import button, button_row
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.runs.folder import FolderRun
from napari_swintormer.settings.deblur_settings import DeblurSettings


class FolderPanel(QWidget):
    """Asks for a folder of images and a folder for the results, and starts the run.

    The end of its `work` sends True when every image has a result.
    """

    def __init__(
        self, settings: Callable[[], DeblurSettings], second_view_name: Callable[[], str | None]
    ) -> None:
        super().__init__()
        self._settings, self._second_view_name = settings, second_view_name
        self.dialog: FolderDialog | None = None  # the last one
        self.work = Work(self, on_cancel="Stopped. The same folders again continue the run.")
        self.choose = button(
            "Deblur a folder …",
            "Deblur every image of a folder with the settings above. The results go into\n"
            "another folder, under the same names. A dialog asks for both, and says how many\n"
            "images there are, how long it takes, and what is skipped.",
            self._choose_folders,
        )
        button_row(self, self.choose)

    def start(self, src: Path, dst: Path, second_view: Path | None = None) -> None:
        """Deblur the images of one folder into another; see `napari_swintormer.runs.folder`."""
        try:
            run = self._run(src, dst, second_view)
            run.files()
        except SwintormerError as error:
            self.work.said.emit(str(error), True)
            return
        self._begin(run)

    def _run(self, src: Path, dst: Path, second_view: Path | None) -> FolderRun:
        settings = replace(self._settings(), axes=None)  # each file knows its axes
        return FolderRun(src, dst, settings, second_view=second_view)

    def _begin(self, run: FolderRun) -> None:
        self.work.begin(partial(_iter_folder, run), take=self._announce)

    def _announce(self, _: None) -> bool:
        self.work.said.emit("Done: every image of the folder has a result.", False)
        return True

    def _choose_folders(self) -> None:
        self.dialog = FolderDialog(self, self._run, self._second_view_name())
        self.dialog.wanted.connect(self._begin)
        self.dialog.open()


def _iter_folder(run: FolderRun) -> Generator[Event, None, None]:
    """Run, and say of every progress which image it belongs to."""
    image: ImageBegun | None = None
    with closing(run.events()) as events:
        for event in events:
            if isinstance(event, ImageBegun):
                image = event
                yield _within(image, Progress(0, 1, "tiles", 0.0))
            elif not isinstance(event, Progress):
                yield event
            elif image is not None and event.unit != "images":
                yield _within(image, event)


def _within(image: ImageBegun, progress: Progress) -> ImageProgress:
    fields = asdict(progress)
    return ImageProgress(**fields, image=image.name, number=image.number, count=image.count)
