"""Draws a curve that grows while a training runs."""

from __future__ import annotations

import math

import pyqtgraph
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QPalette, QShowEvent
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

_HEIGHT = 110  # pixels


class CurvePlot(QWidget):
    """Draws one quantity over the steps of a training, with its last value in the title."""

    def __init__(self, title: str, unit: str = "", digits: int = 2) -> None:
        super().__init__()
        self._title, self._unit, self._digits = title, unit, digits
        self.points: list[tuple[int, float]] = []
        self.baseline: float | None = None
        self._caption = QLabel(title)
        self._plot = pyqtgraph.PlotWidget()
        self._plot.setMenuEnabled(False)
        self._plot.hideButtons()
        self._plot.setMouseEnabled(x=False, y=False)
        self._plot.setFixedHeight(_HEIGHT)
        self._curve = self._plot.plot(symbol="o", symbolSize=4)
        self._line = self._plot.addLine(y=0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._caption)
        layout.addWidget(self._plot)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.restart(1)

    def restart(self, steps: int) -> None:
        """Remove the curve; the next one has `steps` steps."""
        self.points, self.baseline = [], None
        self._use_theme()
        self._line.hide()
        self._curve.clear()
        self._plot.setXRange(0, max(1, steps), padding=0.02)
        self._plot.enableAutoRange(axis="y")
        self._caption.setText(self.caption())

    def add(self, step: int, value: float, baseline: float | None = None) -> None:
        """Add a point, unless it is NaN; `baseline` moves a horizontal line to compare with."""
        if not math.isnan(value):
            self.points.append((step, value))
            self._curve.setData(*zip(*self.points, strict=True))
        if baseline is not None:
            self.baseline = baseline
            self._line.setValue(baseline)
            self._line.show()
        self._caption.setText(self.caption())

    def caption(self) -> str:
        """Return the title and the last value."""
        if not self.points:
            return self._title
        value = f"{self.points[-1][1]:.{self._digits}f}"
        return f"{self._title}: {value} {self._unit}".rstrip()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 (Qt's name)
        """Follow the theme of napari."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange:
            self._use_theme()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Take the colours of the window that shows the curve now."""
        super().showEvent(event)
        self._use_theme()

    def _use_theme(self) -> None:
        """Use the colours of napari's theme."""
        self.ensurePolished()
        roles, palette = QPalette.ColorRole, self.palette()
        text, window = palette.color(roles.WindowText), palette.color(roles.Window)
        colour = palette.color(roles.Highlight)
        colour = colour.lighter(150) if window.lightness() < 128 else colour.darker(150)
        self._plot.setBackground(window)
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(text)
            axis.setTextPen(text)
        self._curve.setPen(pyqtgraph.mkPen(colour, width=2))
        self._curve.setSymbolBrush(colour)
        self._curve.setSymbolPen(colour)
        self._line.setPen(pyqtgraph.mkPen(text, style=Qt.PenStyle.DashLine))
