"""Where the images of a training come from: layers, folders, or sharp images alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import ComboBox, FileEdit
from napari.layers import Image, Labels, Layer, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QTabWidget, QWidget

from napari_swintormer.errors import TrainingError
from napari_swintormer.plugin.layers.layer_data import full_resolution, guess_axes
from napari_swintormer.plugin.shared.style import form_layout, text_label
from napari_swintormer.training.data.annotations import TAKE
from napari_swintormer.training.data.pairs import ImagePair
from napari_swintormer.training.data.sources import ArrayImage

LAYERS, FOLDERS, DUAL_PIXEL, SHARP_ONLY = range(4)


class TrainSources(QTabWidget):
    """Tabs, one for each way to give images.

    Parameters
    ----------
    list_layers
        Gives the layers of the viewer.
    """

    changed = Signal()

    def __init__(self, list_layers: Callable[[], Sequence[Layer]]) -> None:
        super().__init__()
        self._list_layers = list_layers
        self._pairs: list[ImagePair] = []
        layer: dict[str, Any] = {"choices": [], "nullable": True}
        self.blurred = ComboBox(**layer, tooltip="Layer with the blurred image or stack.")
        self.sharp = ComboBox(**layer, tooltip="Layer with the same image or stack in focus.")
        self.annotations = ComboBox(
            **layer,
            tooltip="Optional. Labels: 1 where patches are taken, 2 for what is left out.\n"
            "Shapes: patches are taken inside them.",
        )
        folder: dict[str, Any] = {"mode": "d", "nullable": True, "value": None}
        self.blurred_folder = FileEdit(**folder, tooltip="Folder of blurred images.")
        self.sharp_folder = FileEdit(
            **folder, tooltip="Folder of their sharp partners, of the same names."
        )
        self.annotations_folder = FileEdit(
            **folder, tooltip="Optional folder of masks of the same names: 1 take, 2 leave out."
        )
        self.dual_pixel = FileEdit(
            **folder, tooltip="Folder of the folders inputL, inputR and target of equal names."
        )
        self.sharp_layer = ComboBox(**layer, tooltip="Layer with a sharp image or stack.")
        self.sharp_only_folder = FileEdit(**folder, tooltip="Or a folder of sharp images.")
        self.add_pair = QPushButton("Add this pair")
        self.clear_pairs = QPushButton("Clear")
        self.added = text_label("caption")
        self._lay_out()
        self.add_pair.clicked.connect(self._add_pair)
        self.clear_pairs.clicked.connect(self._clear_pairs)
        for field in (*self._layer_fields(), *self._folder_fields()):
            field.changed.connect(lambda *_: self.changed.emit())
        self.currentChanged.connect(lambda *_: self.changed.emit())
        self._show_added()
        self.refresh()

    def refresh(self) -> None:
        """List the layers again; choices are kept as long as they exist."""
        layers = self._list_layers()
        images = [(layer.name, layer) for layer in layers if isinstance(layer, Image)]
        marks = [(layer.name, layer) for layer in layers if isinstance(layer, (Labels, Shapes))]
        for field in self._layer_fields():
            field.choices = marks if field is self.annotations else images

    def settings(self) -> dict[str, Any]:
        """Give the fields of `TrainSettings` that say where images come from.

        Raises
        ------
        TrainingError
            Something is not chosen yet.
        """
        if self.currentIndex() == FOLDERS:
            if self.blurred_folder.value is None or self.sharp_folder.value is None:
                raise TrainingError("Choose a folder of blurred and a folder of sharp images.")
            return {
                "sharp": (_path(self.sharp_folder.value),),
                "blurred": _path(self.blurred_folder.value),
                "annotations": _path(self.annotations_folder.value),
            }
        if self.currentIndex() == DUAL_PIXEL:
            if self.dual_pixel.value is None:
                raise TrainingError("Choose a folder that holds inputL, inputR and target.")
            return {"sharp": (), "dual_pixel": _path(self.dual_pixel.value)}
        if self.currentIndex() == LAYERS:
            return {"sharp": (), "pairs": tuple(self._pairs) or (self._chosen_pair(),)}
        if self.sharp_only_folder.value is not None:
            return {"sharp": (_path(self.sharp_only_folder.value),), "synthesize": "defocus"}
        if self.sharp_layer.value is None:
            raise TrainingError("Choose a layer or a folder of sharp images.")
        pair = ImagePair(_image(self.sharp_layer.value))
        return {"sharp": (), "pairs": (pair,), "synthesize": "defocus"}

    def pairs_of_layers(self) -> tuple[ImagePair, ...]:
        """Pairs of layers, if that is where images come from: what no folder of a run knows."""
        if self.currentIndex() not in (LAYERS, SHARP_ONLY):
            return ()
        try:
            pairs: tuple[ImagePair, ...] = self.settings().get("pairs", ())
        except TrainingError:  # nothing is chosen
            return ()
        return pairs

    def _chosen_pair(self) -> ImagePair:
        blurred, sharp = self.blurred.value, self.sharp.value
        if blurred is None or sharp is None or blurred is sharp:
            raise TrainingError("Choose the layer of the blurred image and that of the sharp one.")
        marks = self.annotations.value
        return ImagePair(
            _image(sharp), _image(blurred), None if marks is None else _labels(marks, sharp)
        )

    def _add_pair(self) -> None:
        try:
            self._pairs.append(self._chosen_pair())
        except TrainingError as error:
            self.added.setText(str(error))
            return
        self._show_added()
        self.changed.emit()

    def _clear_pairs(self) -> None:
        self._pairs.clear()
        self._show_added()
        self.changed.emit()

    def _show_added(self) -> None:
        self.clear_pairs.setEnabled(bool(self._pairs))
        names = ", ".join(pair.name for pair in self._pairs)
        self.added.setText(f"{len(self._pairs)} added: {names}" if names else "")

    def _layer_fields(self) -> tuple[ComboBox, ...]:
        return self.blurred, self.sharp, self.annotations, self.sharp_layer

    def _folder_fields(self) -> tuple[FileEdit, ...]:
        return (
            *(self.blurred_folder, self.sharp_folder, self.annotations_folder),
            *(self.dual_pixel, self.sharp_only_folder),
        )

    def _lay_out(self) -> None:
        tabs = {
            "Layers": (
                ("Blurred", self.blurred),
                ("Sharp", self.sharp),
                ("Marks", self.annotations),
            ),
            "Folders": (
                ("Blurred", self.blurred_folder),
                ("Sharp", self.sharp_folder),
                ("Marks", self.annotations_folder),
            ),
            "Dual pixel": (("Folder", self.dual_pixel),),
            "Sharp only": (("Layer", self.sharp_layer), ("Folder", self.sharp_only_folder)),
        }
        for title, rows in tabs.items():
            page = QWidget()
            form = form_layout(page)
            form.setContentsMargins(6, 8, 6, 6)
            for name, field in rows:
                form.addRow(name, field.native)
            if title == "Layers":
                buttons = QHBoxLayout()
                buttons.addWidget(self.add_pair)
                buttons.addWidget(self.clear_pairs)
                form.addRow("", buttons)
                form.addRow(self.added)
            self.addTab(page, title)


def _image(layer: Image) -> ArrayImage:
    return ArrayImage(layer.name, full_resolution(layer), guess_axes(layer) or None)


def _labels(layer: Labels | Shapes, image: Image) -> ArrayImage:
    """Take labels as they are; shapes mark where patches are taken from."""
    if isinstance(layer, Labels):
        data, axes = full_resolution(layer), guess_axes(image).replace("S", "")
        return ArrayImage(layer.name, data, axes if len(axes) == data.ndim else None)
    shape = full_resolution(image).shape[: image.ndim]
    inside = layer.to_labels(labels_shape=shape[-layer.ndim :]) > 0
    return ArrayImage(layer.name, np.where(inside, TAKE, 0).astype(np.uint8))


def _path(value: Any) -> Path | None:
    return None if value is None else Path(value)
