"""The Models widget: which models there are, what each is good for, and keeping them in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import napari
from napari.qt.threading import FunctionWorker, create_worker
from qtpy.QtCore import QMimeData, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent, QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_swintormer.errors import SwintormerError
from napari_swintormer.models.catalogue import (
    ModelInfo,
    delete_model,
    export_model,
    import_model,
    list_models,
    rename_model,
)
from napari_swintormer.models.files.kinds import MODEL_SUFFIXES, detect, has_model_suffix
from napari_swintormer.plugin.models.model_card import ModelCardView
from napari_swintormer.plugin.shared.form_area import FormArea
from napari_swintormer.plugin.shared.style import set_role, style_sheet, text_label
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL
from napari_swintormer.settings.preferences import models_folder

_KINDS = f"Models ({' '.join(f'*{suffix}' for suffix in MODEL_SUFFIXES)})"
_OWN_KIND = "Weights (*.safetensors);;BioImage Model Zoo (*.zip)"


class ModelsWidget(QWidget):
    """Lists the models of the catalogue with their cards; adds, exports, renames and deletes.

    Built-in models are never renamed or deleted.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget belongs to.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self._worker: FunctionWorker[Path] | None = None
        self.list = QListWidget()
        self.list.setToolTip("Built-in models, and files in the models folder.")
        self.card = ModelCardView()
        self._dropped: list[Path] = []
        self.setAcceptDrops(True)
        self.add = QPushButton("Add model …")
        self.add.setToolTip(
            "Check a weights file and copy it into the models folder.\n"
            "Files can also be dropped here."
        )
        self.open_folder = QPushButton("Open folder")
        self.open_folder.setToolTip("Files copied into this folder are models at once.")
        self.export = QPushButton("Export …")
        self.export.setToolTip("Copy this model to a file, to give it to others.")
        self.rename = QPushButton("Rename …")
        self.rename.setToolTip("Give this model of yours another name.")
        self.delete = QPushButton("Delete …")
        self.delete.setToolTip("Delete this model of yours, after a question.")
        self.message = text_label("message")
        self._lay_out()
        self.list.currentItemChanged.connect(self._show_current)
        self.card.said.connect(lambda text, error: self._say(text, error=error))
        self.add.clicked.connect(self._choose_file)
        self.open_folder.clicked.connect(_show_folder)
        self.export.clicked.connect(self._choose_target)
        self.rename.clicked.connect(self._ask_name)
        self.delete.clicked.connect(self._ask_delete)
        napari_viewer.events.theme.connect(self._use_theme)
        self._use_theme()
        self._say("")
        self.refresh()

    def refresh(self, select: str = DEFAULT_MODEL) -> None:
        """List the models again.

        Parameters
        ----------
        select
            Name of the model to show.
        """
        self.list.clear()
        for info in list_models():
            item = QListWidgetItem(info.name)
            item.setData(Qt.ItemDataRole.UserRole, info)
            self.list.addItem(item)
            if info.name == select or self.list.count() == 1:
                self.list.setCurrentItem(item)

    def add_model(self, file: str | Path) -> None:
        """Check a weights file and copy it into the models folder, in a worker: it needs torch.

        Parameters
        ----------
        file
            Weights of this package, of the released code or of a network of others; or a program,
            which is run only if the user says so.
        """
        program = detect(Path(file)).is_program
        if program and not self._trusts(file):
            self._say("Not added: programs are run only if you trust them.", error=True)
            return
        add = partial(import_model, run_code=program)
        self._work("Checking the file …", self._show_added, add, file)

    def export_model(self, target: str | Path, *, overwrite: bool = False) -> None:
        """Copy the model that is shown to a file, in a worker: checking it needs torch.

        Parameters
        ----------
        target
            File to write, ending in ``.safetensors``, or in ``.zip`` for the BioImage Model Zoo.
        overwrite
            Replace what is there.
        """
        name = self.list.currentItem().text()
        export = partial(export_model, overwrite=overwrite)
        self._work("Writing the file …", self._show_exported, export, name, target)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """List the models again: files may have been copied into the folder."""
        current = self.list.currentItem()
        self.refresh(DEFAULT_MODEL if current is None else current.text())
        super().showEvent(event)

    def _choose_file(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "Add a model", "", _KINDS)
        if file:
            self.add_model(file)

    def _trusts(self, file: str | Path) -> bool:
        """Ask whether the code in a program may run."""
        question = (
            f"{Path(file).name} is a program (TorchScript or exported). Adding and using it runs "
            "code of whoever made it, with all your rights on this computer.\n\nDo you trust it?"
        )
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return bool(QMessageBox.question(self, "Run code?", question, yes | no, no) == yes)

    def _choose_target(self) -> None:
        proposed = f"{self.list.currentItem().text()}.safetensors"
        file, _ = QFileDialog.getSaveFileName(self, "Export a model", proposed, _OWN_KIND)
        if file.endswith((".safetensors", ".zip")):  # the dialog has asked whether to replace it
            self.export_model(file, overwrite=True)
        elif file:
            self.export_model(f"{file}.safetensors")

    def _ask_name(self) -> None:
        name = self.list.currentItem().text()
        new_name, said_yes = QInputDialog.getText(self, "Rename", f"New name of {name}:", text=name)
        if not said_yes or new_name == name:
            return
        try:
            rename_model(name, new_name)
        except SwintormerError as error:
            self._show_error(error)
            return
        self.refresh(new_name)
        self._say(f"Renamed {name} to {new_name}.")

    def _ask_delete(self) -> None:
        info: ModelInfo = self.list.currentItem().data(Qt.ItemDataRole.UserRole)
        question = f"Delete the model {info.name} for good?\n\n{info.path}"
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        if QMessageBox.question(self, "Delete a model", question, yes | no, no) != yes:
            return
        try:
            delete_model(info.name)
        except SwintormerError as error:
            self._show_error(error)
            return
        self.refresh()
        self._say(f"Deleted {info.name}.")

    def _work(
        self, doing: str, then: Callable[[Path], None], function: Callable[..., Path], *args: Any
    ) -> None:
        """Read and write a weights file in a worker; one at a time."""
        self._say(doing)
        self._worker = create_worker(function, *args, _start_thread=False, _ignore_errors=True)
        self._worker.returned.connect(then)
        self._worker.errored.connect(self._show_error)
        self._worker.finished.connect(self._reset)
        self._enable_buttons()
        self._worker.start()

    def _show_added(self, path: Path) -> None:
        self._say(f"Added {path.stem}.")
        self.refresh(path.stem)

    def _show_exported(self, path: Path) -> None:
        self._say(f"Written to {path}.")

    def _show_error(self, error: Exception) -> None:
        known = isinstance(error, SwintormerError)
        self._say(str(error) if known else f"{type(error).__name__}: {error}", error=True)

    def _reset(self) -> None:
        self._worker = None
        self._enable_buttons()
        self._add_dropped()

    def _enable_buttons(self) -> None:
        """Offer what can be done with the model that is shown, and nothing beside a worker."""
        item, idle = self.list.currentItem(), self._worker is None
        info: ModelInfo | None = item and item.data(Qt.ItemDataRole.UserRole)
        own = info is not None and info.source == "user"
        self.add.setEnabled(idle)
        self.export.setEnabled(idle and info is not None and info.card is not None)
        for button in (self.rename, self.delete):
            button.setEnabled(idle and own)

    def _show_current(self, item: QListWidgetItem | None, *_: Any) -> None:
        self._enable_buttons()
        self.card.show_model(item and item.data(Qt.ItemDataRole.UserRole))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802 (Qt's name)
        """Take weights files that are dragged here."""
        if _weights_files(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802 (Qt's name)
        """Add the weights files that are dropped, one after the other."""
        self._dropped += _weights_files(event.mimeData())
        event.acceptProposedAction()
        self._add_dropped()

    def _add_dropped(self) -> None:
        if self._dropped and self._worker is None:
            self.add_model(self._dropped.pop(0))

    def _say(self, text: str, *, error: bool = False) -> None:
        set_role(self.message, "error" if error else "message")
        self.message.setText(text)
        self.message.setVisible(bool(text))

    def _use_theme(self, *_: Any) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))

    def _lay_out(self) -> None:
        self.list.setFixedHeight(110)  # the models of the package, and that there are more
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(8)
        layout.addWidget(self.list)
        for row in ((self.add, self.open_folder), (self.export, self.rename, self.delete)):
            buttons = QHBoxLayout()
            buttons.setSpacing(8)
            for button in row:
                buttons.addWidget(button)
            layout.addLayout(buttons)
        layout.addWidget(self.message)
        layout.addWidget(FormArea(self.card))
        layout.addStretch(1)


def _weights_files(data: QMimeData) -> list[Path]:
    files = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    return [file for file in files if has_model_suffix(file)]


def _show_folder() -> None:
    models_folder().mkdir(parents=True, exist_ok=True)
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(models_folder())))
