"""The parts of the Deblur widget and their layout: first what everybody needs, then the rest."""

from __future__ import annotations

from itertools import pairwise

import napari
from napari.layers import Image
from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent, QShowEvent
from qtpy.QtWidgets import QFormLayout, QLabel, QPushButton, QWidget

from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur.blur_panel import BlurPanel
from napari_swintormer.plugin.deblur.chosen_images import ChosenImages
from napari_swintormer.plugin.deblur.compare import ComparePanel
from napari_swintormer.plugin.deblur.copy_panel import CopyPanel
from napari_swintormer.plugin.deblur.deblur_form import DeblurForm
from napari_swintormer.plugin.deblur.folder_panel import FolderPanel
from napari_swintormer.plugin.deblur.live_strength import LiveStrength
from napari_swintormer.plugin.deblur.plan_panel import PlanPanel
from napari_swintormer.plugin.deblur.preview import Preview
from napari_swintormer.plugin.deblur.run_queue import Runs
from napari_swintormer.plugin.deblur.save_panel import SavePanel
from napari_swintormer.plugin.deblur.try_panel import TryPanel
from napari_swintormer.plugin.models.models_widget import weights_files
from napari_swintormer.plugin.shared.form_area import FormArea
from napari_swintormer.plugin.shared.panel import Panel, open_panel
from napari_swintormer.plugin.shared.run_panel import RunPanel
from napari_swintormer.plugin.shared.style import form_layout

GUIDE = "https://napari-swintormer.github.io/napari-swintormer/guide/"


class DeblurParts(Panel):
    """Makes and arranges the parts; `DeblurWidget` gives them their meaning."""

    scrolls = True

    def __init__(self, napari_viewer: napari.Viewer) -> None:
        super().__init__(napari_viewer)
        self.form = DeblurForm(self._image_layers, list_models)
        self.chosen = ChosenImages(napari_viewer, self.form)
        self.plan_panel = PlanPanel()
        self.run_panel = RunPanel()
        self.compare = ComparePanel(napari_viewer)
        self.saving = SavePanel(napari_viewer, lambda: self.compare.layer)
        self.preview = Preview(napari_viewer, self)
        self.runs = Runs(napari_viewer, self, self.preview.kept)
        self.live = LiveStrength(napari_viewer, self)
        self.trying = TryPanel(napari_viewer, self.form, self.chosen.in_view, self.preview)
        self.blur = BlurPanel(napari_viewer, self.form, self.chosen.in_view)
        self.folder = FolderPanel(self.form.settings, self.form.second_view_name)
        self.copying = CopyPanel(self.chosen.active_record)
        self.form.help.clicked.connect(lambda *_: QDesktopServices.openUrl(QUrl(GUIDE)))
        self._labels: list[QLabel] = []
        self.setAcceptDrops(True)
        self._lay_out()
        self._order_tabs()

    def _image_layers(self) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _lay_out(self) -> None:
        for part in (FormArea(self.form, least=180), self.plan_panel, self.run_panel):
            self.column.addWidget(part)
        self._compare_part = QWidget()  # shown when there is a result
        comparing = form_layout(self._compare_part)
        self._add_row(comparing, "Compare", self.compare)
        self._add_row(comparing, "Result", self.saving)
        self._compare_part.hide()
        self.compare.usable.connect(self._compare_part.setVisible)
        self.compare.usable.connect(self.saving.enable)
        self.column.addWidget(self._compare_part)
        rest = form_layout()
        for text, buttons in (
            ("Try", self.trying),
            ("Batch", self.folder),
            ("Copy as", self.copying),
        ):
            self._add_row(rest, text, buttons)
        self.form.rest.addLayout(rest)
        self.form.rest.addStretch(1)
        self.column.addWidget(self.form.more)
        self.column.setSpacing(10)
        self.column.addStretch(1)

    def _add_row(self, layout: QFormLayout, text: str, buttons: QWidget) -> None:
        layout.addRow(text, buttons)
        label = layout.labelForField(buttons)
        assert isinstance(label, QLabel)
        self._labels.append(label)

    def _order_tabs(self) -> None:
        """Let Tab go from top to bottom."""
        here, folded = self.form.tab_order()
        panels = (self.trying, self.folder, self.copying)
        order = [*here]
        for panel in (self.run_panel, self.compare, self.saving):
            order += _buttons(panel)
        order += folded
        for panel in panels:
            order += _buttons(panel)
        for before, after in pairwise(order):
            QWidget.setTabOrder(before, after)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802 (Qt's name)
        """Accept weights files that the user drags here."""
        if weights_files(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802 (Qt's name)
        """Let the Models panel add the dropped weights files."""
        models = open_panel(self, "Models")
        if models is not None:
            models.add_models(weights_files(event.mimeData()))
            event.acceptProposedAction()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Give the labels the width of those in the form."""
        for label in self._labels:
            label.setFixedWidth(self.form.label_width)
        super().showEvent(event)


def _buttons(panel: QWidget) -> list[QWidget]:
    return list(panel.findChildren(QPushButton))
