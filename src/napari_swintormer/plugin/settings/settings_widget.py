"""The Settings widget: what is set once for this computer, for widget and command line."""

from __future__ import annotations

from typing import Any

import napari
from magicgui.widgets import ComboBox, LineEdit, SpinBox
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur.deblur_fields import DEVICES, PRECISIONS
from napari_swintormer.plugin.settings.settings_page import JoinedPage
from napari_swintormer.plugin.shared.style import (
    add_row,
    form_layout,
    set_role,
    style_sheet,
    text_label,
)
from napari_swintormer.settings.deblur_settings import AUTOMATIC_MODEL
from napari_swintormer.settings.preferences import (
    MEMORY_SHARES,
    change_preferences,
    preferences,
    preferences_file,
)


class SettingsWidget(QWidget):
    """Changes the user's preferences at once; the same as on napari's own page, if it has one.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget belongs to.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        low, high = (round(100 * share) for share in MEMORY_SHARES)
        self.model = ComboBox(
            choices=[],
            tooltip="The model that the Deblur widget proposes, and the command line takes.\n"
            "Automatic here chooses by the image: 8-bit RGB may be a photo or a micrograph, all "
            "else is microscopy.",
        )
        self.device = ComboBox(
            choices=DEVICES,
            tooltip="What Automatic stands for where a device is chosen.\n"
            "Automatic here takes a GPU if there is one, else the CPU.",
        )
        self.precision = ComboBox(
            choices=PRECISIONS,
            tooltip="What Automatic stands for where a precision is chosen.\n"
            "Automatic here takes the fastest that the device computes well.",
        )
        self.memory_share = SpinBox(
            min=low,
            max=high,
            tooltip="Share of the GPU's free memory that a run plans with, in percent.\n"
            "Less leaves more to other programs.",
        )
        self.cache_folder = LineEdit(
            tooltip="Folder for results of large images while their layers live, and for coarser\n"
            "levels of large files. Empty: the usual place for such files."
        )
        self.cache_folder.native.setPlaceholderText("The usual place")
        self.choose_folder = QPushButton("…")
        self.choose_folder.setFixedWidth(30)
        self.choose_folder.setToolTip("Choose the folder.")
        self.message = text_label("message")
        self._lay_out()
        self._joined = JoinedPage(self)
        self.refresh()
        for name in ("model", "device", "precision", "memory_share"):
            getattr(self, name).changed.connect(lambda _, name=name: self._take(name))
        self.cache_folder.native.editingFinished.connect(lambda: self._take("cache_folder"))
        self.choose_folder.clicked.connect(self._choose_folder)
        self._joined.said.connect(self._show_error)
        self._joined.changed.connect(self.refresh)
        napari_viewer.events.theme.connect(self._use_theme)
        self._use_theme()

    def refresh(self, *_: Any) -> None:
        """Show the settings as they are kept."""
        chosen = preferences()
        usable = {info.name for info in list_models() if info.card is not None}
        names = sorted((usable | {chosen.model}) - {AUTOMATIC_MODEL})
        own = [] if chosen.device in dict(DEVICES).values() else [(chosen.device, chosen.device)]
        values = {
            "model": chosen.model,
            "device": chosen.device,
            "precision": chosen.precision,
            "memory_share": round(100 * chosen.memory_share),
            "cache_folder": chosen.cache_folder,
        }
        for name, value in values.items():
            field = getattr(self, name)
            with field.changed.blocked():
                if name == "model":
                    field.choices = [
                        ("Automatic", AUTOMATIC_MODEL),
                        *((name, name) for name in names),
                    ]
                elif name == "device":
                    field.choices = [*DEVICES, *own]
                field.value = value

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Show what may have been changed on the command line."""
        self.refresh()
        super().showEvent(event)

    def _take(self, name: str) -> None:
        value = getattr(self, name).value
        try:
            change_preferences(**{name: value / 100 if name == "memory_share" else value})
        except SwintormerError as error:
            self._show_error(str(error), True)
            return
        self._joined.show_settings()
        self._say("Kept. Widgets that are open take the model when they are opened again.")

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Cache folder", self.cache_folder.value)
        if folder:
            self.cache_folder.value = folder
            self._take("cache_folder")

    def _show_error(self, sentence: str, error: bool) -> None:
        self._say(sentence, error=error)

    def _say(self, sentence: str, *, error: bool = False) -> None:
        set_role(self.message, "error" if error else "message")
        self.message.setText(sentence)
        self.message.setVisible(bool(sentence))

    def _use_theme(self, *_: Any) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))

    def _lay_out(self) -> None:
        form = form_layout()
        add_row(form, "Model", self.model)
        add_row(form, "Device", self.device)
        add_row(form, "Precision", self.precision)
        add_row(form, "GPU memory, %", self.memory_share)
        add_row(form, "Cache folder", self.cache_folder, beside=self.choose_folder)
        where = text_label("caption")
        where.setText(f"Kept in {preferences_file()}; the command line uses the same.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(10)
        layout.addLayout(form)
        layout.addWidget(self.message)
        layout.addWidget(where)
        layout.addStretch(1)
        self._say("")
