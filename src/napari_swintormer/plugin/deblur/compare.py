"""Before and after: a swipe line, a key that toggles, difference and residual as layers."""

from __future__ import annotations

from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import napari
import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QGridLayout, QPushButton, QWidget

from napari_swintormer.plugin.layers.layer_data import LayerSource, as_dask
from napari_swintormer.plugin.layers.residual_layer import Residual
from napari_swintormer.plugin.layers.swipe import Swipe

TOGGLE_KEY = "B"
_SAMPLE = 1_000_000  # pixels, of which the contrast limits of a difference are measured
_DARKER_BRIGHTER = Colormap(
    [[0.25, 0.6, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.65, 0.15, 1.0]],
    name="darker-brighter",
    display_name="darker – brighter",
)


class ComparePanel(QWidget):
    """Buttons that compare a result, or a preview, with the blurred image.

    Parameters
    ----------
    viewer
        Shows both.
    """

    said = Signal(str, bool)

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._sources: WeakKeyDictionary[Image, LayerSource] = WeakKeyDictionary()
        self._last: Image | None = None
        self._swipe = Swipe(viewer, self)
        self.swipe = _button(
            "Swipe", "Draw a line over the image: blurred on its left, deblurred on its right."
        )
        self.before = _button(
            "Before", f"Hide the deblurred layer. The key {TOGGLE_KEY} does the same."
        )
        self.difference = QPushButton("Difference")
        self.difference.setToolTip(
            "Add a layer of what has changed: orange where brighter, blue where darker."
        )
        self.residual = QPushButton("Residual")
        self.residual.setToolTip(
            "Blur the result again as it fits best, place by place, and add a layer of what is\n"
            "left of the image: grain where the result explains it, structure where it does not."
        )
        self._residual = Residual(self)
        layout = QGridLayout(self)  # four in a row would make the panel wide
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        for number, button in enumerate((self.swipe, self.before, self.difference, self.residual)):
            layout.addWidget(button, number // 2, number % 2)
        self.swipe.toggled.connect(self._swipe_or_not)
        self.before.toggled.connect(self._hide_or_show)
        self.difference.clicked.connect(self.add_difference)
        self.residual.clicked.connect(self._start_residual)
        self._residual.said.connect(self.said)
        self._residual.made.connect(self._add_residual)
        self._swipe.stopped.connect(lambda: self.swipe.setChecked(False))
        viewer.layers.events.removed.connect(self._forget_layer)
        viewer.layers.selection.events.active.connect(self._enable)
        viewer.bind_key(TOGGLE_KEY, self._toggle, overwrite=True)
        self._enable()

    @property
    def layer(self) -> Image | None:
        """The layer that is compared: the active one if it is a result, else the last result."""
        active = self._viewer.layers.selection.active  # wrapped by napari: equal, not the same
        return next((known for known in self._sources if known == active), self._last)

    def add(self, layer: Image, source: LayerSource) -> None:
        """Make a result, or a preview, known.

        Parameters
        ----------
        layer
            In the viewer.
        source
            What it was made from, in the same place and shape.
        """
        self._sources[layer] = source
        self._last = layer
        self.before.setChecked(False)
        layer.events.visible.connect(self._enable)
        if self.swipe.isChecked():
            self._swipe.start(layer)
        self._enable()

    def add_difference(self) -> None:
        """Add a layer of the result minus the blurred image; lazy where these are."""
        layer = self.layer
        if layer is None:
            return
        self._add_signed(layer, _difference(layer, self._sources[layer]), "difference")

    def _start_residual(self) -> None:
        if self.layer is not None:
            self._residual.start(self.layer, self._sources[self.layer])

    def _add_residual(self, layer: Image, residual: Any) -> None:
        self._add_signed(layer, [residual.mean(axis=-1) if layer.rgb else residual], "residual")

    def _add_signed(self, layer: Image, levels: list[Any], kind: str) -> None:
        """Add a layer of what is above and below zero, in the place of another."""
        limit = _largest(levels[-1])
        look = {key: getattr(layer, key) for key in _PLACE}
        self._viewer.add_image(
            levels if len(levels) > 1 else levels[0],
            name=f"{layer.name}, {kind}",
            multiscale=len(levels) > 1,
            colormap=_DARKER_BRIGHTER,
            contrast_limits=(-limit, limit),
            cache=False,
            **look,
        )

    def close_comparison(self) -> None:
        """Leave the viewer as it would be without this panel."""
        self._swipe.stop()
        self._residual.stop()
        self._viewer.bind_key(TOGGLE_KEY, None, overwrite=True)

    def _swipe_or_not(self, on: bool) -> None:
        layer = self.layer
        if not on or layer is None:
            self._swipe.stop()
            return
        if (
            self._viewer.dims.ndisplay != 2
            or getattr(self._viewer, "canvas", self._viewer).grid.enabled
        ):
            self.swipe.setChecked(False)
            self.said.emit("The swipe line needs the view in two dimensions, without grid.", False)
            return
        layer.visible = True
        self._swipe.start(layer)

    def _hide_or_show(self, hide: bool) -> None:
        if self.layer is not None:
            self.layer.visible = not hide

    def _toggle(self, viewer: Any) -> None:
        if self.before.isEnabled():
            self.before.toggle()

    def _forget_layer(self, event: Any) -> None:
        self._sources.pop(event.value, None)
        if event.value == self._last:
            known = [layer for layer in self._viewer.layers if layer in self._sources]
            self._last = known[-1] if known else None
        self._enable()

    def _enable(self, *_: Any) -> None:
        layer = self.layer
        for button in (self.swipe, self.before, self.difference, self.residual):
            button.setEnabled(layer is not None)
        if self._swipe.layer is not None and layer is not None and layer is not self._swipe.layer:
            self._swipe.start(layer)
        self.before.blockSignals(True)
        self.before.setChecked(layer is not None and not layer.visible)
        self.before.blockSignals(False)


_PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def _button(text: str, tooltip: str) -> QPushButton:
    button = QPushButton(text)
    button.setCheckable(True)
    button.setToolTip(tooltip)
    return button


def _difference(layer: Image, source: LayerSource) -> list[Any]:
    """Give the levels of the result minus those of the image, colours averaged."""
    after = list(layer.data) if layer.multiscale else [layer.data]
    before = [source.data, *source.coarser]
    levels = []
    for level in after:
        fitting = [b for b in before if b.shape == level.shape]
        if not fitting:  # every second, fourth … pixel of the image
            steps = [round(n / m) for n, m in zip(source.data.shape, level.shape, strict=True)]
            sparse = as_dask(source.data)[tuple(slice(None, None, step) for step in steps)]
            fitting = [sparse[tuple(slice(0, n) for n in level.shape)]]
        in_memory = isinstance(level, np.ndarray) and isinstance(fitting[0], np.ndarray)
        one, other = (a if in_memory else as_dask(a) for a in (level, fitting[0]))
        change = one.astype(np.float32) - other.astype(np.float32)
        levels.append(change.mean(axis=-1) if layer.rgb else change)
    return levels


def _largest(change: Any) -> float:
    """Size of nearly the largest change, of a sample."""
    step = max(1, round((prod(change.shape) / _SAMPLE) ** 0.5))
    sample = np.abs(np.asarray(change[..., ::step, ::step]))
    sample = sample[np.isfinite(sample)]
    return float(np.percentile(sample, 99.5)) if sample.any() else 1.0
