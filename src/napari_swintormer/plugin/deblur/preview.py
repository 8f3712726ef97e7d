"""Deblur what is on the screen before the run, and try strengths on it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QObject

from napari_swintormer.plugin.deblur.deblur_events import keep_first_speed
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.made_layers import add_above_source, kind_of
from napari_swintormer.plugin.layers.visible_region import InView, selected_shapes
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.runs.job import Job

if TYPE_CHECKING:
    from napari_swintormer.engine.region import RestoredRegion  # imports torch


class Preview(Work):
    """Shows a region of the result in its own layer, with the pixels of the whole run.

    The layer is in `layer` while it is in the viewer, the same region of the image in `source`.
    """

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent, on_cancel="Cancelled. The layers are as they were.")
        self._viewer = viewer
        self._restored: RestoredRegion | None = None
        self._strength = 1.0
        self.layer: Image | None = None
        self.source: LayerSource | None = None
        viewer.layers.events.removed.connect(self._forget_layer)

    def start(self, job: Job, view: InView) -> None:
        """Restore the region in view with a job that is planned for the whole image."""
        self._strength = job.settings.strength
        self.begin(
            lambda: keep_first_speed(job, job.preview(view.position, view.region)),
            take=partial(self._show, view),
        )

    def adopt(self, sources: Mapping[Image, LayerSource]) -> None:
        """Take over a preview of an earlier panel; the next preview replaces it."""
        for layer, source in sources.items():
            if kind_of(layer) == "preview":
                self.layer, self.source = layer, source

    def set_strength(self, strength: float) -> None:
        """Show the preview at another strength at once; this does not need the network."""
        if self._restored is not None and self.layer is not None and strength != self._strength:
            self._strength = strength
            self.layer.data = self._restored.at_strength(strength)

    def remove(self) -> None:
        """Remove the preview from the viewer."""
        if self.layer is not None:
            self._viewer.layers.remove(self.layer)

    def _show(self, view: InView, restored: RestoredRegion) -> Image | None:
        if self.stopping:
            return None
        self.remove()
        self._restored = restored
        data = restored.at_strength(self._strength)
        offset = {**view.position, "Y": restored.region.y0, "X": restored.region.x0}
        self.source = view.source.part_at(offset, restored.image.data)
        self.layer = view.source.part_at(offset, data).result_layer(data, place=offset)
        shapes = selected_shapes(self._viewer)
        add_above_source(self._viewer.layers, self.layer)
        if shapes is not None:  # stays chosen, for the next preview of it
            self._viewer.layers.selection.active = shapes
        height, width = restored.region.shape
        self.said.emit(
            f"Preview of {width} × {height} pixels; the whole image gets the same pixels.", False
        )
        return self.layer

    def _forget_layer(self, event: Any) -> None:
        if self.layer is not None and event.value == self.layer:
            self.layer = self._restored = None
