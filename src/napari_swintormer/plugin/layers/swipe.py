"""A line across the canvas with the blurred image on its left and the deblurred on its right."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
from napari.layers import Image
from napari.qt import QtViewer
from qtpy.QtCore import QEvent, QObject, QPoint, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent, QPen, QPolygon
from qtpy.QtWidgets import QWidget
from vispy.visuals.filters.clipping_planes import PlanesClipper

_GRIP = 26  # pixels, width of what the mouse can grip


class Swipe(QObject):
    """Hides a layer on the left of a line that the user can drag.

    The line has its position on the canvas. It stays there while the view moves, zooms, or goes to
    another plane or another level of a pyramid. The parent is a widget in the window of the viewer.
    """

    stopped = Signal()
    """The line was removed because its layer was, or because the view has no place for it."""

    def __init__(self, viewer: napari.Viewer, parent: QWidget) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Image | None = None
        self._node: Any = None
        self._clip = PlanesClipper(coord_system="canvas")
        self._line: _Line | None = None
        viewer.layers.events.removed.connect(self._forget_layer)
        viewer.dims.events.ndisplay.connect(self._stop_by_itself)
        getattr(viewer, "canvas", viewer).grid.events.enabled.connect(self._stop_by_itself)

    @property
    def layer(self) -> Image | None:
        """The layer that is hidden on the left, or None."""
        return self._layer

    @property
    def x(self) -> int:
        """Position of the line, in pixels of the canvas."""
        return 0 if self._line is None else self._line.position

    def start(self, layer: Image) -> None:
        """Show the line over a layer, in the middle of the canvas or where it was."""
        position = None if self._line is None else self._line.position
        self.stop()
        canvas = canvas_of(self.parent())
        if canvas is None:
            return
        self._layer, self._node = layer, canvas.layer_to_visual[layer].node
        self._node.attach(self._clip)
        self._line = _Line(canvas.native, position)
        self._line.moved.connect(self._clip_at)
        self._clip_at(self._line.position)
        self._line.show()

    def stop(self) -> None:
        """Remove the line, and show the whole layer again."""
        if self._line is not None:
            self._line.moved.disconnect(self._clip_at)  # Qt deletes it later
            self._line.hide()
            self._line.deleteLater()
            self._line = None
        if self._node is not None:
            self._node.detach(self._clip)
            self._node.update()
        self._layer = self._node = None

    def _clip_at(self, x: int) -> None:
        self._clip.clipping_planes = np.array([[[x, 0, 0], [1, 0, 0]]], float)
        self._node.update()

    def _forget_layer(self, event: Any) -> None:
        if event.value == self._layer:
            self._node = None  # gone with its layer
            self._stop_by_itself()

    def _stop_by_itself(self, *_: Any) -> None:
        if self._layer is not None:
            self.stop()
            self.stopped.emit()


def canvas_of(widget: QWidget) -> Any:
    """Find the canvas of the window that holds a widget; None if there is no window.

    napari gives plugins no way from the viewer to its canvas, so this searches the widgets of Qt.
    """
    viewers = widget.window().findChildren(QtViewer)
    return viewers[0].canvas if viewers else None


class _Line(QWidget):
    """Shows the line with its grip over the canvas."""

    moved = Signal(int)

    def __init__(self, canvas: QWidget, position: int | None) -> None:
        super().__init__(canvas)
        self.setCursor(Qt.CursorShape.SplitHCursor)
        self.setToolTip("Drag: blurred on the left, deblurred on the right.")
        self.position = canvas.width() // 2 if position is None else position
        canvas.installEventFilter(self)
        self._place()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Stay inside the canvas when its size changes."""
        if event.type() == QEvent.Type.Resize:
            self._move_to(self.position)
        return bool(super().eventFilter(watched, event))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802 (Qt's name)
        """Follow the mouse while its button is down."""
        if event.buttons() & Qt.MouseButton.LeftButton:
            self._move_to(round(self.mapToParent(event.position().toPoint()).x()))

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 (Qt's name)
        """Keep the event from the canvas below."""
        event.accept()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """Draw the grip, and a bright line with a dark border that shows on any image."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        x, y = self.width() // 2, self.height() // 2
        for width, colour in ((4, QColor(0, 0, 0, 120)), (2, QColor(255, 255, 255))):
            painter.setPen(QPen(colour, width))
            painter.drawLine(x, 0, x, self.height())
        painter.setPen(QPen(QColor(0, 0, 0, 120), 1))
        painter.setBrush(QColor(255, 255, 255))
        painter.drawEllipse(QPoint(x, y), 11, 11)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(60, 60, 60))
        for side in (-1, 1):
            tip, base = x + 8 * side, x + 3 * side
            painter.drawPolygon(
                QPolygon([QPoint(tip, y), QPoint(base, y - 4), QPoint(base, y + 4)])
            )
        painter.end()

    def _move_to(self, x: int) -> None:
        self.position = min(max(x, 1), self.parentWidget().width() - 1)
        self._place()
        self.moved.emit(self.position)

    def _place(self) -> None:
        self.setGeometry(self.position - _GRIP // 2, 0, _GRIP, self.parentWidget().height())
