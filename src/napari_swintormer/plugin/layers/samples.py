"""The bundled images for File > Open Sample > Swintormer."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.sample import sample_images

LayerData = tuple[Any, dict[str, Any], str]


def circuit_board() -> list[LayerData]:
    """Open the photograph."""
    return _open("circuit-board")


def actin() -> list[LayerData]:
    """Open the fluorescence image."""
    return _open("actin")


def algae() -> list[LayerData]:
    """Open the focal stack."""
    return _open("algae")


def mitochondria() -> list[LayerData]:
    """Open the pair for training: what was captured out of focus, and in focus."""
    return _open("mitochondria-blurred") + _open("mitochondria-sharp")


def _open(name: str) -> list[LayerData]:
    sample = next(image for image in sample_images() if image.name == name)
    with open_image(sample.path) as image:
        data = np.asarray(image.data[...])
        arguments = {"name": name, "rgb": image.axes.endswith("S")}
    arguments["metadata"] = {"source": sample.source, "licence": sample.licence}
    return [(data, arguments, "image")]
