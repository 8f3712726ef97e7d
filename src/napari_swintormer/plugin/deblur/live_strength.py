"""Blends finished results in memory at another strength, without the network."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from napari.components import ViewerModel
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_swintormer.imaging.planes import Planes
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.layer_result import MemoryResult
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.result_names import result_title, result_words

_WHOLE = slice(None)


@dataclass(eq=False)
class _Kept:
    """What another strength of a result needs; it does not hold the layer."""

    job: Job
    source: LayerSource
    array: NDArray[Any]
    changes: Planes
    strength: float

    def with_strength(self) -> Job:
        """Return the job of a run with the strength."""
        return replace(self.job, settings=replace(self.job.settings, strength=self.strength))

    def blend(self, numbers: range) -> None:
        """Write some planes at the strength, to the pixels of a run with it."""
        planes = self.job.planes
        for number in numbers:
            raw, change = (p.read(number, _WHOLE, _WHOLE) for p in (planes, self.changes))
            scaled = replace(self.job.ranges[number], strength=self.strength)
            planes.write(self.array, number, _WHOLE, _WHOLE, scaled.apply(raw, change))


_KEPT: WeakKeyDictionary[Image, _Kept] = WeakKeyDictionary()
"""Of every result in memory, also for a panel that is opened later."""


def keep_changes(layer: Image, source: LayerSource, job: Job, result: object) -> None:
    """Remember how a complete result was blended; without its changes this does nothing."""
    if isinstance(result, MemoryResult) and result.changes is not None:
        planes = job.planes
        changes = Planes(result.changes, planes.axes, planes.model_channels)
        strength = job.settings.strength
        _KEPT[layer] = _Kept(job, source, result.array, changes, strength)


class LiveStrength(QObject):
    """Follows the slider: first the plane on the screen, then the others one by one."""

    blended = Signal(object)
    """All planes of a layer have the new strength."""

    def __init__(self, viewer: ViewerModel, parent: QObject) -> None:
        super().__init__(parent)
        self._viewer = viewer
        self._layer: Image | None = None
        self._todo: list[range] = []
        self._timer = QTimer(self, interval=0)
        self._timer.timeout.connect(self._go_on)

    def set_strength(self, layer: Image, strength: float) -> bool:
        """Begin to blend a result at a strength; return whether its changes are known."""
        kept = _KEPT.get(layer)
        if kept is None:
            return False
        if kept.strength == strength and layer != self._layer:
            return True
        self.finish()
        kept.strength, self._layer = strength, layer
        planes = kept.job.planes
        per_position = planes.planes_per_position
        positions = [range(n, n + per_position) for n in range(0, len(planes), per_position)]
        seen = kept.source.position(layer.world_to_data(self._viewer.dims.point))
        first = planes.numbers_at(seen)
        self._todo = [first, *(numbers for numbers in positions if numbers != first)]
        _note_strength(layer, kept.source.name, result_words(kept.with_strength()), strength)
        self._timer.start()
        return True

    def finish(self) -> None:
        """Blend what is left at once."""
        while self._todo:
            self._go_on()

    def _go_on(self) -> None:
        layer = self._layer
        kept = None if layer is None else _KEPT.get(layer)
        if layer is None or kept is None or layer not in self._viewer.layers:
            self._todo = []
        if self._todo and kept is not None and layer is not None:
            kept.blend(self._todo.pop(0))
            layer.refresh(extent=False)
        if not self._todo:
            self._timer.stop()
            self._layer = None
            if kept is not None:
                self.blended.emit(layer)


def _note_strength(layer: Image, name: str, words: list[str], strength: float) -> None:
    """Let metadata and name of a result tell its new strength; a name of the user stays."""
    made = dict(layer.metadata["swintormer"])
    made["settings"] = made["settings"] | {"strength": strength}
    run = made["run"]
    settings = {k: v for k, v in run["settings"].items() if k != "strength"}
    made["run"] = run | {"settings": settings | {"strength": strength}}
    made["run"]["words"] = words
    before = re.escape(result_title(name, run["words"]))
    if re.fullmatch(rf"{before}( \[\d+\])?", layer.name):  # the number is napari's
        layer.name = result_title(name, words)
    layer.metadata = layer.metadata | {"swintormer": made}
