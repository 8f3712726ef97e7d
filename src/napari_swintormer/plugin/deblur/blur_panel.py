"""Measures the blur of the view for the Blur section, maps it, and lets the user draw a motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import napari
import numpy as np
from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.optics.blur import Blur
from napari_swintormer.plugin.deblur.blur_section import AUTOMATIC
from napari_swintormer.plugin.deblur.deblur_form import DeblurForm
from napari_swintormer.plugin.deblur.motion_line import MotionLine
from napari_swintormer.plugin.layers.layer_data import full_resolution
from napari_swintormer.plugin.layers.layer_optics import Lens, lens_reader
from napari_swintormer.plugin.layers.made_layers import add_above_source, mark
from napari_swintormer.plugin.layers.visible_region import InView
from napari_swintormer.plugin.shared.style import button, button_row
from napari_swintormer.plugin.shared.work import Work, in_one_step
from napari_swintormer.runs.blur_job import BlurJob
from napari_swintormer.runs.job import Job

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.optics.blur_field import BlurField
    from napari_swintormer.optics.blurriness import Blurriness

_REGION = 64  # pixels, side of a region of the map


class BlurPanel(QWidget):
    """Measures the blur of what is on the screen for the section of the form, or maps it.

    `in_view` returns what is on the screen, and raises a `SwintormerError` if that is no plane.
    """

    moved = Signal()
    """The told blur has changed, and the preview of the view should follow."""

    def __init__(
        self, viewer: napari.Viewer, form: DeblurForm, in_view: Callable[[], InView]
    ) -> None:
        super().__init__()
        self._viewer, self._form, self._in_view = viewer, form, in_view
        self._section = form.blur
        self.work = Work(self)
        self._reading = Work(self)  # of the lens that the file names
        self._reading.ended.connect(self._offer_lens)
        self._again = False  # for the end of the work
        self.measured: Job | None = None
        """The last job that has measured the blur."""
        self.tell = button(
            "Is it blurred?",
            "Measure the blur of the plane on the screen: kind, size, direction, and how sure\n"
            "that is. Automatic undoes this blur.",
            self.measure,
        )
        self.map = button(
            "Map",
            "Add a layer of how blurred each region is: dark is sharp, bright is blurred. If the\n"
            "measured blur changes from place to place, the layer holds its radius in pixels.\n"
            "Otherwise it holds the width of the edges in the view; regions without edges are\n"
            "transparent.",
            self._add_map,
        )
        button_row(self, self.tell, self.map)
        self._section.buttons.addWidget(self)
        self._line = MotionLine(viewer, self)
        self._line.changed.connect(self._section.set_line)
        self._section.draw.clicked.connect(self._draw)
        self._section.asked.connect(self.measure)
        self._section.moved.connect(self.moved)
        form.image_chosen.connect(self._take_image)
        self.work.changed.connect(self._enable)
        self.work.ended.connect(self._end)

    def measure(self) -> None:
        """Measure the blur of the plane on the screen, as an automatic run does."""
        if self.work.running:
            self._again = True
            return
        view = self._looked_at()
        if view is None:
            return
        try:
            job = view.source.plan(self._form.settings_with_blur(AUTOMATIC))
        except SwintormerError as error:
            self.work.said.emit(str(error), True)
            return
        self._section.show_found("The blur is being measured.", None)
        job = job.keeping(self.measured)
        self.work.begin(in_one_step(partial(_measure, job, view)), take=self.take)

    def take(self, job: Job | None) -> Job | None:
        """Keep what a job has measured on the chosen image for the next one, and show it."""
        layer = self._form.layer
        if not isinstance(job, BlurJob) or layer is None:
            return None
        if job.planes.whole.data is not full_resolution(layer):
            return None
        self.measured = job
        if job.found and not isinstance(job.wish, Blur):
            sentence = " ".join(notice.message for notice in job.notices())
            self._section.show_found(sentence, next(iter(job.found.values())).blur)
        return job

    def _end(self, made: object) -> None:
        if made is None:  # an error is said elsewhere, and another image has another blur
            self._section.show_found("", None)
        if self._again:
            self._again = False
            self.measure()

    def _take_image(self) -> None:
        """Forget what was measured on another image."""
        self.measured = None
        self._section.show_found("", None)
        self._read_lens()
        self._line.follow(self._form.layer, self._form.axes.value.strip().upper())
        asked = self._section.choice.value == AUTOMATIC and self._section.isExpanded()
        if asked and self._form.layer is not None:
            self.measure()  # a measurement that goes on is followed by one of this image

    def _read_lens(self) -> None:
        """Offer the lens that the file of the image names, if it names one."""
        self._section.offer_lens(None)
        layer, axes = self._form.layer, self._form.axes.value.strip().upper()
        read = None if layer is None else lens_reader(layer, axes)
        if read is not None and not self._reading.running:
            self._reading.begin(in_one_step(partial(_with_layer, layer, read)))

    def _offer_lens(self, found: tuple[Image, Lens | None] | None) -> None:
        """Offer the lens, or read that of the image that was chosen meanwhile."""
        if found is not None and found[0] is self._form.layer:
            self._section.offer_lens(found[1])
        elif found is not None:
            self._read_lens()

    def _draw(self) -> None:
        view = self._looked_at()
        if view is not None and self._form.layer is not None:
            self._line.draw(self._form.layer, view)

    def _add_map(self) -> None:
        view = self._looked_at()
        if view is None:
            return
        job = self.measured
        found = job.found_at(view.position) if isinstance(job, BlurJob) else None
        if found is not None and found.field is not None:
            self.work.said.emit(found.field.sentence(), False)
            add_above_source(self._viewer.layers, _field_map(found.field, view))
        else:
            self.work.begin(in_one_step(partial(_estimate, view)), take=partial(self._show, view))

    def _looked_at(self) -> InView | None:
        """Return what is on the screen, or say why that is not possible."""
        try:
            return self._in_view()
        except SwintormerError as error:
            self.work.said.emit(str(error), True)
            return None

    def _show(self, view: InView, blur: Blurriness) -> Blurriness:
        self.work.said.emit(blur.describe(), False)
        if blur.width is not None:
            add_above_source(self._viewer.layers, _map(blur, view))
        return blur

    def _enable(self) -> None:
        for each in (self.tell, self.map):
            each.setEnabled(not self.work.running)


def _with_layer(layer: Image, read: Callable[[], Lens | None]) -> tuple[Image, Lens | None]:
    return layer, read()


def _measure(job: Job, view: InView) -> Job:
    return job.measured_at(view.position)


def _estimate(view: InView) -> Blurriness:
    from napari_swintormer.optics.blurriness import measure_blurriness

    part = view.source
    planes = Planes(part.data, part.axes, channels=3)
    number = planes.numbers_at(view.position).start
    return measure_blurriness(planes.read(number, *view.region.slices), _REGION)


def _map(blur: Blurriness, view: InView) -> Image:
    """Make a layer of the edge widths that covers the view, with one pixel per region."""
    # the centre of the first pixel lies in the middle of the first region
    middle = (blur.region_size - 1) / 2
    first = view.region.y0 + middle, view.region.x0 + middle
    about = {"width": blur.width, "kind": blur.kind, "angle": blur.angle}
    return _layer_of(blur.regions, view, first, (blur.region_size,) * 2, about)


def _field_map(field: BlurField, view: InView) -> Image:
    """Make a layer of the radius at each place of the plane."""
    return _layer_of(field.radii, view, field.start, field.step, {"radii": True})


def _layer_of(
    regions: NDArray[np.floating[Any]],
    view: InView,
    first: tuple[float, float],
    sides: tuple[float, float],
    about: Mapping[str, object],
) -> Image:
    """Make a layer ``(rows, columns)`` whose pixels have the centres `first` + n * `sides`."""
    source = view.source
    along = {"Y": sides[0], "X": sides[1]}
    origin = {**view.position, "Y": first[0], "X": first[1]}
    spatial = [axis for axis in source.axes if axis != "S"]
    rows, columns = regions.shape
    turned = regions if spatial.index("Y") < spatial.index("X") else regions.T
    data = turned.reshape([{"Y": rows, "X": columns}.get(axis, 1) for axis in spatial])
    look = source.part_at(origin, data).look
    kept = ("translate", "rotate", "shear", "affine", "units", "axis_labels")
    return Image(
        data,
        name=f"{source.name} blur",
        scale=np.multiply(look["scale"], [along.get(axis, 1) for axis in spatial]),
        colormap="inferno",
        contrast_limits=(0, max(2.0, float(np.nanmax(regions)))),
        interpolation2d="nearest",
        opacity=0.5,
        metadata=mark("blur", source.layer_id) | dict(about),
        **{key: look[key] for key in kept},
    )
