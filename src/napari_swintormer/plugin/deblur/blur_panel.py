"""Buttons that measure the blur of the view: one sentence, or a map."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import napari
import numpy as np
from napari.layers import Image
from qtpy.QtWidgets import QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.plugin.layers.made_layers import add_above_source, mark
from napari_swintormer.plugin.layers.visible_region import InView
from napari_swintormer.plugin.shared.style import button, button_row
from napari_swintormer.plugin.shared.work import Work, in_one_step

if TYPE_CHECKING:
    from napari_swintormer.optics.blurriness import Blurriness

_REGION = 64  # pixels, side of a region of the map


class BlurPanel(QWidget):
    """Estimates the blur of what is on the screen, with `napari_swintormer.optics.blurriness`.

    `in_view` returns what is on the screen, and raises a `SwintormerError` if that is no plane.
    """

    def __init__(self, viewer: napari.Viewer, in_view: Callable[[], InView]) -> None:
        super().__init__()
        self._viewer, self._in_view = viewer, in_view
        self.work = Work(self)
        self.tell = button(
            "Is it blurred?",
            "Measure how wide the edges on the screen are, and whether the blur looks like\n"
            "defocus or motion. Only the middle 1024 pixels of a larger view are used.",
            lambda: self._estimate(as_layer=False),
        )
        self.map = button(
            "Map",
            "Add a layer with the width of the edges in each region, in pixels: dark is sharp,\n"
            "bright is blurred. Regions without edges are transparent.",
            lambda: self._estimate(as_layer=True),
        )
        button_row(self, self.tell, self.map)
        self.work.changed.connect(self._enable)

    def _estimate(self, *, as_layer: bool) -> None:
        try:
            view = self._in_view()
        except SwintormerError as error:
            self.work.said.emit(str(error), True)
            return
        self.work.begin(
            in_one_step(partial(_estimate, view)), take=partial(self._show, view, as_layer)
        )

    def _show(self, view: InView, as_layer: bool, blur: Blurriness) -> Blurriness:
        self.work.said.emit(blur.describe(), False)
        if as_layer and blur.width is not None:
            add_above_source(self._viewer.layers, _map(blur, view))
        return blur

    def _enable(self) -> None:
        for each in (self.tell, self.map):
            each.setEnabled(not self.work.running)


def _estimate(view: InView) -> Blurriness:
    from napari_swintormer.optics.blurriness import measure_blurriness

    part = view.source
    planes = Planes(part.data, part.axes, channels=3)
    number = planes.numbers_at(view.position).start
    return measure_blurriness(planes.read(number, *view.region.slices), _REGION)


def _map(blur: Blurriness, view: InView) -> Image:
    """Make a layer of the edge widths that covers the view, with one pixel per region."""
    source = view.source
    # the centre of the first pixel lies in the middle of the first region
    middle = (blur.region_size - 1) / 2
    origin = {**view.position, "Y": view.region.y0 + middle, "X": view.region.x0 + middle}
    spatial = [axis for axis in source.axes if axis != "S"]
    rows, columns = blur.regions.shape
    regions = blur.regions if spatial.index("Y") < spatial.index("X") else blur.regions.T
    data = regions.reshape([{"Y": rows, "X": columns}.get(axis, 1) for axis in spatial])
    look = source.part_at(origin, data).look
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
        metadata=mark("blur", source.layer_id)
        | {"width": blur.width, "kind": blur.kind, "angle": blur.angle},
        **{key: look[key] for key in kept},
    )
