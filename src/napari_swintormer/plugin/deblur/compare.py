"""Buttons that compare before and after: swipe line, toggle key, difference, residual."""

from __future__ import annotations

from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import napari
import numpy as np
from napari.layers import Image
from napari.utils.colormaps import Colormap
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QWidget

from napari_swintormer.plugin.layers.comparison import Comparison
from napari_swintormer.plugin.layers.layer_data import LayerSource, as_dask
from napari_swintormer.plugin.layers.made_layers import (
    Kind,
    add_above_source,
    id_of,
    made_of,
    mark,
    source_id,
)
from napari_swintormer.plugin.layers.residual_layer import ResidualWork
from napari_swintormer.plugin.layers.swipe import Swipe
from napari_swintormer.plugin.shared.style import button, button_row

TOGGLE_KEY = "B"
_SAMPLE = 1_000_000  # pixels that the contrast limits of a difference are measured on
_TRANSFORM = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")
_DARKER_BRIGHTER = Colormap(
    [[0.25, 0.6, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 0.65, 0.15, 1.0]],
    name="darker-brighter",
    display_name="darker – brighter",
)


class ComparePanel(QWidget):
    """Buttons that compare a result, or a preview, with the blurred image."""

    said = Signal(str, bool)
    usable = Signal(bool)
    """Whether there is a result to compare."""

    def __init__(self, viewer: napari.Viewer) -> None:
        super().__init__()
        self._viewer = viewer
        self._sources: WeakKeyDictionary[Image, LayerSource] = WeakKeyDictionary()
        self._last: Image | None = None
        self._swipe = Swipe(viewer, self)
        self._comparison = Comparison(viewer)
        self.residual_work = ResidualWork(self)
        self.swipe = button(
            "Swipe",
            "Draw a line over the image: blurred on its left, deblurred on its right.",
            checkable=True,
        )
        self.before = button(
            "Before",
            f"Show the image as it was. The key {TOGGLE_KEY} does the same. Other results of the\n"
            "image are hidden meanwhile.",
            checkable=True,
        )
        self.difference = button(
            "Difference",
            "Add a layer of the change: orange is brighter in the result, blue is darker.",
            self.add_difference,
        )
        self.residual = button(
            "Residual",
            "Blur the result again with the blur that fits each place best, and subtract it\n"
            "from the image. Grain is left where the result explains the image, structure\n"
            "where it does not.",
            self._start_residual,
        )
        self._buttons = (self.swipe, self.before, self.difference, self.residual)
        button_row(self, *self._buttons, columns=2)  # four in a row would widen the panel
        self.swipe.toggled.connect(self._swipe_or_not)
        self.before.toggled.connect(self._hide_or_show)
        self.residual_work.said.connect(self.said)
        self.residual_work.made.connect(self._add_residual)
        self._swipe.stopped.connect(lambda: self.swipe.setChecked(False))
        viewer.layers.events.removed.connect(self._forget_layer)
        viewer.layers.selection.events.active.connect(self._enable)
        viewer.bind_key(TOGGLE_KEY, self._toggle, overwrite=True)
        self._enable()

    @property
    def layer(self) -> Image | None:
        """The compared layer: the active one if it is a result, else the last result."""
        active = self._viewer.layers.selection.active  # a wrapper: equal, but not identical
        return next((known for known in self._sources if known == active), self._last)

    def add(self, layer: Image, source: LayerSource) -> None:
        """Register a result or a preview, and the blurred image of the same shape and place."""
        self.before.setChecked(False)
        self._sources[layer] = source
        self._last = layer
        layer.events.visible.connect(self._follow_visibility)
        self._enable()

    def add_difference(self) -> None:
        """Add a layer of the result minus the blurred image; lazy if one of them is lazy."""
        layer = self.layer
        if layer is not None:
            self._end_comparison()
            self._add_signed(layer, _difference(layer, self._sources[layer]), "difference")

    def renew_difference(self, layer: Image) -> None:
        """Follow a result that has another strength now; a residual is not true any more."""
        for old in made_of(layer, "residual", self._viewer.layers):
            self._viewer.layers.remove(old)
        for shown in made_of(layer, "difference", self._viewer.layers):
            levels = _difference(layer, self._sources[layer])
            if shown.name.endswith(", difference"):
                shown.name = f"{layer.name}, difference"
            shown.data = levels if len(levels) > 1 else levels[0]

    def _start_residual(self) -> None:
        if self.layer is not None:
            self.residual_work.start(self.layer, self._sources[self.layer])

    def _add_residual(self, layer: Image, residual: Any) -> None:
        self._end_comparison()
        self._add_signed(layer, [residual.mean(axis=-1) if layer.rgb else residual], "residual")

    def _add_signed(self, layer: Image, levels: list[Any], kind: Kind) -> None:
        """Add a layer of positive and negative values with the transform of another layer.

        It takes the place of one that was added before.
        """
        limit = _largest(levels[-1])
        made = Image(
            levels if len(levels) > 1 else levels[0],
            name=f"{layer.name}, {kind}",
            multiscale=len(levels) > 1,
            colormap=_DARKER_BRIGHTER,
            contrast_limits=(-limit, limit),
            cache=False,
            metadata=mark(kind, source_id(layer), of=id_of(layer)),
            **{key: getattr(layer, key) for key in _TRANSFORM},
        )
        for earlier in made_of(layer, kind, self._viewer.layers):
            self._viewer.layers.remove(earlier)
        add_above_source(self._viewer.layers, made)

    def close_comparison(self) -> None:
        """Remove the swipe line and the key from the viewer, and show all layers again."""
        self._end_comparison()
        self.residual_work.cancel()
        self._viewer.bind_key(TOGGLE_KEY, None, overwrite=True)

    def _end_comparison(self) -> None:
        self.swipe.setChecked(False)
        self.before.setChecked(False)

    def _swipe_or_not(self, on: bool) -> None:
        layer = self.layer
        if not on or layer is None:
            self._swipe.stop()
            self._hide_what_covers()
            return
        grid = getattr(self._viewer, "canvas", self._viewer).grid
        if self._viewer.dims.ndisplay != 2 or grid.enabled:
            self.swipe.setChecked(False)
            self.said.emit("The swipe line needs a 2D view without grid.", False)
            return
        self.before.setChecked(False)
        self._hide_what_covers()
        layer.visible = True
        self._swipe.start(layer)

    def _hide_or_show(self, hide: bool) -> None:
        """Hide the compared layer; `_comparison` knows which one that is when it is shown again."""
        if hide:
            self._hide_what_covers()
        compared = self._comparison.layer
        if compared is not None and compared in self._viewer.layers:
            compared.visible = not hide
        if not hide:
            self._hide_what_covers()

    def _hide_what_covers(self) -> None:
        """Begin or end the comparison, as the buttons say."""
        if self.layer is not None and (self.swipe.isChecked() or self.before.isChecked()):
            self._comparison.start(self.layer)
        else:
            self._comparison.stop()

    def _toggle(self, viewer: Any) -> None:
        if self.before.isEnabled():
            self.before.toggle()

    def _follow_visibility(self, event: Any) -> None:
        """Release the button when the eye in the list of layers shows the layer again."""
        layer = event.source
        if layer.visible and self.before.isChecked() and layer == self._comparison.layer:
            self.before.setChecked(False)

    def _forget_layer(self, event: Any) -> None:
        self._sources.pop(event.value, None)
        if event.value == self._comparison.layer:
            self._end_comparison()
        if event.value == self._last:
            known = [layer for layer in self._viewer.layers if layer in self._sources]
            self._last = known[-1] if known else None
        self._enable()

    def _enable(self, *_: Any) -> None:
        """Enable the buttons, and compare the layer that has become the compared one."""
        layer, compared = self.layer, self._comparison.layer
        for each in self._buttons:
            each.setEnabled(layer is not None)
        self.usable.emit(layer is not None)
        if layer is None or compared is None or layer == compared:
            return
        if self.before.isChecked():
            self.before.setChecked(False)
        if self.swipe.isChecked():
            self._hide_what_covers()
            layer.visible = True
            self._swipe.start(layer)


def _difference(layer: Image, source: LayerSource) -> list[Any]:
    """Return the result minus the image, level by level, averaged over the colours."""
    after = list(layer.data) if layer.multiscale else [layer.data]
    before = [source.data, *source.coarser]
    levels = []
    for level in after:
        fitting = [b for b in before if b.shape == level.shape]
        if not fitting:  # take every second, fourth … pixel of the image
            steps = [round(n / m) for n, m in zip(source.data.shape, level.shape, strict=True)]
            sparse = as_dask(source.data)[tuple(slice(None, None, step) for step in steps)]
            fitting = [sparse[tuple(slice(0, n) for n in level.shape)]]
        in_memory = isinstance(level, np.ndarray) and isinstance(fitting[0], np.ndarray)
        one, other = (a if in_memory else as_dask(a) for a in (level, fitting[0]))
        change = one.astype(np.float32) - other.astype(np.float32)
        levels.append(change.mean(axis=-1) if layer.rgb else change)
    return levels


def _largest(change: Any) -> float:
    """Return the 99.5th percentile of the absolute change, from a sample."""
    step = max(1, round((prod(change.shape) / _SAMPLE) ** 0.5))
    sample = np.abs(np.asarray(change[..., ::step, ::step]))
    sample = sample[np.isfinite(sample)]
    return float(np.percentile(sample, 99.5)) if sample.any() else 1.0
