"""The common parts of the panels that the menu of the plugin opens."""

from __future__ import annotations

from typing import Any

import napari
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QDockWidget, QLabel, QMainWindow, QVBoxLayout, QWidget

from napari_swintormer.plugin.shared.closing import ancestor
from napari_swintormer.plugin.shared.style import show_text, style_sheet


class Panel(QWidget):
    """A column of widgets, laid out in `column`, in the theme of napari."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._placed = False
        self.column = QVBoxLayout(self)
        self.column.setContentsMargins(10, 8, 10, 8)
        self.column.setSpacing(8)
        viewer.events.theme.connect(self._use_theme)
        self._use_theme()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Become a tab beside the other panels of the plugin when first shown."""
        super().showEvent(event)
        if not self._placed:
            self._placed = True
            QTimer.singleShot(0, self._join_tabs)

    def _join_tabs(self) -> None:
        dock, window = ancestor(self, QDockWidget), ancestor(self, QMainWindow)
        if dock is None or window is None:
            return
        for other in window.findChildren(QDockWidget):
            beside = window.dockWidgetArea(other) == window.dockWidgetArea(dock)
            ours = other is not dock and other.findChild(Panel) is not None
            if ours and beside and not other.isFloating() and not dock.isFloating():
                window.tabifyDockWidget(other, dock)
                dock.show()
                dock.raise_()
                return

    def _use_theme(self, *_: Any) -> None:
        self.setStyleSheet(style_sheet(self._viewer.theme))


def open_panel(viewer: Any, name: str) -> Any:
    """Open a panel of the plugin, or bring its tab to the front; None without a window."""
    if not hasattr(viewer, "window"):
        return None
    dock, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", name)
    dock.show()
    dock.raise_()
    return widget


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
