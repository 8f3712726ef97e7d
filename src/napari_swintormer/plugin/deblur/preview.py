"""Deblur what is on the screen ahead of the run, and try the strength on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel
from napari.layers import Image
from qtpy.QtCore import QObject, Signal

from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.view import InView
from napari_swintormer.plugin.shared.wiring import attach, show_error
from napari_swintormer.plugin.shared.worker import PreviewWorker
from napari_swintormer.runs.job import Job

if TYPE_CHECKING:
    from napari_swintormer.engine.region import RestoredRegion  # imports torch


class Preview(QObject):
    """Shows a region of the result in a layer of its own, with the pixels of the run.

    Parameters
    ----------
    viewer
        Gets the layer.

    Attributes
    ----------
    layer
        The last preview that is still in the viewer, or None.
    source
        The same part of the blurred image.
    """

    changed = Signal()
    """A preview is being made, or none."""
    progressed = Signal(object)
    said = Signal(str, bool)
    """Something to tell the user; whether it is an error."""
    ended = Signal(object)
    """The layer is there, or None after an error or Cancel."""

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._worker: PreviewWorker | None = None
        self.source: LayerSource | None = None
        self._whole: LayerSource | None = None
        self._restored: RestoredRegion | None = None
        self._strength = 1.0
        self._provenance: dict[str, Any] = {}
        self._position: Mapping[str, int] = {}
        self.layer: Image | None = None
        self._made: Image | None = None
        viewer.layers.events.removed.connect(self._forget_layer)

    @property
    def running(self) -> bool:
        """Whether a preview is being made."""
        return self._worker is not None

    def start(self, job: Job, view: InView) -> None:
        """Restore what is in view.

        Parameters
        ----------
        job
            Of the run over the whole image.
        view
            What is on the screen of it.
        """
        self._whole, self._position = view.source, view.position
        self._strength = job.settings.strength
        self._worker = worker = PreviewWorker(job, view.position, view.region)
        worker.progressed.connect(self.progressed)
        worker.returned.connect(self._show)
        attach(worker, self, self._show_error, self._reset)
        self.said.emit("", False)
        self.changed.emit()
        worker.start()

    def cancel(self) -> None:
        """Stop after the batch of tiles at hand; a preview from before stays."""
        if self._worker is not None:
            self._worker.quit()
            self.said.emit("Cancelled. The layers are as they were.", False)

    def set_strength(self, strength: float) -> None:
        """Show the preview at another strength, at once: the network is not needed for it."""
        if self._restored is not None and self.layer is not None and strength != self._strength:
            self._strength = strength
            self.layer.data = self._restored.finished(strength)

    def remove(self) -> None:
        """Remove the preview from the viewer."""
        if self.layer is not None:
            self._viewer.layers.remove(self.layer)

    def _show(self, restored: RestoredRegion) -> None:
        if self._whole is None or self._worker is None or self._worker.abort_requested:
            return
        self.remove()
        self._restored = restored
        data = restored.finished(self._strength)
        place = {**self._position, "Y": restored.region.y0, "X": restored.region.x0}
        part = self._whole.part_at(place, data)
        self.source = self._whole.part_at(place, restored.image.data)
        self.layer = self._made = part.result_layer(data, kind="preview")
        self._viewer.add_layer(self.layer)
        height, width = restored.region.shape
        self.said.emit(
            f"Preview of {width} × {height} pixels; the whole image gets the same pixels.", False
        )

    def _show_error(self, error: Exception) -> None:
        show_error(error, self.said.emit)

    def _reset(self) -> None:
        if self._worker is None:
            return
        self.destroyed.disconnect(self._worker.quit)
        self._worker = self._whole = None
        self.changed.emit()
        made, self._made = self._made, None
        self.ended.emit(made)

    def _forget_layer(self, event: Any) -> None:
        if self.layer is not None and event.value == self.layer:
            self.layer = self._restored = None
