"""The Models panel: lists the models and their cards; adds, exports, renames and deletes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import napari
from qtpy.QtCore import QMimeData, Qt, QUrl
from qtpy.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent, QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QInputDialog,
    QListWidget,
    QListWidgetItem,
    QMessageBox,
)

from napari_swintormer.errors import SwintormerError
from napari_swintormer.models.catalogue import ModelInfo, free_name, list_models
from napari_swintormer.models.files.kinds import MODEL_SUFFIXES, detect, has_model_suffix
from napari_swintormer.models.own_models import (
    delete_model,
    export_model,
    import_model,
    rename_model,
)
from napari_swintormer.plugin.models.model_card import ModelCardView
from napari_swintormer.plugin.shared.form_area import FormArea
from napari_swintormer.plugin.shared.panel import MessageLine, Panel
from napari_swintormer.plugin.shared.style import button
from napari_swintormer.plugin.shared.work import Work, in_one_step
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL
from napari_swintormer.settings.preferences import models_folder

_READABLE = f"Models ({' '.join(f'*{suffix}' for suffix in MODEL_SUFFIXES)})"
_WRITABLE = "Weights (*.safetensors);;BioImage Model Zoo (*.zip)"
_YES, _NO = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No


class ModelsWidget(Panel):
    """Lists the models with their cards; adds, exports, renames and deletes.

    Built-in models cannot be renamed or deleted.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.message = MessageLine()
        self._dropped: list[Path] = []
        self.work = Work(self)
        self.list = QListWidget()
        self.list.setToolTip("Built-in models, and the files in your models folder.")
        self.card = ModelCardView()
        self.setAcceptDrops(True)
        self.add = button(
            "Add model …",
            "Check a weights file and copy it into your models folder.\n"
            "You can also drop files here.",
            self._choose_file,
        )
        self.open_folder = button(
            "Open folder",
            "Open your models folder. A file that you copy there becomes a model.",
            _show_folder,
        )
        self.export = button(
            "Export …", "Copy this model to a file, to share it.", self._choose_target
        )
        self.rename = button("Rename …", "Rename this model of yours.", self._ask_name)
        self.delete = button(
            "Delete …",
            "Delete the file of this model of yours. You are asked first.",
            self._ask_delete,
        )
        self._lay_out()
        self.list.currentItemChanged.connect(self._show_current)
        self.card.said.connect(self.message.show_message)
        self.work.said.connect(self.message.show_message)
        self.work.changed.connect(self._enable_buttons)
        self.work.ended.connect(lambda _: self._add_dropped())
        self.refresh()

    @property
    def info(self) -> ModelInfo | None:
        """The model that is shown; None if there are no models."""
        item = self.list.currentItem()
        info: ModelInfo | None = item and item.data(Qt.ItemDataRole.UserRole)
        return info

    def refresh(self, select: str = DEFAULT_MODEL) -> None:
        """List the models again, and show the model with the name `select`."""
        self.list.clear()
        for info in list_models():
            item = QListWidgetItem(info.name)
            item.setData(Qt.ItemDataRole.UserRole, info)
            self.list.addItem(item)
            if info.name == select or self.list.count() == 1:
                self.list.setCurrentItem(item)

    def add_model(self, file: str | Path) -> None:
        """Check a weights file and copy it into the models folder, in a thread: this needs torch.

        A program is added only if the user trusts it. If a model has the name of the file, the new
        one gets a number behind it.
        """
        program = detect(Path(file)).is_program
        if program and not self._trusts(file):
            self.message.show_message("Not added. A program runs only if you trust it.", error=True)
            return
        stem = Path(file).stem
        name = free_name(stem)
        add = partial(import_model, file, name=name, run_code=program)
        why = "" if name == stem else f" There is a model {stem} already."
        self.work.begin(in_one_step(add), take=partial(self._show_added, why))
        self.message.show_message("Checking the file …")

    def export_model(self, target: str | Path, *, overwrite: bool = False) -> None:
        """Copy the shown model to a file, in a thread: checking the model needs torch.

        The target ends in ``.safetensors``, or in ``.zip`` for the BioImage Model Zoo.
        """
        assert self.info is not None
        export = partial(export_model, self.info.name, target, overwrite=overwrite)
        self.work.begin(in_one_step(export), take=self._show_exported)
        self.message.show_message("Writing the file …")

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """List the models again: the user may have copied files into the folder."""
        self.refresh(DEFAULT_MODEL if self.info is None else self.info.name)
        super().showEvent(event)

    def _choose_file(self) -> None:
        file, _ = QFileDialog.getOpenFileName(self, "Add a model", "", _READABLE)
        if file:
            self.add_model(file)

    def _trusts(self, file: str | Path) -> bool:
        question = (
            f"{Path(file).name} is a program (TorchScript or exported). Adding it runs its code "
            "now, and using it runs the code again, with all your rights on this computer."
            "\n\nDo you trust the people who made it?"
        )
        return bool(QMessageBox.question(self, "Run code?", question, _YES | _NO, _NO) == _YES)

    def _choose_target(self) -> None:
        assert self.info is not None
        proposed = f"{self.info.name}.safetensors"
        file, _ = QFileDialog.getSaveFileName(self, "Export a model", proposed, _WRITABLE)
        if file.endswith((".safetensors", ".zip")):  # the dialog has asked whether to replace it
            self.export_model(file, overwrite=True)
        elif file:
            self.export_model(f"{file}.safetensors")

    def _ask_name(self) -> None:
        assert self.info is not None
        name = self.info.name
        new_name, said_yes = QInputDialog.getText(self, "Rename", f"New name of {name}:", text=name)
        if said_yes and new_name != name:
            change = partial(rename_model, name, new_name)
            self._change(change, f"Renamed {name} to {new_name}.", select=new_name)

    def _ask_delete(self) -> None:
        info = self.info
        assert info is not None
        question = f"Delete the model {info.name}? This cannot be undone.\n\n{info.path}"
        if QMessageBox.question(self, "Delete a model", question, _YES | _NO, _NO) == _YES:
            self._change(partial(delete_model, info.name), f"Deleted {info.name}.")

    def _change(self, change: Callable[[], object], done: str, select: str = DEFAULT_MODEL) -> None:
        try:
            change()
        except SwintormerError as error:
            self.message.show_message(str(error), error=True)
            return
        self.refresh(select)
        self.message.show_message(done)

    def _show_added(self, why: str, path: Path) -> None:
        self.message.show_message(f"Added {path.stem}.{why}")
        self.refresh(path.stem)

    def _show_exported(self, path: Path) -> None:
        self.message.show_message(f"Written to {path}.")

    def _enable_buttons(self) -> None:
        """Enable what the shown model allows, and nothing during work."""
        info, idle = self.info, not self.work.running
        self.add.setEnabled(idle)
        self.export.setEnabled(idle and info is not None and info.card is not None)
        for each in (self.rename, self.delete):
            each.setEnabled(idle and info is not None and info.source == "user")

    def _show_current(self, *_: Any) -> None:
        self._enable_buttons()
        self.card.show_model(self.info)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802 (Qt's name)
        """Accept weights files that the user drags here."""
        if weights_files(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802 (Qt's name)
        """Add the dropped weights files, one after the other."""
        self.add_models(weights_files(event.mimeData()))
        event.acceptProposedAction()

    def add_models(self, files: Sequence[Path]) -> None:
        """Add several weights files, one after the other."""
        self._dropped += files
        self._add_dropped()

    def _add_dropped(self) -> None:
        if self._dropped and not self.work.running:
            self.add_model(self._dropped.pop(0))

    def _lay_out(self) -> None:
        self.list.setFixedHeight(110)  # shows the built-in models, and that there are more
        self.column.addWidget(self.list)
        for row in ((self.add, self.open_folder), (self.export, self.rename, self.delete)):
            buttons = QHBoxLayout()
            buttons.setSpacing(8)
            for each in row:
                buttons.addWidget(each)
            self.column.addLayout(buttons)
        self.column.addWidget(self.message)
        self.column.addWidget(FormArea(self.card))
        self.column.addStretch(1)


def weights_files(data: QMimeData) -> list[Path]:
    """Return the weights files among what the user drags."""
    files = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    return [file for file in files if has_model_suffix(file)]


def _show_folder() -> None:
    models_folder().mkdir(parents=True, exist_ok=True)
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(models_folder())))
