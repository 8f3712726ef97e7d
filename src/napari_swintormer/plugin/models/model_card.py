"""The card of a model: its use, its training data, its quality and an example."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from html import escape

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QLabel, QPushButton, QVBoxLayout, QWidget

from napari_swintormer.engine.remembered import recall_speed, speed_key
from napari_swintormer.errors import SwintormerError
from napari_swintormer.events import Event
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.catalogue import ModelInfo
from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.models.files.weights import file_sha256
from napari_swintormer.plugin.shared.pixmaps import pixmap_of
from napari_swintormer.plugin.shared.style import form_layout, show_text, text_label
from napari_swintormer.plugin.shared.work import Work
from napari_swintormer.runs.planning import prepare
from napari_swintormer.sample import sample_images
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import with_preferences
from napari_swintormer.tiling.grid import Region

_TRAINED_ON = "Trained on"
_EXAMPLE = Region(0, 150, 0, 150)  # of the circuit board: stripes out of focus
_GAP = 6  # pixels between the two halves of the example


class ModelCardView(QWidget):
    """Shows the card of one model, or the reason why its file cannot be used."""

    said = Signal(str, bool)
    drawn = Signal()
    """The example is there, or failed."""

    def __init__(self) -> None:
        super().__init__()
        self._info: ModelInfo | None = None
        self._examples: dict[str, QPixmap] = {}
        self._work = Work(self)
        self._work.said.connect(self.said)
        self._work.changed.connect(self._show_example)
        self._work.ended.connect(lambda _: self.drawn.emit())
        self.title = text_label("title")
        self.summary = text_label("message")
        self.facts = form_layout()
        self.show_example = QPushButton("Show an example")
        self.show_example.setToolTip(
            "Deblur a part of the sample Circuit board with this model, on this computer."
        )
        self.show_example.clicked.connect(self._make_example)
        self.example = QLabel()
        self.example.setToolTip("Left: the photograph. Right: deblurred by this model.")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for widget in (self.title, self.summary, self.show_example, self.example):
            layout.addWidget(widget)
        layout.addLayout(self.facts)
        layout.addStretch(1)

    def show_model(self, info: ModelInfo | None) -> None:
        """Show a model, or for None a hint on how to add one."""
        self._info = info
        while self.facts.rowCount():
            self.facts.removeRow(0)
        if info is None:
            self.title.setText("")
            show_text(self.summary, "There are no models. Add a weights file to begin.", "message")
            self._show_example()
            return
        card = info.card
        self.title.setText((card and card.title) or info.name)
        if card is None:
            show_text(self.summary, info.problem or "", "error")
        else:
            show_text(self.summary, card.summary, "message")
        facts = [] if card is None else [*_facts(card), ("Speed", _speed(info, card))]
        for name, value in [*facts, ("File", str(info.path))]:
            shown = text_label("message")
            shown.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            shown.setText(value)
            if name == _TRAINED_ON and card is not None:
                shown.setToolTip(_sources(card))
            label = QLabel(name)
            label.setAlignment(Qt.AlignmentFlag.AlignTop)
            label.setProperty("role", "caption")
            self.facts.addRow(label, shown)
        self._show_example()

    def _show_example(self) -> None:
        info = self._info
        # the sample is a single image, no use for a model of two views
        usable = info is not None and info.card is not None and info.card.network.views == 1
        drawn = self._examples.get(str(info.path)) if usable and info is not None else None
        self.show_example.setVisible(usable and drawn is None)
        self.show_example.setEnabled(not self._work.running)
        self.example.setVisible(drawn is not None)
        if drawn is not None:
            self.example.setPixmap(drawn)

    def _make_example(self) -> None:
        info = self._info
        assert info is not None
        self._work.begin(partial(_iter_example, info), take=partial(self._take_example, info))
        self.said.emit("Deblurring the example …", False)

    def _take_example(self, info: ModelInfo, halves: NDArray[np.uint8]) -> None:
        self._examples[str(info.path)] = pixmap_of(halves)
        self.said.emit("", False)


def _iter_example(info: ModelInfo) -> Generator[Event, None, NDArray[np.uint8]]:
    """Deblur a part of the sample; return it before and after, side by side."""
    sample = next(image for image in sample_images() if image.name == "circuit-board")
    with open_image(sample.path) as image:
        settings = with_preferences(DeblurSettings(model=str(info.path), axes=image.axes))
        job = prepare(np.asarray(image.data[...]), settings)
        restored = yield from job.preview({}, _EXAMPLE)
    gap = np.zeros((restored.region.shape[0], _GAP, 3), np.uint8)
    halves: NDArray[np.uint8] = np.concatenate(
        [restored.image.data[..., :3], gap, restored.at_strength(1.0)[..., :3]], axis=1
    )
    return halves


def _facts(card: ModelCard) -> list[tuple[str, str]]:
    """Return the facts of a card as rows of a name and a value, without empty values."""
    images, sources = sum(data.images for data in card.training_data), len(card.training_data)
    rows = [
        ("Colours", "RGB and grey" if card.network.channels == 3 else "grey, or each colour alone"),
        ("Views", ", ".join(card.views or ())),
        ("Tiles", f"{card.tile_size} px, overlap {card.overlap} px"),
        (_TRAINED_ON, f"{images:,} images from {sources} sources" if sources else ""),
        ("Your validation", _own_gain(card)),
        ("Measured", "\n".join(f"{name}: {value:g}" for name, value in card.metrics.items())),
        ("Licence", card.licence),
        ("Version", card.version),
    ]
    return [(name, value) for name, value in rows if value]


def _own_gain(card: ModelCard) -> str:
    """Say what a training in this program has gained on the images that it held out."""
    before = card.metrics.get("validation PSNR of the blurred patches, dB")
    after = card.metrics.get("validation PSNR, dB")
    if before is None or after is None:
        return ""
    return f"{after - before:+.2f} dB over the blurred images, to {after:.2f} dB"


def _speed(info: ModelInfo, card: ModelCard) -> str:
    """Return the measured speed of a model on this computer, with the current preferences."""
    prior = card.prior.num_inference_steps if card.prior is not None else None
    settings = with_preferences(DeblurSettings(tile_size=card.tile_size, num_inference_steps=prior))
    try:
        rate = recall_speed(speed_key(file_sha256(info.path), settings), card.tile_size**2)
    except SwintormerError:  # the file was removed meanwhile
        rate = None
    if rate is None:
        return "unknown before the first run"
    return f"{rate / 1e6:.2g} megapixels a second on this computer"


def _sources(card: ModelCard) -> str:
    """List the training data for a tooltip; escaped, because tooltips read markup."""
    lines = [f"{data.name}: {data.images:,} images, {data.licence}" for data in card.training_data]
    return "<p>" + "<br>".join(escape(line) for line in lines)
