"""A question before a window, or a panel in it, is closed on something that goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMessageBox, QWidget


class ClosingQuestion(QObject):
    """Asks before a widget of napari is closed while something in it goes on.

    Parameters
    ----------
    widget
        In a dock widget, or to be put into one.
    question
        Gives what to ask, or nothing where closing does no harm.
    """

    def __init__(self, widget: QWidget, question: Callable[[], str]) -> None:
        super().__init__(widget)
        self._widget, self._question = widget, question
        self._window: QMainWindow | None = None

    def watch(self) -> None:
        """Look for the panel and the window that hold the widget now."""
        panel = _ancestor(self._widget, QDockWidget)
        close = getattr(panel, "destroyOnClose", None)  # what napari's button on the panel calls
        if close is not None and not hasattr(close, "asks"):
            panel.destroyOnClose = self._asking(close)
        window = _ancestor(self._widget, QMainWindow)
        if window is not None and window is not self._window:
            window.installEventFilter(self)
            self._window = window

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Keep the window open if that is the answer."""
        if event.type() == QEvent.Type.Close and not self._may_close():
            event.ignore()
            return True
        return bool(super().eventFilter(watched, event))

    def _asking(self, close: Callable[[], Any]) -> Callable[[], None]:
        def ask() -> None:
            if self._may_close():
                close()

        ask.asks = True  # type: ignore[attr-defined]
        return ask

    def _may_close(self) -> bool:
        question = self._question()
        if not question:
            return True
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return bool(QMessageBox.question(self._widget, "Close", question, yes | no, no) == yes)


def _ancestor(widget: QWidget, kind: type[QWidget]) -> Any:
    """Nearest ancestor of a kind, or None."""
    above = widget.parent()
    while above is not None and not isinstance(above, kind):
        above = above.parent()
    return above
