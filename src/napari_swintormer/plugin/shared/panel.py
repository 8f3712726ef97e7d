"""The common parts of the panels that the menu of the plugin opens."""

from __future__ import annotations

from typing import Any

import napari
from napari._app_model import get_app_model
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import (
    QDockWidget,
    QFrame,
    QLabel,
    QMainWindow,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_swintormer.plugin.shared.closing import ancestor
from napari_swintormer.plugin.shared.style import show_text, style_sheet

_PLUGIN = "napari-swintormer"
_LEAST = 240  # pixels of a panel that are shown in the lowest window


class Panel(QWidget):
    """A column of widgets, laid out in `column`, in the theme of napari."""

    scrolls = False
    """Whether it scrolls as a whole; not with a picture that gets higher where it gets wider."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._placed = self._is_tab = False
        content = QWidget() if self.scrolls else self
        self.column = QVBoxLayout(content)
        self.column.setContentsMargins(10, 8, 10, 8)
        self.column.setSpacing(8)
        if self.scrolls:
            layout = QVBoxLayout(self)
            layout.setContentsMargins(0, 0, 0, 0)
            layout.addWidget(_Scrolling(content))
        viewer.events.theme.connect(self._use_theme)
        self._use_theme()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Become a tab beside the other panels of the plugin when first shown."""
        super().showEvent(event)
        if not self._placed:
            self._placed = True
            QTimer.singleShot(0, self._join_tabs)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return no height before this is a tab: below another panel it enlarges the window."""
        hint = super().minimumSizeHint()
        return hint if self._is_tab else QSize(hint.width(), 0)

    def _join_tabs(self) -> None:
        self._tabify()
        self._is_tab = True
        self.updateGeometry()

    def _tabify(self) -> None:
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


class _Scrolling(QScrollArea):
    """Shows a panel whole, or with a scroll bar where its parts are squeezed as far as they go."""

    def __init__(self, content: QWidget) -> None:
        super().__init__()
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Tab skips the area and reaches the fields
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.verticalScrollBar().rangeChanged.connect(lambda *_: self.updateGeometry())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Follow the content when its size changes."""
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the size of the content."""
        return self.widget().sizeHint()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the width of the content and of a scroll bar, and the height of a few rows."""
        smallest, bar = self.widget().minimumSizeHint(), self.verticalScrollBar()
        beside = bar.sizeHint().width() if bar.maximum() else 0
        return QSize(smallest.width() + beside, min(_LEAST, smallest.height()))


def open_panel(beside: Panel, name: str) -> Any:
    """Open a panel of the plugin in the window of another panel, or bring it to the front.

    Return the panel; None without a window.
    """
    window = ancestor(beside, QMainWindow)
    if window is None:
        return None
    if _find(window, name) is None:
        _choose_in_menu(beside, name)
    panel = _find(window, name)
    dock = None if panel is None else ancestor(panel, QDockWidget)
    if dock is not None:
        dock.show()
        dock.raise_()
    return panel


def _find(window: QMainWindow, name: str) -> Panel | None:
    panels = window.findChildren(Panel)
    return next((panel for panel in panels if type(panel).__name__ == f"{name}Widget"), None)


def _choose_in_menu(beside: Panel, name: str) -> None:
    """Open a panel as the menu does: under another name the menu would open it once more."""
    commands = get_app_model().commands
    for command in (f"{_PLUGIN}.{name.lower()}", f"{_PLUGIN}:{name}"):  # of napari 0.9 and 0.6
        if command in commands:
            commands.execute_command(command).result()
            return
    beside._viewer.window.add_plugin_dock_widget(_PLUGIN, name)


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
