"""The common parts of the panels that the menu of the plugin opens."""

from __future__ import annotations

from typing import Any

import napari
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_swintormer.plugin.shared.style import show_text, style_sheet


class Panel(QWidget):
    """A column of widgets, laid out in `column`, in the theme of napari."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(10, 8, 10, 8)
        self.column.setSpacing(8)
        viewer.events.theme.connect(self._use_theme)
        self._use_theme()

    def _use_theme(self, *_: Any) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))


class MessageLine(QLabel):
    """Shows the latest message for the user, and hides if there is none."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.show_message("")

    def show_message(self, text: str, error: bool = False) -> None:
        """Show a sentence; an empty text hides the line."""
        show_text(self, text, "error" if error else "message")
