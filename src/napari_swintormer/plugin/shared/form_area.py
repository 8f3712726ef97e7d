"""A scroll area that is as high as its form."""

from __future__ import annotations

from qtpy.QtCore import QEvent, QObject, QSize, Qt
from qtpy.QtGui import QResizeEvent
from qtpy.QtWidgets import QFrame, QScrollArea, QSizePolicy, QWidget


class FormArea(QScrollArea):
    """Shows a form at its full height, or with a scroll bar if the window is too low.

    At least `least` pixels of a high form are always shown.
    """

    def __init__(self, form: QWidget, least: int = 120) -> None:
        super().__init__()
        self._least = least
        self.setWidget(form)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Tab skips the area and reaches the fields
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the size of the form; a narrow form is higher because its lines wrap."""
        form = self.widget()
        width = form.minimumSizeHint().width()
        shown = max(self.viewport().width(), width) if self.isVisible() else width
        border = self.height() - self.viewport().height() if self.isVisible() else 0
        return QSize(
            width, max(form.heightForWidth(shown), form.minimumSizeHint().height()) + border
        )

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return at least the width of the form, because it scrolls up and down only."""
        bar = self.verticalScrollBar().sizeHint().width()
        width = self.widget().minimumSizeHint().width() + bar
        return QSize(width, min(self._least, self.sizeHint().height()))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Follow the form when its height changes."""
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 (Qt's name)
        """Ask for a new height when the width changes."""
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self.updateGeometry()
