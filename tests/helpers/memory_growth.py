"""Print by how many bytes the memory in use grows over four runs: ``python memory_growth.py``.

The smallest of four values counts: the memory of one run is given back now or with the next one.

A process of its own: what other tests have left to the allocator would be counted, too.
"""

from __future__ import annotations

import ctypes
import gc

import numpy as np
import psutil
from napari.components import ViewerModel
from qtpy.QtCore import QEvent, QEventLoop
from qtpy.QtWidgets import QApplication

from napari_swintormer.models.restorer import Restorer
from napari_swintormer.models.tile_restorer import TileRestorer
from napari_swintormer.plugin.deblur.deblur_widget import DeblurWidget


def own_memory() -> int:
    """Memory in use, without libraries and what the allocator keeps for later."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def main() -> None:
    """Run, remove the result, and run again."""
    application = QApplication([])
    # what the network computes is no matter here; it is loaded for every run
    Restorer.in_steps = TileRestorer.in_steps
    Restorer.forward = lambda self, tiles: tiles + 0.1
    viewer = ViewerModel()
    image = np.random.default_rng(0).integers(0, 999, (2400, 2400)).astype("uint16")
    layer = viewer.add_image(image)
    widget = DeblurWidget(viewer)
    widget.form.device.value, widget.form.precision.value = "cpu", "fp32"
    widget.form.tile_size.value, widget.form.overlap.value = 512, 0
    made: list[object] = []
    loop = QEventLoop()
    widget.finished.connect(made.append)
    widget.finished.connect(loop.quit)

    def once() -> int:
        widget.run()
        loop.exec()
        viewer.layers.remove(made.pop())
        viewer.layers.selection.active = layer
        return own_memory()

    for _ in range(4):  # libraries, caches and the allocator settle
        once()
    before, after = (min(once() for _ in range(4)) for _ in range(2))
    print(after - before)  # noqa: T201
    # the widgets go before the application, else Qt crashes
    widget.deleteLater()
    application.sendPostedEvents(None, QEvent.Type.DeferredDelete)


if __name__ == "__main__":
    main()
