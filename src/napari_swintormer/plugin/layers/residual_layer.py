"""The layer of what a result does not explain, computed in a worker."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import psutil
from napari.layers import Image
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_swintormer.evaluation.residual import blocks, pair_of_planes, residual_region
from napari_swintormer.events import Clock
from napari_swintormer.plugin.layers.layer_data import LayerSource, full_resolution
from napari_swintormer.plugin.shared.wiring import attach, show_error
from napari_swintormer.plugin.shared.worker import EventWorker
from napari_swintormer.tiling.plan import size_text

_SHARE_OF_MEMORY = 0.25


class ResidualWorker(EventWorker[NDArray[np.float32]]):
    """Makes the residual map of a result, region by region.

    Parameters
    ----------
    source
        What was deblurred.
    result
        Of the same shape and axes.
    """

    def __init__(self, source: LayerSource, result: Any) -> None:
        super().__init__()
        self._source, self._result = source, result

    def work(self) -> NDArray[np.float32] | None:
        """Make the map; None after an abort."""
        blurred, sharp = pair_of_planes(self._source.data, self._result, self._source.axes)
        regions, out = blocks(blurred.shape), np.zeros(self._source.data.shape, np.float32)
        clock = Clock(len(blurred) * len(regions), "regions")
        for plane in range(len(blurred)):
            for y, x in regions:
                left = residual_region(blurred, sharp, plane, y, x).residual
                blurred.write_beside(out, plane, y, x, left)
                if self.abort_requested:
                    return None
                self._report(clock.after(1))
        return out


class Residual(QObject):
    """Runs one worker at a time.

    Attributes
    ----------
    made
        Signal: the layer of the result, and the map of it.
    said
        Signal: something to tell the user; whether it is an error.
    """

    made = Signal(object, object)
    said = Signal(str, bool)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._worker: ResidualWorker | None = None

    @property
    def running(self) -> bool:
        """Whether a map is being made."""
        return self._worker is not None

    def start(self, layer: Image, source: LayerSource) -> None:
        """Make the map of a result, unless one is being made."""
        if self._worker is not None:
            return
        needed, free = 4 * prod(source.data.shape), psutil.virtual_memory().available
        if needed > _SHARE_OF_MEMORY * free:
            self.said.emit(
                f"The map takes {size_text(needed)} of memory, too much of the {size_text(free)} "
                "that are free. Save the result, and use the command `swintormer residual`.",
                True,
            )
            return
        self._worker = worker = ResidualWorker(source, full_resolution(layer))
        worker.progressed.connect(
            lambda event: self.said.emit(f"Blurring again … {event.share:.0%}", False)
        )
        worker.returned.connect(lambda found: self._show(layer, found))
        attach(worker, self, lambda error: show_error(error, self.said.emit), self._reset)
        worker.start()

    def stop(self) -> None:
        """Stop after the region at hand."""
        if self._worker is not None:
            self._worker.quit()

    def _show(self, layer: Image, found: NDArray[np.float32] | None) -> None:
        if found is not None:
            self.said.emit(
                "Dark and grainy is explained; lines and spots are not, or are blurred in another "
                "way.",
                False,
            )
            self.made.emit(layer, found)

    def _reset(self) -> None:
        if self._worker is not None:
            self.destroyed.disconnect(self._worker.quit)
            self._worker = None
