"""The line that a user draws on an image along a motion."""

from __future__ import annotations

from typing import Any

import napari
import numpy as np
from napari.layers import Image, Shapes
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_swintormer.plugin.layers.made_layers import id_of, kind_of, mark, source_id
from napari_swintormer.plugin.layers.visible_region import InView

_LENGTHS = 10, 40  # pixels of a new line, in a small and in a large view
_WIDTH = 2  # pixels
_DELAY = 50  # milliseconds from a change of the layer until it is read


class MotionLine(QObject):
    """Adds a layer with a line to an image, and follows its ends."""

    changed = Signal(object)
    """Extent of the line along Y and X in pixels of the image, or None without a line."""

    def __init__(self, viewer: napari.Viewer, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._image: Image | None = None
        self._layer: Shapes | None = None
        self._axes = ""
        self._timer = QTimer(self, singleShot=True, interval=_DELAY)
        self._timer.timeout.connect(self._tell)
        viewer.layers.events.removed.connect(self._forget)

    def draw(self, image: Image, view: InView) -> None:
        """Make the line of an image active, so that its ends can be dragged; add it if needed."""
        self.follow(image, view.source.axes)
        if self._layer is None:
            self._layer = self._add(image, view)
        elif not len(self._layer.data):
            self._layer.add_lines([self._start(view)])
        self._viewer.layers.selection.active = self._layer
        self._layer.visible = True
        self._layer.selected_data = {len(self._layer.data) - 1}
        self._layer.mode = "direct"
        self._tell()

    def follow(self, image: Image | None, axes: str) -> None:
        """Read the line of an image with these axes, if it has one."""
        self._image, self._axes = image, axes.replace("S", "")
        self._layer = None if image is None else self._line_of(id_of(image))
        self._tell()

    def _line_of(self, image_id: str) -> Shapes | None:
        """Find the layer with the line of an image, also that of an earlier panel."""
        for layer in self._viewer.layers:
            if kind_of(layer) == "motion" and source_id(layer) == image_id:
                assert isinstance(layer, Shapes)
                layer.events.set_data.connect(self._wait)
                return layer
        return None

    def _add(self, image: Image, view: InView) -> Shapes:
        placed = {key: getattr(image, key) for key in ("scale", "translate", "rotate", "shear")}
        layer = Shapes(
            [self._start(view)],
            shape_type="line",
            name=f"{image.name} motion",
            edge_color="#ffb300",
            edge_width=_WIDTH,
            metadata=mark("motion", view.source.layer_id),
            affine=image.affine.affine_matrix,
            **placed,
        )
        layer.events.set_data.connect(self._wait)
        self._viewer.layers.append(layer)
        return layer

    def _start(self, view: InView) -> NDArray[np.float64]:
        """Give the ends of a new line: level, in the middle of the view."""
        region, ends = view.region, np.zeros((2, len(self._axes)))
        place: dict[str, float] = {
            axis: index + view.source.spans.get(axis, (0, 0))[0]
            for axis, index in view.position.items()
        }
        place |= {"Y": (region.y0 + region.y1 - 1) / 2, "X": (region.x0 + region.x1 - 1) / 2}
        for number, axis in enumerate(self._axes):
            ends[:, number] = place[axis]
        least, most = _LENGTHS
        half = min(most, max(least, region.shape[1] // 10)) / 2
        ends[:, self._axes.index("X")] += (-half, half)
        return ends

    def extent(self) -> tuple[float, float] | None:
        """Return the extent of the last line along Y and X, in pixels of the image."""
        layer, image = self._layer, self._image
        if layer is None or image is None or len(self._axes) != image.ndim:
            return None
        lines = [
            ends
            for ends, kind in zip(layer.data, layer.shape_type, strict=True)
            if kind in ("line", "path")
        ]
        if not lines:
            return None
        ends = (layer.data_to_world(end) for end in (lines[-1][0], lines[-1][-1]))
        first, last = (image.world_to_data(end) for end in ends)
        step = np.subtract(last, first)
        return float(step[self._axes.index("Y")]), float(step[self._axes.index("X")])

    def _wait(self, *_: object) -> None:
        self._timer.start()

    def _tell(self) -> None:
        self.changed.emit(self.extent())

    def _forget(self, event: Any) -> None:
        if self._layer is not None and event.value == self._layer:
            self._layer = None
            self._tell()
