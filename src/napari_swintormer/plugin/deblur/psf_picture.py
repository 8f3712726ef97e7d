"""Draws point-spread functions for the panel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from qtpy.QtGui import QPixmap

from napari_swintormer.plugin.shared.pixmaps import pixmap_of

_HEIGHT = 82  # pixels of the picture, about


def psf_pixmap(*views: NDArray[np.floating]) -> QPixmap:
    """Draw views of a PSF side by side, as grey levels; dim parts are raised."""
    height = max(len(view) for view in views)
    padded = []
    for view in views:
        level = np.sqrt(view / view.max()) * 255
        above = (height - len(view)) // 2
        padded.append(np.pad(level, ((above, height - len(view) - above), (0, 4))))
    picture = np.concatenate(padded, axis=1)[:, :-4]
    scale = max(1, round(_HEIGHT / height))
    return pixmap_of(np.kron(picture, np.ones((scale, scale))))
