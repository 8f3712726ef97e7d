"""A picture that floats over the window while the mouse is on its small copy."""

from __future__ import annotations

from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QGuiApplication, QPixmap
from qtpy.QtWidgets import QLabel, QWidget

_LARGEST = 720  # pixels of the screen
_GAP = 6  # pixels from the row


class LargePicture(QLabel):
    """Shows a picture above or below a widget, where there is more room; the mouse goes through."""

    def __init__(self, beside: QWidget) -> None:
        super().__init__(beside, Qt.WindowType.ToolTip | Qt.WindowType.WindowTransparentForInput)
        self._beside = beside
        self.setAttribute(Qt.WidgetAttribute.WA_ShowWithoutActivating)
        self.setObjectName("swintormer-large")
        self.hide()

    def show_picture(self, picture: QPixmap, over: QWidget) -> None:
        """Show a picture as large as there is room, centred on the widget `over`."""
        window = self._beside.window()
        top = window.frameGeometry().top()
        bottom = window.frameGeometry().bottom()
        screen = QGuiApplication.screenAt(window.geometry().center()) or window.screen()
        room = screen.availableGeometry()
        above = top - room.top() >= room.bottom() - bottom
        height = (top - room.top() if above else room.bottom() - bottom) - 2 * _GAP
        side = min(_LARGEST, height, room.width())
        scaled = picture.scaled(
            side,
            side,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        self.setPixmap(scaled)
        self.resize(scaled.size())
        middle = over.mapToGlobal(QPoint(over.width() // 2, 0)).x()
        left = min(max(middle - scaled.width() // 2, room.left()), room.right() - scaled.width())
        self.move(left, top - _GAP - scaled.height() if above else bottom + _GAP)
        self.show()
