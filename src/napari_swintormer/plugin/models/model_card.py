"""The card of a model: an example, what it is good for, its speed and licence; the rest folded."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from html import escape

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtGui import QPixmap, QShowEvent
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError
from napari_swintormer.models.catalogue import ModelInfo, list_models
from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.plugin.models.card_facts import TRAINED_ON, for_experts, for_people
from napari_swintormer.plugin.models.example import (
    example_file,
    has_example,
    is_quick,
    iter_example,
)
from napari_swintormer.plugin.shared.folded_part import FoldedPart
from napari_swintormer.plugin.shared.pixmaps import pixmap_of
from napari_swintormer.plugin.shared.style import form_layout, show_text, text_label
from napari_swintormer.plugin.shared.work import Work

_STILL = 800  # milliseconds that a card is shown before its example is made


class ModelCardView(QWidget):
    """Shows the card of one model, or the reason why its file cannot be used."""

    said = Signal(str, bool)
    drawn = Signal()
    """The example is there, or failed."""

    def __init__(self) -> None:
        super().__init__()
        self._info: ModelInfo | None = None
        self._examples: dict[str, QPixmap] = {}
        self._failed: set[str] = set()
        self._work = Work(self)
        self._work.said.connect(self.said)
        self._work.changed.connect(self._show_example)
        self._work.ended.connect(self._end_example)
        self._timer = QTimer(self, singleShot=True, interval=_STILL)
        self._timer.timeout.connect(self._make_if_quick)
        self.title = text_label("title")
        self.summary = text_label("message")
        self.facts, self._rest = form_layout(), QWidget()
        self.details = form_layout(self._rest)
        self.folded = FoldedPart("Details", "Show or hide the other facts of the card.", self._rest)
        self.show_example = QPushButton("Show an example")
        self.show_example.setToolTip(
            "Deblur a part of a bundled sample with this model, on this computer."
        )
        self.show_example.clicked.connect(self._make_example)
        self.example, self.caption = QLabel(), text_label("caption")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for widget in (self.title, self.summary, self.show_example, self.example, self.caption):
            layout.addWidget(widget)
        layout.addLayout(self.facts)
        layout.addWidget(self.folded)
        layout.addStretch(1)

    def show_model(self, info: ModelInfo | None) -> None:
        """Show a model, or for None a hint on how to add one."""
        self._info = info
        self._show_facts()
        self._show_example()
        self._timer.start()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Make the example of the card that comes onto the screen."""
        super().showEvent(event)
        self._timer.start()

    def _show_facts(self) -> None:
        info, card = self._info, None if self._info is None else self._info.card
        for form in (self.facts, self.details):
            while form.rowCount():
                form.removeRow(0)
        self.folded.setVisible(info is not None)
        if info is None:
            self.title.setText("")
            show_text(self.summary, "There are no models. Add a weights file to begin.", "message")
            return
        self.title.setText((card and card.title) or info.name)
        show_text(self.summary, (info.problem or "") if card is None else "", "error")
        if card is not None:
            _fill(self.facts, for_people(info, list_models()))
        _fill(self.details, for_experts(info), _sources(card))

    def _show_example(self) -> None:
        info = self._info
        drawn = self._drawn(info) if info is not None and has_example(info) else None
        making = self._work.running
        self.show_example.setVisible(has_example(info) and drawn is None)
        self.show_example.setEnabled(not making)
        self.show_example.setText("The example is being made …" if making else "Show an example")
        self.example.setVisible(drawn is not None)
        if drawn is not None:
            self.example.setPixmap(drawn)
        caption = "Left: as it is. Right: deblurred by this model."
        show_text(self.caption, caption if drawn is not None else "", "caption")

    def _drawn(self, info: ModelInfo) -> QPixmap | None:
        """Return the example of a model, also one of an earlier session."""
        try:
            file = str(example_file(info))
        except SwintormerError:  # the weights were removed meanwhile
            return None
        if file not in self._examples:
            kept = QPixmap(file)
            if kept.isNull():
                return None
            self._examples[file] = kept
        return self._examples[file]

    def _make_if_quick(self) -> None:
        info = self._info
        if info is None or not self.isVisible() or self._work.running or not has_example(info):
            return
        if is_quick(info) and str(info.path) not in self._failed and self._drawn(info) is None:
            self._make_example()

    def _make_example(self) -> None:
        info = self._info
        assert info is not None
        self._failed.add(str(info.path))  # until it is there
        self._work.begin(partial(iter_example, info), take=partial(self._take_example, info))

    def _take_example(self, info: ModelInfo, halves: NDArray[np.uint8]) -> None:
        self._failed.discard(str(info.path))
        file, picture = example_file(info), pixmap_of(halves)
        self._examples[str(file)] = picture
        with suppress(OSError):  # it is made again next time
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(str(file))

    def _end_example(self, _: object) -> None:
        self._show_facts()  # the speed is known now
        self._timer.start()  # another card may be shown meanwhile
        self.drawn.emit()


def _fill(form: QFormLayout, rows: list[tuple[str, str]], sources: str = "") -> None:
    """Add rows of a name and a text that can be selected."""
    for name, text in rows:
        shown = text_label("message")
        shown.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        shown.setText(text)
        if name == TRAINED_ON:
            shown.setToolTip(sources)
        label = QLabel(name)
        label.setAlignment(Qt.AlignmentFlag.AlignTop)
        label.setProperty("role", "caption")
        form.addRow(label, shown)


def _sources(card: ModelCard | None) -> str:
    """List the training data for a tooltip; escaped, because tooltips read markup."""
    sources = () if card is None else card.training_data
    lines = [f"{data.name}: {data.images:,} images, {data.licence}" for data in sources]
    return "<p>" + "<br>".join(escape(line) for line in lines)
