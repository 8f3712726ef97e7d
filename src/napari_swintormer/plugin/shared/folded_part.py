"""A part of a form that the user can fold away."""

from __future__ import annotations

from qtpy.QtCore import QPropertyAnimation, Qt
from qtpy.QtGui import QIcon, QPixmap
from qtpy.QtWidgets import QWidget
from superqt import QCollapsible

_ANY_HEIGHT = 2**24 - 1  # pixels; the largest number that Qt takes


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
        self._opening = self.findChild(QPropertyAnimation)
        self._opening.finished.connect(self._release)
        content.setEnabled(False)
        self.collapse(animate=False)

    def set_title(self, title: str) -> None:
        """Show another title, such as one that names what is chosen in the part."""
        self._title = title
        self._show_title(self.isExpanded())

    def _show_title(self, expanded: bool) -> None:
        self.setText(f"{'▾' if expanded else '▸'}  {self._title}")
        self._content.setEnabled(expanded)  # Tab skips fields that are not visible
        if self._opening.state() == QPropertyAnimation.State.Stopped:
            self._release()

    def _release(self) -> None:
        """Let the open part follow its content, which may get more rows."""
        if self.isExpanded():
            self._content.setMaximumHeight(_ANY_HEIGHT)


def _no_icon() -> QIcon:
    """Make an icon that shows nothing; PySide6 does not accept an empty `QIcon`."""
    nothing = QPixmap(1, 1)
    nothing.fill(Qt.GlobalColor.transparent)
    return QIcon(nothing)
