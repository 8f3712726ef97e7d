"""What the fields of the Deblur widget choose: layers, planes, the view, and the planned runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import napari
from napari.layers import Image

from napari_swintormer.errors import ImageError
from napari_swintormer.plugin.deblur.deblur_form import DeblurForm
from napari_swintormer.plugin.deblur.scripts import run_record
from napari_swintormer.plugin.layers.file_result import check_destination, destination_of
from napari_swintormer.plugin.layers.layer_data import LayerSource, guess_axes
from napari_swintormer.plugin.layers.made_layers import users_images
from napari_swintormer.plugin.layers.visible_region import InView, visible_region
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.result_names import result_stem, result_words


class ChosenImages:
    """Reads the fields of a form and the view of a viewer, whenever it is asked."""

    def __init__(self, viewer: napari.Viewer, form: DeblurForm) -> None:
        self._viewer, self._form = viewer, form

    def plan(self) -> list[tuple[Image, LayerSource, Job]]:
        """Plan a run over every chosen layer."""
        sources = [(layer, self._source(layer)) for layer in self.layers()]
        settings = self._form.settings()
        return [(layer, source, source.plan(settings)) for layer, source in sources]

    def destination(self, planned: list[tuple[Image, LayerSource, Job]]) -> Path | None:
        """Return the file of the result, after a check that it can be written; None for a layer."""
        path = destination_of(self._form.save_to.value, len(planned))
        if path is not None:
            layer, source, job = planned[0]
            check_destination(path, source, layer.source.path, job)
        return path

    def proposed_file(self, planned: list[tuple[Image, LayerSource, Job]]) -> str:
        """Propose a file for the result of the first run, beside the file of its image."""
        layer, source, job = planned[0]
        name = result_stem(source.name, result_words(job)) + ".ome.zarr"
        return name if layer.source.path is None else str(Path(layer.source.path).with_name(name))

    def _source(self, layer: Image) -> LayerSource:
        """Return the chosen planes of a layer, with the second view if the model takes one."""
        axes = self._form.axes.value if layer is self._form.layer else guess_axes(layer)
        source = LayerSource.of(layer, axes)
        second = self._form.second_layer
        if second is not None:
            if second is layer:
                raise ImageError(
                    f"{layer.name} is chosen for both views; choose the other image of the scene."
                )
            source = source.with_second_view(second)
        if self._form.current_plane_only and any(axis in "TCZ" for axis in source.axes):
            return source.plane_at(layer.world_to_data(self._viewer.dims.point))
        if self._form.plane_range is not None:
            return source.planes_along(*self._form.plane_range)
        return source

    def _layer(self) -> Image:
        if self._form.layer is None:
            raise ImageError("There is no image to deblur; open one, or choose an image layer.")
        return self._form.layer

    def layers(self) -> list[Image]:
        """Return the layer of the form, or all selected images of the user if it is one of them.

        A second view belongs to the layer of the form only, so it excludes the others.
        """
        chosen = self._layer()
        if self._form.second_layer is not None:
            return [chosen]
        selected = self._viewer.layers.selection
        several = [layer for layer in users_images(self._viewer.layers) if layer in selected]
        return several if chosen in several else [chosen]

    def in_view(self) -> InView:
        """Return what is on the screen of the chosen image, or raise a `SwintormerError`."""
        layer = self._layer()
        source = self._source(layer)
        region = visible_region(self._viewer, layer, source)
        whole = replace(source, data=source.whole)
        position = whole.position(layer.world_to_data(self._viewer.dims.point))
        for axis, (first, end) in source.spans.items():
            if not first <= position[axis] < end:
                raise ImageError(
                    f"The view shows plane {position[axis]} along {axis}, outside of the range "
                    f"{first} to {end - 1}; move the slider into it."
                )
            position[axis] -= first
        return InView(source, position, region)

    def active_record(self) -> dict[str, Any]:
        """Return the run of the active result, else the run of the fields."""
        active = self._viewer.layers.selection.active
        made = None if active is None else active.metadata.get("swintormer", {}).get("run")
        if made is not None:
            return dict(made)
        layer = self._layer()
        source = self._source(layer)
        return self.record(layer, source, source.plan(self._form.settings()))

    def record(self, layer: Image, source: LayerSource, job: Job) -> dict[str, Any]:
        """Return what repeats a run over a layer; see `run_record`."""
        settings = source.complete(self._form.settings())
        moved = source.look["translate"] if source.spans else None
        return run_record(layer, settings, self._form.second_layer, moved, result_words(job))
