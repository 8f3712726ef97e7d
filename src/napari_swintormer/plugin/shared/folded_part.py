"""A part of a form that the user can fold away."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible


class FoldedPart(QCollapsible):
    """Shows its content when the user clicks on its title; it starts folded."""

    def __init__(self, title: str, tooltip: str, content: QWidget) -> None:
        super().__init__("", expandedIcon=_no_icon(), collapsedIcon=_no_icon())
        self._title, self._content = title, content
        self.setDuration(150)
        self.setContent(content)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.layout().setSpacing(4)
        self.toggleButton().setObjectName("swintormer-more")
        self.toggleButton().setToolTip(tooltip)
        self.toggled.connect(self._show_title)
        content.setEnabled(False)
        self.collapse(animate=False)

    def _show_title(self, expanded: bool) -> None:
        self.setText(f"{'▾' if expanded else '▸'}  {self._title}")
        self._content.setEnabled(expanded)  # Tab skips fields that are not visible


def _no_icon() -> QIcon:
    """Make an icon that shows nothing; PySide6 does not accept an empty `QIcon`."""
    nothing = QPixmap(1, 1)
    nothing.fill(Qt.GlobalColor.transparent)
    return QIcon(nothing)
