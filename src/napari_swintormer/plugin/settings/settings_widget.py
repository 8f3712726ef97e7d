"""The Settings panel: what the user sets once for this computer."""

from __future__ import annotations

from typing import Any

import napari
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QPushButton, QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.settings.settings_page import JoinedPage
from napari_swintormer.plugin.shared.option_field import option_field
from napari_swintormer.plugin.shared.style import (
    add_row,
    form_layout,
    show_text,
    style_sheet,
    text_label,
)
from napari_swintormer.settings.deblur_settings import AUTOMATIC_MODEL
from napari_swintormer.settings.options import options_of
from napari_swintormer.settings.preferences import (
    MEMORY_SHARES,
    Preferences,
    change_preferences,
    preferences,
    preferences_file,
)

_OPTIONS = options_of(Preferences)
_DEVICES = [(label, value) for value, label in _OPTIONS["device"].choices.items()]


class SettingsWidget(QWidget):
    """Shows the user's preferences and stores every change at once.

    napari's own page of preferences, if it has one, shows the same values.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget belongs to.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        low, high = (round(100 * share) for share in MEMORY_SHARES)
        self.model = option_field(_OPTIONS["model"], choices=[])
        self.device = option_field(_OPTIONS["device"])
        self.precision = option_field(_OPTIONS["precision"])
        self.memory_share = option_field(
            _OPTIONS["memory_share"], value=high, min=low, max=high, step=1
        )
        self.cache_folder = option_field(_OPTIONS["cache_folder"])
        self.cache_folder.native.setPlaceholderText("The usual cache folder")
        self.choose_folder = QPushButton("…")
        self.choose_folder.setFixedWidth(30)
        self.choose_folder.setToolTip("Choose the cache folder.")
        self.message = text_label("message")
        self._lay_out()
        self._joined = JoinedPage(self)
        self.refresh()
        for name in ("model", "device", "precision", "memory_share"):
            getattr(self, name).changed.connect(lambda _, name=name: self._store(name))
        self.cache_folder.native.editingFinished.connect(lambda: self._store("cache_folder"))
        self.choose_folder.clicked.connect(self._choose_folder)
        self._joined.said.connect(self._show_message)
        self._joined.changed.connect(self.refresh)
        napari_viewer.events.theme.connect(self._use_theme)
        self._use_theme()

    def refresh(self, *_: Any) -> None:
        """Show the preferences as they are stored."""
        chosen = preferences()
        usable = {info.name for info in list_models() if info.card is not None}
        names = sorted((usable | {chosen.model}) - {AUTOMATIC_MODEL})
        models = [("Automatic", AUTOMATIC_MODEL), *((name, name) for name in names)]
        own = [] if chosen.device in _OPTIONS["device"].choices else [(chosen.device,) * 2]
        choices = {"model": models, "device": [*_DEVICES, *own]}
        for name in _OPTIONS:
            field, value = getattr(self, name), getattr(chosen, name)
            with field.changed.blocked():
                if name in choices:
                    field.choices = choices[name]
                field.value = round(100 * value) if name == "memory_share" else value

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Show what the command line may have changed."""
        self.refresh()
        super().showEvent(event)

    def _store(self, name: str) -> None:
        value = getattr(self, name).value
        try:
            change_preferences(**{name: value / 100 if name == "memory_share" else value})
        except SwintormerError as error:
            self._show_message(str(error), error=True)
            return
        self._joined.show_settings()
        self._show_message("Saved. An open Deblur panel proposes the model after you reopen it.")

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Cache folder", self.cache_folder.value)
        if folder:
            self.cache_folder.value = folder
            self._store("cache_folder")

    def _show_message(self, sentence: str, error: bool = False) -> None:
        show_text(self.message, sentence, "error" if error else "message")

    def _use_theme(self, *_: Any) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))

    def _lay_out(self) -> None:
        form = form_layout()
        for name in ("model", "device", "precision"):
            add_row(form, _OPTIONS[name].label, getattr(self, name))
        add_row(form, "GPU memory, %", self.memory_share)
        add_row(form, "Cache folder", self.cache_folder, beside=self.choose_folder)
        caption = text_label("caption")
        caption.setText(f"The command line uses these settings too, from {preferences_file()}.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 8, 10, 8)
        layout.setSpacing(10)
        layout.addLayout(form)
        layout.addWidget(self.message)
        layout.addWidget(caption)
        layout.addStretch(1)
        self._show_message("")
