"""The picture of a validation patch in the Train panel, while a training runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from qtpy.QtCore import Qt
from qtpy.QtGui import QPixmap, QResizeEvent
from qtpy.QtWidgets import QLabel, QSizePolicy

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.plugin.shared.pixmaps import pixmap_of

_LARGEST = 160  # pixels, height


class ValidationPicture(QLabel):
    """Shows a patch before and after deblurring, beside the sharp one; hidden at first."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = QPixmap()
        self.setToolTip("From left to right: blurred, deblurred by the new model, sharp.")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self.hide()

    def show_file(self, file: Path) -> None:
        """Show a picture of three patches side by side."""
        with open_image(file) as image:
            self._whole = pixmap_of(np.asarray(image.data[...]))
        self.show()
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 (Qt's name)
        """Fill the width of the panel."""
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self._fit()

    def _fit(self) -> None:
        if self._whole.isNull():
            return
        fitted = self._whole.scaled(
            max(1, self.width()),
            _LARGEST,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
        self.setFixedHeight(fitted.height())
        self.setPixmap(fitted)
