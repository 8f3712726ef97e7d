"""The bundled images for File > Open Sample > Swintormer."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.types import FullLayerData

from napari_swintormer.imaging.carried import NOTHING
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.plugin.layers.layer_data import CARRIED
from napari_swintormer.sample import sample_images


def circuit_board() -> list[FullLayerData]:
    """Open the photograph."""
    return _open("circuit-board")


def shaken_board() -> list[FullLayerData]:
    """Open the photograph with camera shake."""
    return _open("shaken-board")


def actin() -> list[FullLayerData]:
    """Open the fluorescence image."""
    return _open("actin")


def algae() -> list[FullLayerData]:
    """Open the focal stack."""
    return _open("algae")


def nuclei_stack() -> list[FullLayerData]:
    """Open a stack that is restored as a volume."""
    return _open("nuclei-stack")


def mitochondria() -> list[FullLayerData]:
    """Open a pair to train on: an image out of focus, and the same image in focus."""
    return _open("mitochondria-blurred") + _open("mitochondria-sharp")


def _open(name: str) -> list[FullLayerData]:
    sample = next(image for image in sample_images() if image.name == name)
    with open_image(sample.path) as image:
        data = np.asarray(image.data[...])
        arguments: dict[str, Any] = {"name": name, "rgb": image.axes.endswith("S")}
        if image.axes == "ZYX":
            arguments["scale"] = [image.pixel_size[axis] for axis in image.axes]
            arguments["units"] = [image.unit[axis] for axis in image.axes]
        arguments["metadata"] = {"source": sample.source, "licence": sample.licence}
        if image.carried != NOTHING:
            arguments["metadata"][CARRIED] = image.carried
    return [(data, arguments, "image")]
