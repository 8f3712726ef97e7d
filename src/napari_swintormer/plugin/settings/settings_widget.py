"""The Settings panel: what the user sets once for this computer."""

from __future__ import annotations

from typing import Any

import napari
from magicgui.widgets import SpinBox
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog

from napari_swintormer.errors import SwintormerError
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.settings.settings_page import JoinedPage
from napari_swintormer.plugin.shared.option_field import option_field
from napari_swintormer.plugin.shared.panel import MessageLine, Panel
from napari_swintormer.plugin.shared.style import add_row, button, form_layout, text_label
from napari_swintormer.settings.deblur_settings import AUTOMATIC_MODEL, FILTER_MODEL
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


class SettingsWidget(Panel):
    """Shows the user's preferences and stores every change at once.

    napari's own page of preferences, if it has one, shows the same values.
    """

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.message = MessageLine()
        low, high = (round(100 * share) for share in MEMORY_SHARES)
        self.model = option_field(_OPTIONS["model"], choices=[])
        self.device = option_field(_OPTIONS["device"])
        self.precision = option_field(_OPTIONS["precision"])
        self.memory_share = option_field(
            _OPTIONS["memory_share"], kind=SpinBox, value=high, min=low, max=high, step=1
        )
        self.cache_folder = option_field(_OPTIONS["cache_folder"])
        self.cache_folder.native.setPlaceholderText("Usual folder")
        self.choose_folder = button("…", "Choose the cache folder.", self._choose_folder)
        self.choose_folder.setFixedWidth(30)
        self._lay_out()
        self._joined = JoinedPage(self)
        self.refresh()
        for name in ("model", "device", "precision", "memory_share"):
            getattr(self, name).changed.connect(lambda _, name=name: self._store(name))
        self.cache_folder.native.editingFinished.connect(lambda: self._store("cache_folder"))
        self._joined.said.connect(self.message.show_message)
        self._joined.changed.connect(self.refresh)

    def refresh(self, *_: Any) -> None:
        """Show the preferences as they are stored."""
        chosen = preferences()
        usable = {info.name for info in list_models() if info.card is not None}
        names = sorted((usable | {chosen.model, FILTER_MODEL}) - {AUTOMATIC_MODEL})
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
            self.message.show_message(str(error), error=True)
            return
        self._joined.show_settings()
        self.message.show_message("Saved. Reopen the Deblur panel to use another model.")

    def _choose_folder(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Cache folder", self.cache_folder.value)
        if folder:
            self.cache_folder.value = folder
            self._store("cache_folder")

    def _lay_out(self) -> None:
        form = form_layout()
        for name in ("model", "device", "precision"):
            add_row(form, _OPTIONS[name].label, getattr(self, name))
        add_row(form, "GPU memory, %", self.memory_share)
        add_row(form, "Cache folder", self.cache_folder, beside=self.choose_folder)
        caption = text_label("caption")
        caption.setText(f"The command line uses these settings too, from {preferences_file()}.")
        self.column.addLayout(form)
        self.column.addWidget(self.message)
        self.column.addWidget(caption)
        self.column.addStretch(1)
