"""Draws a layer again while the coarser levels of its file are being made."""

from __future__ import annotations

import os

import napari
from napari.layers import Image
from qtpy.QtCore import QCoreApplication, QTimer

from napari_swintormer.plugin.layers.kept_levels import KeptLevels

_EVERY = 500  # milliseconds


def follow(levels: KeptLevels, path: str | os.PathLike[str]) -> None:
    """Draw the layers of a file again and again until its levels are made.

    Without a window there is nothing to draw, and nothing is done.
    """
    application = QCoreApplication.instance()
    if application is None:
        return
    timer = QTimer(application, interval=_EVERY)
    done = levels.done  # not the levels: they are not made for a layer that has gone

    def draw() -> None:
        if done.is_set():
            timer.stop()
            timer.deleteLater()
        viewer = napari.current_viewer()
        for layer in () if viewer is None else viewer.layers:
            if isinstance(layer, Image) and layer.source.path == str(path):
                layer.refresh(extent=False, highlight=False)

    timer.timeout.connect(draw)
    timer.start()
