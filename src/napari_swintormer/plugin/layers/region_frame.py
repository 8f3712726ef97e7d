"""A frame over the canvas around a region of an image; it is no layer."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QPointF, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen, QPolygonF
from qtpy.QtWidgets import QWidget

from napari_swintormer.plugin.layers.visible_region import InView, canvas_view
from napari_swintormer.tiling.grid import Region


class RegionFrame(QWidget):
    """Draws the border of a region over the canvas, and follows the camera.

    Parameters
    ----------
    viewer, canvas
        The viewer and the widget that it draws on.
    layer, view, region
        The image, the plane of it that is on the screen, and the region in pixels of that plane.
    """

    def __init__(
        self, viewer: napari.Viewer, canvas: QWidget, layer: Image, view: InView, region: Region
    ) -> None:
        super().__init__(canvas)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._viewer, self._layer = viewer, layer
        self._corners = _corners(view, region)
        camera, _ = canvas_view(viewer)
        self._events = (camera.events, viewer.dims.events)
        for events in self._events:
            events.connect(self._follow)
        canvas.installEventFilter(self)
        self.setGeometry(canvas.rect())
        self.show()

    def close_frame(self) -> None:
        """Remove the frame from the canvas."""
        for events in self._events:
            events.disconnect(self._follow)
        self.hide()
        self.deleteLater()

    def corners(self) -> NDArray[np.float64] | None:
        """Return x and y of the corners in pixels of the canvas; None if they are not on it."""
        dims = self._viewer.dims
        displayed = list(dims.displayed)
        if dims.ndisplay != 2:
            return None
        world = np.array([self._layer.data_to_world(corner) for corner in self._corners])
        offset = dims.ndim - world.shape[1]  # a layer has the last dimensions of the viewer
        if min(displayed) < offset:
            return None
        camera, size = canvas_view(self._viewer)
        seen = world[:, [axis - offset for axis in displayed]] - np.array(camera.center[-2:])
        upwards, leftwards = (str(way) in ("up", "left") for way in camera.orientation2d)
        seen = seen * (-1 if upwards else 1, -1 if leftwards else 1)
        rows, columns = (seen * camera.zoom / size + 0.5).T  # shares of the canvas
        return np.stack([columns * self.width(), rows * self.height()], axis=1)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 (Qt's name)
        """Draw a bright line with a dark border that shows on any image."""
        corners = self.corners()
        if corners is None:
            return
        frame = QPolygonF([QPointF(x, y) for x, y in corners])
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        for width, colour in ((4, QColor(0, 0, 0, 150)), (2, QColor(255, 179, 0))):
            painter.setPen(QPen(colour, width))
            painter.drawPolygon(frame)
        painter.end()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Cover the canvas when its size changes."""
        if event.type() == QEvent.Type.Resize and watched is self.parentWidget():
            self.setGeometry(self.parentWidget().rect())
        return bool(super().eventFilter(watched, event))

    def _follow(self, *_: Any) -> None:
        self.update()


def _corners(view: InView, region: Region) -> list[list[float]]:
    """Return the corners of a region, as indices along every dimension of the layer."""
    axes = view.source.axes.replace("S", "")
    place: dict[str, float] = {
        axis: index + view.source.spans.get(axis, (0, 0))[0]
        for axis, index in view.position.items()
    }
    # the centre of a pixel has an integer index
    y0, y1, x0, x1 = (edge - 0.5 for edge in (region.y0, region.y1, region.x0, region.x1))
    return [
        [(place | {"Y": y, "X": x})[axis] for axis in axes]
        for y, x in ((y0, x0), (y0, x1), (y1, x1), (y1, x0))
    ]
