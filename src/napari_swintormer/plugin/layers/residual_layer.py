"""The map of what a result does not explain, computed in a thread."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from math import prod
from typing import Any

import numpy as np
import psutil
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_swintormer.evaluation.residual import fill_residual, pair_of_planes
from napari_swintormer.events import Progress
from napari_swintormer.plugin.layers.layer_data import LayerSource, full_resolution
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.tiling.plan import size_text

_SHARE_OF_MEMORY = 0.25


class ResidualWork(Work):
    """Computes one residual map at a time.

    Attributes
    ----------
    made
        Signal: the layer of the result, and its map.
    """

    made = Signal(object, object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.progressed.connect(
            lambda event: self.said.emit(f"Blurring the result again … {event.share:.0%}", False)
        )

    def start(self, layer: Image, source: LayerSource) -> None:
        """Compute the map of a result, unless one is being computed."""
        if self.running:
            return
        needed, free = 4 * prod(source.data.shape), psutil.virtual_memory().available
        if needed > _SHARE_OF_MEMORY * free:
            self.said.emit(
                f"The map takes {size_text(needed)} of memory, too much of the {size_text(free)} "
                "that are free. Save the result, and use the command `swintormer residual`.",
                True,
            )
            return
        self.begin(
            partial(_iter_residual, source, full_resolution(layer)), take=partial(self._show, layer)
        )

    def _show(self, layer: Image, residual: NDArray[np.float32]) -> None:
        self.said.emit(
            "The result explains what is dark and grainy. It does not explain lines and spots, or "
            "the blur there is of another kind.",
            False,
        )
        self.made.emit(layer, residual)


def _iter_residual(
    source: LayerSource, result: Any
) -> Generator[Progress, None, NDArray[np.float32]]:
    """Compute the residual region by region; `result` has the shape and axes of the source."""
    out = np.zeros(source.data.shape, np.float32)
    yield from fill_residual(*pair_of_planes(source.data, result, source.axes), out)
    return out
