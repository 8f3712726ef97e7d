"""The images to train on: layers, folders, a dual-pixel data set, or sharp images alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import ComboBox, FileEdit
from napari.layers import Image, Labels, Layer, Shapes
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QTabWidget, QWidget

from napari_swintormer.errors import TrainingError
from napari_swintormer.plugin.layers.layer_data import full_resolution, guess_axes
from napari_swintormer.plugin.layers.made_layers import kind_of, own_images, users_images
from napari_swintormer.plugin.shared.style import button, form_layout, text_label
from napari_swintormer.training.data.annotations import TAKE
from napari_swintormer.training.data.pairs import ImagePair
from napari_swintormer.training.data.sources import ArrayImage

LAYERS, FOLDERS, DUAL_PIXEL, SHARP_ONLY = range(4)


class TrainSources(QTabWidget):
    """Shows one tab for each way to choose images."""

    changed = Signal()

    def __init__(self, list_layers: Callable[[], Sequence[Layer]]) -> None:
        super().__init__()
        self._list_layers = list_layers
        self._pairs: list[ImagePair] = []
        self._proposed: WeakSet[Image] = WeakSet()
        self.blurred = _layer_field("Layer of the blurred image or stack.")
        self.sharp = _layer_field("Layer of the same image or stack in focus.")
        self.annotations = _layer_field(
            "Optional. In a Labels layer, 1 marks where patches are taken and 2 what is left out.\n"
            "In a Shapes layer, patches are taken inside the shapes."
        )
        self.blurred_folder = _folder_field("Folder of the blurred images.")
        self.sharp_folder = _folder_field("Folder of the sharp images, with the same file names.")
        self.annotations_folder = _folder_field(
            "Optional. Folder of masks with the same file names: 1 marks where patches are\n"
            "taken, 2 what is left out."
        )
        self.dual_pixel = _folder_field(
            "Folder that holds the folders inputL, inputR and target with the same file names."
        )
        self.sharp_layer = _layer_field("Layer of a sharp image or stack.")
        self.sharp_only_folder = _folder_field("Folder of sharp images, instead of a layer.")
        self.add_pair = button("Add this pair", "Train on this pair too.", self._add_pair)
        self.clear_pairs = button("Clear", "Remove all added pairs.", self._clear_pairs)
        self.added = text_label("caption")
        self._lay_out()
        for field in (*self._layer_fields, *self._folder_fields):
            field.changed.connect(lambda *_: self.changed.emit())
        self.currentChanged.connect(lambda *_: self.changed.emit())
        self._show_added()
        self.refresh()

    def refresh(self) -> None:
        """List the layers again; choices are kept as long as they exist."""
        layers = self._list_layers()
        images = [(layer.name, layer) for layer in (*users_images(layers), *own_images(layers))]
        marks = [(layer.name, layer) for layer in layers if isinstance(layer, (Labels, Shapes))]
        for field in self._layer_fields:
            field.choices = marks if field is self.annotations else images
        self._preselect([(n, layer) for n, layer in images if kind_of(layer) is None])

    def blurred_layer(self) -> Image | None:
        """Return the layer of the blurred image that is trained on, if it is one."""
        return self.blurred.value if self.currentIndex() == LAYERS else None

    def _preselect(self, images: Sequence[tuple[str, Image]]) -> None:
        """Choose new layers whose names say what they are, where nothing is chosen."""
        for field, word in ((self.blurred, "blurred"), (self.sharp, "sharp")):
            fitting = [layer for name, layer in images if word in name.lower()]
            new = [layer for layer in fitting if layer not in self._proposed]
            if field.value is None and len(new) == 1:
                field.value = new[0]
            for layer in new:
                self._proposed.add(layer)

    def settings(self) -> dict[str, Any]:
        """Return the fields of `TrainSettings` that describe the images.

        A `TrainingError` says which layer or folder is missing.
        """
        tab = self.currentIndex()
        if tab == LAYERS:
            return {"sharp": (), "pairs": tuple(self._pairs) or (self._chosen_pair(),)}
        if tab == FOLDERS:
            blurred, sharp = _path(self.blurred_folder), _path(self.sharp_folder)
            if blurred is None or sharp is None:
                raise TrainingError("Choose a folder of blurred and a folder of sharp images.")
            marks = _path(self.annotations_folder)
            return {"sharp": (sharp,), "blurred": blurred, "annotations": marks}
        if tab == DUAL_PIXEL:
            if (folder := _path(self.dual_pixel)) is None:
                raise TrainingError("Choose a folder that holds inputL, inputR and target.")
            return {"sharp": (), "dual_pixel": folder}
        if (folder := _path(self.sharp_only_folder)) is not None:
            return {"sharp": (folder,), "synthesize": "defocus"}
        if self.sharp_layer.value is None:
            raise TrainingError("Choose a layer or a folder of sharp images.")
        pair = ImagePair(_image(self.sharp_layer.value))
        return {"sharp": (), "pairs": (pair,), "synthesize": "defocus"}

    def pairs_of_layers(self) -> tuple[ImagePair, ...]:
        """Return the chosen pairs of layers; the folder of a training does not hold them."""
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

    @property
    def _layer_fields(self) -> tuple[ComboBox, ...]:
        return self.blurred, self.sharp, self.annotations, self.sharp_layer

    @property
    def _folder_fields(self) -> tuple[FileEdit, ...]:
        pairs = self.blurred_folder, self.sharp_folder, self.annotations_folder
        return *pairs, self.dual_pixel, self.sharp_only_folder

    def _lay_out(self) -> None:
        layers = {"Blurred": self.blurred, "Sharp": self.sharp, "Marks": self.annotations}
        folders = dict(zip(layers, self._folder_fields, strict=False))
        sharp_only = {"Layer": self.sharp_layer, "Folder": self.sharp_only_folder}
        tabs: dict[str, dict[str, Any]] = {
            "Layers": layers,
            "Folders": folders,
            "Dual pixel": {"Folder": self.dual_pixel},
            "Sharp only": sharp_only,
        }
        for title, rows in tabs.items():
            page = QWidget()
            form = form_layout(page)
            form.setContentsMargins(6, 8, 6, 6)
            for name, field in rows.items():
                form.addRow(name, field.native)
            if rows is layers:
                buttons = QHBoxLayout()
                buttons.addWidget(self.add_pair)
                buttons.addWidget(self.clear_pairs)
                form.addRow("", buttons)
                form.addRow(self.added)
            self.addTab(page, title)


def _layer_field(tooltip: str) -> ComboBox:
    return ComboBox(choices=[], nullable=True, tooltip=tooltip)


def _folder_field(tooltip: str) -> FileEdit:
    return FileEdit(
        mode=FileDialogMode.EXISTING_DIRECTORY, nullable=True, value=None, tooltip=tooltip
    )


def _path(field: FileEdit) -> Path | None:
    folder: Any = field.value
    return None if folder is None else Path(folder)


def _image(layer: Image) -> ArrayImage:
    return ArrayImage(layer.name, full_resolution(layer), guess_axes(layer) or None)


def _labels(layer: Labels | Shapes, image: Image) -> ArrayImage:
    """Take labels as they are; take patches inside shapes."""
    if isinstance(layer, Labels):
        data, axes = full_resolution(layer), guess_axes(image).replace("S", "")
        return ArrayImage(layer.name, data, axes if len(axes) == data.ndim else None)
    shape = full_resolution(image).shape[: image.ndim]
    inside = layer.to_labels(labels_shape=shape[-layer.ndim :]) > 0
    return ArrayImage(layer.name, np.where(inside, TAKE, 0).astype(np.uint8))
