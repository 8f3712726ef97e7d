"""Turns arrays into pictures of Qt."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtGui import QImage, QPixmap


def pixmap_of(pixels: NDArray[Any]) -> QPixmap:
    """Make a picture of grey levels (height, width) or colours (height, width, 3), 0 to 255."""
    pixels = np.ascontiguousarray(pixels, np.uint8)
    formats = {2: QImage.Format.Format_Grayscale8, 3: QImage.Format.Format_RGB888}
    height, width = pixels.shape[:2]
    image = QImage(pixels.data, width, height, pixels.strides[0], formats[pixels.ndim])
    return QPixmap.fromImage(image)  # a copy: the array may go
