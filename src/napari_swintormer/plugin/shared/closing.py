"""Asks before a window or a panel is closed while work is going on."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakMethod, ref

from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QDockWidget, QMainWindow, QMessageBox, QWidget


class ClosingQuestion(QObject):
    """Asks before the window or the dock widget that holds a widget is closed.

    `question` is a method of the widget that returns the text; empty if closing does no harm. Only
    weak references lead out of here, so nothing keeps a window alive.
    """

    def __init__(self, widget: QWidget, question: Callable[[], str]) -> None:
        super().__init__(widget)
        self._question = WeakMethod(question)

    def watch(self) -> None:
        """Watch the panel and the window that hold the widget now."""
        panel = ancestor(self.parent(), QDockWidget)
        if hasattr(type(panel), "destroyOnClose"):  # napari's close button calls it
            panel.destroyOnClose = partial(_ask_and_close, ref(self), ref(panel))
        window = ancestor(self.parent(), QMainWindow)
        if window is not None:
            window.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Keep the window open if the answer is no."""
        if event.type() == QEvent.Type.Close and not self._may_close():
            event.ignore()
            return True
        return bool(super().eventFilter(watched, event))

    def _may_close(self) -> bool:
        question = self._question()
        text = "" if question is None else question()
        if not text:
            return True
        yes, no = QMessageBox.StandardButton.Yes, QMessageBox.StandardButton.No
        return bool(QMessageBox.question(self.parent(), "Close", text, yes | no, no) == yes)


def _ask_and_close(asking: ref[ClosingQuestion], panel: ref[Any]) -> None:
    question, closed = asking(), panel()
    if closed is not None and (question is None or question._may_close()):
        type(closed).destroyOnClose(closed)


def ancestor(widget: QObject, kind: type[QWidget]) -> Any:
    """Return the nearest ancestor of a class, or None."""
    above = widget.parent()
    while above is not None and not isinstance(above, kind):
        above = above.parent()
    return above
