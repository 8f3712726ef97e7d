"""A curve that grows while a training runs."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

_HEIGHT = 96  # pixels
_MARGIN = 6.0


class CurvePlot(QWidget):
    """One quantity over the steps of a training, with its last value beside the title.

    Parameters
    ----------
    title
        What is drawn.
    unit
        Written behind values.
    digits
        After the point.
    """

    def __init__(self, title: str, unit: str = "", digits: int = 2) -> None:
        super().__init__()
        self._title, self._unit, self._digits = title, unit, digits
        self._steps = 1
        self.points: list[tuple[int, float]] = []
        self.baseline: float | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def restart(self, steps: int) -> None:
        """Forget the curve; the next one goes up to `steps`."""
        self._steps, self.points, self.baseline = max(1, steps), [], None
        self.update()

    def add(self, step: int, value: float, baseline: float | None = None) -> None:
        """Add a point; `baseline` is drawn as a line to compare with. NaN is left out."""
        if not math.isnan(value):
            self.points.append((step, value))
        if baseline is not None:
            self.baseline = baseline
        self.update()

    def caption(self) -> str:
        """Say title and last value."""
        if not self.points:
            return self._title
        return f"{self._title}: {self._text(self.points[-1][1])} {self._unit}".rstrip()

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """As wide as there is room."""
        return QSize(200, _HEIGHT)

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """Draw axes, baseline and curve."""
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            text = self.palette().color(QPalette.ColorRole.WindowText)
            line = painter.fontMetrics().height()
            painter.setPen(text)
            painter.drawText(QPointF(_MARGIN, line), self.caption())
            area = QRectF(0, 0, self.width(), self.height())
            area.adjust(_MARGIN, line + _MARGIN, -_MARGIN, -_MARGIN)
            frame = QPen(text)
            frame.setWidthF(0.3)
            painter.setPen(frame)
            painter.drawRect(area)
            if self.points:
                self._draw_curve(painter, area)

    def _draw_curve(self, painter: QPainter, area: QRectF) -> None:
        values = [value for _, value in self.points]
        if self.baseline is not None:
            values.append(self.baseline)
        low, high = min(values), max(values)
        room = (high - low) * 0.1 or max(abs(high) * 0.1, 1e-6)
        low, high = low - room, high + room

        def place(step: float, value: float) -> QPointF:
            return QPointF(
                area.left() + step / self._steps * area.width(),
                area.bottom() - (value - low) / (high - low) * area.height(),
            )

        text = self.palette().color(QPalette.ColorRole.WindowText)
        if self.baseline is not None:
            painter.setPen(QPen(text, 1, Qt.PenStyle.DashLine))
            painter.drawLine(place(0, self.baseline), place(self._steps, self.baseline))
        colour = self.palette().color(QPalette.ColorRole.Highlight).lighter(150)
        painter.setPen(QPen(colour, 2))
        corners = [place(step, value) for step, value in self.points]
        painter.drawPolyline(QPolygonF(corners))
        painter.setBrush(colour)
        painter.drawEllipse(corners[-1], 2.5, 2.5)
        painter.setPen(text)
        top, bottom = Qt.AlignmentFlag.AlignTop, Qt.AlignmentFlag.AlignBottom
        inner = area.adjusted(3, 1, -3, -1)
        painter.drawText(inner, Qt.AlignmentFlag.AlignRight | top, self._text(high))
        painter.drawText(inner, Qt.AlignmentFlag.AlignRight | bottom, self._text(low))

    def _text(self, value: float) -> str:
        return f"{value:.{self._digits}f}"
