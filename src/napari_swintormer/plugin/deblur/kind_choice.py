"""The question what an image is, a photo or a microscopy image, and the model that follows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from napari.layers import Image
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QButtonGroup, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_swintormer.imaging.image import unit_name
from napari_swintormer.models.catalogue import (
    ModelInfo,
    choose_model,
    image_kinds,
)
from napari_swintormer.plugin.shared.style import button, show_text, text_label
from napari_swintormer.settings.deblur_settings import ImageKind

_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".heic", ".heif", ".avif", ".dng", ".cr2", ".cr3", ".nef")
_MICROSCOPE_UNITS = ("micrometer", "nanometer")
_TOO_LITTLE = 0.5  # share of the best gain below which a model is the wrong one


class KindChoice(QWidget):
    """Two buttons, a sentence about the model, and a link to a model that fits better."""

    answered = Signal()
    """The user has said what the image is."""
    other_wanted = Signal()
    """The user wants the model that is recommended."""

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
        self.use_other = button("", "Use the model that fits this kind of image better.")
        self.use_other.setObjectName("swintormer-link")
        row = QHBoxLayout()
        row.setSpacing(6)
        for each in self._buttons.values():
            self._group.addButton(each)
            each.setObjectName("swintormer-kind")
            each.clicked.connect(lambda *_: self.answered.emit())
            row.addWidget(each, 1)
        self.use_other.clicked.connect(lambda *_: self.other_wanted.emit())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(row)
        layout.addWidget(self.sentence)
        layout.addWidget(self.use_other)

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

    def describe(self, info: ModelInfo | None, models: Sequence[ModelInfo]) -> None:
        """Say what the chosen model is good for, and link to a better one for this kind.

        No model is the filter alone.
        """
        alone = "A filter undoes the blur, without a model."
        good_for = alone if info is None else good_for_sentence(info)
        if self.value is None:
            good_for = "Photo or microscopy? Without an answer, the looks of the image decide."
        role = "error" if info is not None and info.card is None else "caption"
        show_text(self.sentence, good_for, role)
        kind = self.value
        better = None if info is None or kind is None else better_model(info, kind, models)
        self.use_other.setVisible(better is not None)
        self.use_other.setText(f"Another model fits {kind_words(kind)} better: {better}")

    def describe_volume(self) -> None:
        """Say that the numbers of the microscope restore the stack, and no model."""
        show_text(self.sentence, "The stack is restored as a volume, without a model.", "caption")
        self.use_other.hide()


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


def kinds_to_serve(kind: ImageKind | None) -> tuple[ImageKind, ...]:
    """Return the kinds that a model must be good at: one, or both while nothing is known."""
    return get_args(ImageKind) if kind is None else (kind,)


def better_model(info: ModelInfo, kind: ImageKind, models: Sequence[ModelInfo]) -> str | None:
    """Name a model for images of a kind if the chosen one was measured, and gains much less."""
    figure = f"PSNR gain on {kind}, dB"
    if info.card is None or figure not in info.card.metrics:
        return None
    name = choose_model(None, [kind])
    best = next((other.card for other in models if other.name == name), None)
    if best is None or name == info.name:
        return None
    little = info.card.metrics[figure] < _TOO_LITTLE * best.metrics.get(figure, 0.0)
    return str(name) if little else None


def good_for_sentence(info: ModelInfo) -> str:
    """Return one sentence about a model: what it is good for, or why it cannot be used."""
    if info.card is None:
        return info.problem or ""
    first = info.card.summary.partition(". ")[0].partition("; ")[0].strip()
    return f"{first.removesuffix('.')}." if first else info.card.title


def kind_words(kind: ImageKind | None) -> str:
    """Write a kind as users say it."""
    return {"photo": "photos", "microscopy": "microscopy"}.get(kind or "", "this image")
