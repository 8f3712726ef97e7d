"""Buttons that tell how blurred the view is, in words and as a map."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import napari
import numpy as np
from napari.layers import Image
from napari.qt.threading import FunctionWorker, create_worker
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.plugin.layers.view import InView
from napari_swintormer.plugin.shared.wiring import show_error

if TYPE_CHECKING:
    from napari_swintormer.optics.blurriness import Blurriness

_REGION = 64  # pixels, side of the regions of the map


class BlurPanel(QWidget):
    """Estimates the blur of what is on the screen, see `napari_swintormer.optics.blurriness`.

    Parameters
    ----------
    viewer
        Gets the map.
    in_view
        Gives what is on the screen; raises a `SwintormerError` where that is no plane.
    """

    said = Signal(str, bool)
    ended = Signal(object)
    """The `Blurriness` that was found, or None after an error."""

    def __init__(self, viewer: napari.Viewer, in_view: Callable[[], InView]) -> None:
        super().__init__()
        self._viewer, self._in_view = viewer, in_view
        self._worker: FunctionWorker[Blurriness] | None = None
        self._found: Blurriness | None = None
        self.tell = QPushButton("Is it blurred?")
        self.tell.setToolTip(
            "Say how wide the edges on the screen are, and whether the blur looks like defocus\n"
            "or like motion. Of a view larger than 1024 pixels the middle is looked at."
        )
        self.map = QPushButton("Map")
        self.map.setToolTip(
            "Also add a layer of the width of the edges by region, in pixels: dark is sharp,\n"
            "bright is blurred. Regions without edges are clear."
        )
        self.tell.clicked.connect(lambda: self._estimate(as_layer=False))
        self.map.clicked.connect(lambda: self._estimate(as_layer=True))
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        layout.addWidget(self.tell)
        layout.addWidget(self.map)

    def _estimate(self, *, as_layer: bool) -> None:
        try:
            view = self._in_view()
        except SwintormerError as error:
            self.said.emit(str(error), True)
            return
        self._found = None
        self._worker = worker = create_worker(
            _estimate, view, _start_thread=False, _ignore_errors=True
        )
        worker.returned.connect(lambda blur: self._show(blur, view, as_layer))
        worker.errored.connect(lambda error: show_error(error, self.said.emit))
        worker.finished.connect(self._reset)
        self._enable()
        worker.start()

    def _show(self, blur: Blurriness, view: InView, as_layer: bool) -> None:
        self._found = blur
        self.said.emit(blur.describe(), False)
        if as_layer and blur.width is not None:
            self._viewer.add_layer(_map(blur, view))

    def _reset(self) -> None:
        self._worker = None
        self._enable()
        self.ended.emit(self._found)

    def _enable(self) -> None:
        for button in (self.tell, self.map):
            button.setEnabled(self._worker is None)


def _estimate(view: InView) -> Blurriness:
    from napari_swintormer.optics.blurriness import measure_blurriness

    part = view.source
    planes = Planes(part.data, part.axes, channels=3)
    number = planes.numbers_at(view.position).start
    return measure_blurriness(planes.read(number, *view.region.slices), _REGION)


def _map(blur: Blurriness, view: InView) -> Image:
    """Lay the widths over the region that was looked at, one pixel per region."""
    source = view.source
    # a pixel of the map is as large as a region: its centre is the middle of that
    offset = (blur.region_size - 1) / 2
    place = {**view.position, "Y": view.region.y0 + offset, "X": view.region.x0 + offset}
    spatial = [axis for axis in source.axes if axis != "S"]
    rows, columns = blur.regions.shape
    regions = blur.regions if spatial.index("Y") < spatial.index("X") else blur.regions.T
    data = regions.reshape([{"Y": rows, "X": columns}.get(axis, 1) for axis in spatial])
    look = source.part_at(place, data).look
    kept = ("translate", "rotate", "shear", "affine", "units", "axis_labels")
    sides = [blur.region_size if axis in "YX" else 1 for axis in spatial]
    return Image(
        data,
        name=f"{source.name} blur",
        scale=np.multiply(look["scale"], sides),
        colormap="inferno",
        contrast_limits=(0, max(2.0, float(np.nanmax(regions)))),
        interpolation2d="nearest",
        opacity=0.5,
        metadata={"width": blur.width, "kind": blur.kind, "angle": blur.angle},
        **{key: look[key] for key in kept},
    )
