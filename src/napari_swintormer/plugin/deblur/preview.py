"""Deblur what is on the screen before the run, and try strengths on it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel
from napari.layers import Image, Shapes
from qtpy.QtCore import QObject

from napari_swintormer.engine.kept_tiles import KeptTiles
from napari_swintormer.events import Event
from napari_swintormer.plugin.deblur.deblur_events import keep_first_speed
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.made_layers import (
    add_above_source,
    kind_of,
    place_of,
    source_id,
)
from napari_swintormer.plugin.layers.visible_region import InView
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.runs.job import Job

if TYPE_CHECKING:
    from napari_swintormer.engine.region import RestoredRegion  # imports torch


class Preview(Work):
    """Shows a region of the result in its own layer, with the pixels of the whole run.

    The layer is in `layer` while it is in the viewer, the same region of the image in `source`.
    The last job is in `job`, with what it has measured on the image, and restored tiles in `kept`.
    """

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent, on_cancel="Cancelled. The layers are as they were.")
        self._viewer = viewer
        self.kept = KeptTiles()
        self._restored: RestoredRegion | None = None
        self._strength = 1.0
        self.layer: Image | None = None
        self.source: LayerSource | None = None
        self.job: Job | None = None
        viewer.layers.events.removed.connect(self._forget_layer)

    def start(self, job: Job, view: InView) -> None:
        """Restore the region in view with a job that is planned for the whole image."""
        self._strength = job.settings.strength
        self.begin(partial(iter_preview, job, view, self.kept), take=partial(self._accept, view))

    def show_made(self, job: Job, view: InView, restored: RestoredRegion, strength: float) -> None:
        """Show a region that was restored elsewhere, as if this had made it."""
        self.job, self._strength = job, strength
        self.ended.emit(self._show(view, restored))

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

    def _accept(self, view: InView, made: tuple[Job, RestoredRegion]) -> Image | None:
        self.job, restored = made
        return None if self.stopping else self._show(view, restored)

    def _show(self, view: InView, restored: RestoredRegion) -> Image | None:
        data = restored.at_strength(self._strength)
        offset = {**view.position, "Y": restored.region.y0, "X": restored.region.x0}
        self.source = view.source.part_at(offset, restored.image.data)
        new = view.source.part_at(offset, data)
        new = new.result_layer(data, f"{new.name} preview", place=offset)
        if self.layer is not None and _same_place(self.layer, new):
            self.layer.data = data
        else:
            self._replace_by(new)
        self._restored = restored
        height, width = restored.region.shape
        self.said.emit(
            f"Preview of {width} × {height} pixels; the whole image gets the same pixels.", False
        )
        return self.layer

    def _replace_by(self, layer: Image) -> None:
        self.remove()
        active = self._viewer.layers.selection.active
        self.layer = layer
        add_above_source(self._viewer.layers, layer)
        if isinstance(active, Shapes):  # stays chosen, for the next preview of it
            self._viewer.layers.selection.active = active

    def _forget_layer(self, event: Any) -> None:
        if self.layer is not None and event.value == self.layer:
            self.layer = self._restored = None


def iter_preview(
    job: Job, view: InView, kept: KeptTiles | None = None
) -> Generator[Event, None, tuple[Job, RestoredRegion]]:
    """Restore the region in view; the returned job holds what it has measured.

    Restored tiles are kept in `kept`, for the run.
    """
    job = job.ready_at(view.position)
    restored = yield from keep_first_speed(job, job.preview(view.position, view.region, kept))
    return job, restored


def _same_place(shown: Image, new: Image) -> bool:
    """Tell whether a preview shows the same pixels of the same image as another."""
    same = source_id(shown) == source_id(new) and place_of(shown) == place_of(new)
    return same and shown.data.shape == new.data.shape
