"""A row of small results with labels; a click chooses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.utils.colormaps import ensure_colormap
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtGui import QIcon
from qtpy.QtWidgets import QButtonGroup, QFrame, QHBoxLayout, QScrollArea, QToolButton, QWidget

from napari_swintormer.plugin.deblur.variants import Variant
from napari_swintormer.plugin.shared.pixmaps import pixmap_of

_SIDE = 128  # pixels of the screen


class VariantRow(QScrollArea):
    """Shows the pictures of variants from left to right, as they are made.

    Parameters
    ----------
    variants
        At least one.
    axes, look
        Axes of the image, and the colours and contrast limits of its layer, as in
        `napari_swintormer.plugin.layers.layer_data.LayerSource`.
    """

    chosen = Signal(object)
    """The `Variant` that was clicked."""

    def __init__(self, variants: Sequence[Variant], axes: str, look: dict[str, Any]) -> None:
        super().__init__()
        self._axes, self._look = axes, look
        self.buttons: list[QToolButton] = []
        self._group = QButtonGroup(self)  # only one button is checked
        inside = QWidget()
        row = QHBoxLayout(inside)
        row.setContentsMargins(8, 4, 8, 4)
        row.setSpacing(8)
        row.addStretch(1)
        for variant in variants:
            button = QToolButton()
            button.setObjectName("swintormer-variant")
            button.setText(variant.label)
            button.setToolTip(f"Use {variant.label}")
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            button.setIconSize(QSize(_SIDE, _SIDE))
            button.setFixedSize(_SIDE + 10, _SIDE + 32)
            button.setCheckable(True)
            button.setEnabled(False)
            button.clicked.connect(lambda _, variant=variant: self.chosen.emit(variant))
            self._group.addButton(button)
            self.buttons.append(button)
            row.addWidget(button)
        row.addStretch(1)
        self.setWidget(inside)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # Tab goes to the buttons
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        bar = self.horizontalScrollBar().sizeHint().height()
        self.setFixedHeight(inside.sizeHint().height() + bar)

    def show_result(self, number: int, pixels: NDArray[Any]) -> None:
        """Show the pixels of a variant, counted from 0; T, C and Z have the size 1."""
        pixmap = pixmap_of(coloured(pixels, self._axes, self._look)).scaled(
            _SIDE,
            _SIDE,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.FastTransformation,
        )
        button = self.buttons[number]
        button.setIcon(QIcon(pixmap))
        button.setEnabled(True)


def coloured(pixels: NDArray[Any], axes: str, look: dict[str, Any]) -> NDArray[np.uint8]:
    """Return a plane in the colours of its layer, as uint8 (height, width, 3)."""
    kept = "YXS" if look["rgb"] else "YX"
    plane = pixels[tuple(slice(None) if axis in kept else 0 for axis in axes)]
    left = [axis for axis in axes if axis in kept]
    plane = plane.transpose([left.index(axis) for axis in kept])
    if look["rgb"]:
        top = np.iinfo(plane.dtype).max if plane.dtype.kind in "ui" else 1
        colours = np.clip(plane[..., :3].astype(np.float32) / top, 0, 1)
    else:
        low, high = look["contrast_limits"]
        share = np.clip((plane.astype(np.float32) - low) / max(high - low, 1e-12), 0, 1)
        colormap = ensure_colormap(look["colormap"])
        colours = colormap.map(share.ravel() ** look["gamma"]).reshape(*plane.shape, -1)[..., :3]
    return np.rint(255 * colours).astype(np.uint8)
