"""The layers that show a validation patch while a training runs."""

from __future__ import annotations

from pathlib import Path

import napari
import numpy as np
from napari.layers import Image

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.plugin.layers.made_layers import mark

_PARTS = ("before", "after", "sharp")
_GAP = 16  # pixels between the patch and the user's images


class ValidationLayers:
    """Shows a validation patch before and after deblurring, beside the sharp one."""

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._layers: list[Image] = []

    def restart(self) -> None:
        """Leave the layers to the user; the next picture gets new ones."""
        self._layers = []

    def show(self, file: Path) -> None:
        """Show a picture of three patches side by side; a layer that was deleted stays away."""
        with open_image(file) as image:
            parts = np.split(np.asarray(image.data[...]), len(_PARTS), axis=1)
        if self._layers:
            for layer, part in zip(self._layers, parts, strict=True):
                if layer in self._viewer.layers:
                    layer.data = part
            return
        side, rgb = parts[0].shape[0] + _GAP, parts[0].ndim == 3
        for number, (name, part) in enumerate(zip(_PARTS, parts, strict=True)):
            above = (-side, number * side)  # beside the user's images, not on them
            layer = Image(
                part,
                name=f"validation: {name}",
                rgb=rgb,
                translate=above,
                metadata=mark("validation"),
            )
            self._layers.append(layer)
            self._viewer.add_layer(layer)
