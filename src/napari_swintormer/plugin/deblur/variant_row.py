"""A row of results with labels: the mouse shows one large, a click chooses one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from napari.utils.colormaps import ensure_colormap
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QHideEvent, QIcon, QPixmap, QShowEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_swintormer.plugin.deblur.large_picture import LargePicture
from napari_swintormer.plugin.deblur.variants import Variant
from napari_swintormer.plugin.shared.pixmaps import pixmap_of
from napari_swintormer.plugin.shared.style import text_label

SIDE = 240  # pixels of the screen
_SMALLEST, _OTHERS = 120, 620  # pixels: a picture in a low window, and what stands above the row
_BORDER = 16  # pixels


class VariantRow(QScrollArea):
    """Shows the pictures of variants from left to right, as they are made.

    Parameters
    ----------
    variants
        At least one.
    side
        Height and width of a picture, in pixels of the screen.
    axes, look
        Axes of the image, and the colours and contrast limits of its layer, as in
        `napari_swintormer.plugin.layers.layer_data.LayerSource`.
    """

    chosen = Signal(object)
    """The number of the variant that was clicked."""
    shown = Signal(bool)
    """The row has come onto the screen, or has left it."""

    def __init__(
        self, variants: Sequence[Variant], axes: str, look: dict[str, Any], side: int = SIDE
    ) -> None:
        super().__init__()
        self.side = side
        self._axes, self._look = axes, look
        self.buttons: list[QToolButton] = []
        self._pictures: dict[int, QPixmap] = {}
        self._group = QButtonGroup(self)  # only one button is checked
        self.large = LargePicture(self)  # of the one under the mouse
        inside = QWidget()
        column, row = QVBoxLayout(inside), QHBoxLayout()
        column.setContentsMargins(8, 4, 8, 4)
        hint = text_label("caption")
        hint.setText(
            "The frame on the image shows what is tried. Hold the mouse over a picture to see it "
            "large. Click it to see it in the image, as the preview."
        )
        column.addWidget(hint)
        column.addLayout(row)
        row.setSpacing(8)
        row.addStretch(1)
        for number, variant in enumerate(variants):
            button = QToolButton()
            button.setObjectName("swintormer-variant")
            button.setText(variant.label)
            button.setAccessibleDescription(f"Show {variant.label} as the preview")
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
            button.setIconSize(QSize(side, side))
            button.setFixedSize(side + 10, side + 32)
            button.setCheckable(True)
            button.setEnabled(False)
            button.clicked.connect(lambda _, number=number: self.chosen.emit(number))
            button.installEventFilter(self)
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
        picture = pixmap_of(coloured(pixels, self._axes, self._look))
        self._pictures[number] = picture
        button = self.buttons[number]
        small = picture.scaled(
            self.side,
            self.side,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.FastTransformation,
        )
        button.setIcon(QIcon(small))
        button.setEnabled(True)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Return the size of the whole row, and of the border that a dock has."""
        return QSize(self.widget().sizeHint().width() + _BORDER, self.height())

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Show the picture under the mouse large."""
        if event.type() == QEvent.Type.Enter and watched in self.buttons:
            number = self.buttons.index(watched)
            if number in self._pictures:
                self.large.show_picture(self._pictures[number], self.buttons[number])
        elif event.type() == QEvent.Type.Leave:
            self.large.hide()
        return bool(super().eventFilter(watched, event))

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Tell that the row is on the screen."""
        super().showEvent(event)
        self.shown.emit(True)

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802 (Qt's name)
        """Tell that the row has left the screen."""
        super().hideEvent(event)
        self.large.hide()
        self.shown.emit(False)


def side_for(window_height: int) -> int:
    """Return the side of pictures that leave room for the other panels of a window."""
    return max(_SMALLEST, min(SIDE, window_height - _OTHERS))


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
