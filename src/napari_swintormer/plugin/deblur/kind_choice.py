"""The question what an image is, a photo or a microscopy image."""

from __future__ import annotations

from pathlib import Path

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_swintormer.imaging.image import unit_name
from napari_swintormer.models.catalogue import (
    ModelInfo,
    image_kinds,
)
from napari_swintormer.plugin.shared.style import button, show_text, text_label
from napari_swintormer.settings.deblur_settings import ImageKind

_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".heic", ".heif", ".avif", ".dng", ".cr2", ".cr3", ".nef")
_MICROSCOPE_UNITS = ("micrometer", "nanometer")


class KindChoice(QWidget):
    """Two buttons, and a sentence about the model."""

    answered = Signal()
    """The user has said what the image is."""

    def __init__(self) -> None:
        super().__init__()
        self._asked = False
        self.photo = button(
            "Photo", "A picture of a camera. Its blur is undone in its light.", checkable=True
        )
        self.microscopy = button(
            "Microscopy",
            "An image of a microscope. Its blur is undone in its intensities.",
            checkable=True,
        )
        self._group = QButtonGroup(self)
        self.sentence = text_label("caption")
        row = QHBoxLayout()
        row.setSpacing(6)
        for each in self._buttons.values():
            self._group.addButton(each)
            each.setObjectName("swintormer-kind")
            each.clicked.connect(lambda *_: self.answered.emit())
            row.addWidget(each, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row)
        layout.addWidget(self.sentence)

    @property
    def _buttons(self) -> dict[ImageKind, QPushButton]:
        return {"photo": self.photo, "microscopy": self.microscopy}

    @property
    def value(self) -> ImageKind | None:
        """What the image is; None while that is neither known nor said."""
        checked = (kind for kind, each in self._buttons.items() if each.isChecked())
        return next(checked, None)

    @value.setter
    def value(self, kind: ImageKind | None) -> None:
        self._group.setExclusive(False)  # lets both be unchecked
        for name, each in self._buttons.items():
            each.setChecked(name == kind)
        self._group.setExclusive(True)

    def describe(self, info: ModelInfo | None) -> None:
        """Say what the chosen model is good for; no model is the filter alone."""
        alone = "A filter undoes the blur, without a model."
        good_for = alone if info is None else good_for_sentence(info)
        if self.value is None:
            good_for = "Photo or microscopy? Without an answer, the looks of the image decide."
        role = "error" if info is not None and info.card is None else "caption"
        show_text(self.sentence, good_for, role)

    def describe_volume(self) -> None:
        """Say that the numbers of the microscope restore the stack, and no model."""
        show_text(self.sentence, "The stack is restored as a volume, without a model.", "caption")


def known_kind(layer: Image) -> ImageKind | None:
    """Say what an image is, as far as its pixels, its units and its file tell; None for unknown."""
    possible = image_kinds(layer.dtype, rgb=layer.rgb)
    if len(possible) == 1:
        return possible[0]
    if any(unit_name(str(unit)) in _MICROSCOPE_UNITS for unit in layer.units):
        return "microscopy"
    path = layer.source.path
    if path is not None and Path(path).suffix.lower() in _PHOTO_SUFFIXES:
        return "photo"
    return None


def good_for_sentence(info: ModelInfo) -> str:
    """Return one sentence about a model: what it is good for, or why it cannot be used."""
    if info.card is None:
        return info.problem or ""
    first = info.card.summary.partition(". ")[0].partition("; ")[0].strip()
    return f"{first.removesuffix('.')}." if first else info.card.title
