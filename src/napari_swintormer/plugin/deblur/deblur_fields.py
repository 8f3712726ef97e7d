"""The fields of the Deblur widget: what they are called, what they offer, where they stand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from magicgui.widgets import ComboBox, FloatSlider, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_swintormer.plugin.deblur.prior_fields import PriorFields
from napari_swintormer.plugin.shared.style import add_row, form_layout, no_icon, text_label
from napari_swintormer.settings.deblur_settings import STRENGTH_MAX

ALL_PLANES = "All planes"
CURRENT_PLANE = "Current plane"
RANGES = {"Range along T": "T", "Range along Z": "Z"}
DEVICES = [("Automatic", "auto"), ("CPU", "cpu"), ("NVIDIA GPU", "cuda"), ("Apple GPU", "mps")]
BLENDS = [("Smooth", "smooth"), ("Uniform mean", "uniform")]
SCALES = [("Full size", 1), ("Half size", 2), ("Quarter size", 4)]
PRECISIONS = [
    ("Automatic", "auto"),
    ("32-bit float", "fp32"),
    ("TF32 (NVIDIA GPU)", "tf32"),
    ("bfloat16", "bf16"),
    ("16-bit float", "fp16"),
]
CUSTOM = "custom"
PRESETS = [("Fast", "fast"), ("Balanced", "balanced"), ("Best", "best"), ("Custom", CUSTOM)]
BATCH_SIZES = [("Automatic", 0), *((str(n), n) for n in (1, 2, 4, 8, 16, 32, 64))]
_LARGEST = 16384  # pixels, the largest tile that a model card can name


class DeblurFields(QWidget):
    """The fields with their labels and explanations; what they stand for is `DeblurForm`'s."""

    def __init__(self) -> None:
        super().__init__()
        self._make_fields()
        self._lay_out()

    def _make_fields(self) -> None:
        self.image = ComboBox(
            choices=[],
            nullable=False,
            tooltip="The image layer to deblur. Of a multiscale layer the finest level is taken.",
        )
        self.second_view = ComboBox(
            choices=[],
            nullable=True,
            tooltip="The layer with the other view of the scene: this model was trained on both\n"
            "views of a dual-pixel camera. The view above is the one that is deblurred.",
        )
        self.axes = LineEdit(
            tooltip="What each dimension of the image is: Y and X, Z for depth, T for time,\n"
            "C for channels, S for the colours of one pixel. Correct the guess if it is wrong."
        )
        self.planes = ComboBox(
            choices=[ALL_PLANES, CURRENT_PLANE],
            tooltip="Deblur the whole stack, only the plane that the sliders show now,\n"
            "or a range of planes along T or Z.",
        )
        counted = "plane of the range; counted from 0, as the sliders do."
        self.first_plane = SpinBox(tooltip=f"First {counted}")
        self.last_plane = SpinBox(tooltip=f"Last {counted}")
        self.model = ComboBox(
            choices=[],
            tooltip="The trained network. Weights files copied into the models folder appear here.",
        )
        self.show_card = QPushButton("Card")
        self.show_card.setFixedWidth(44)
        self.show_card.setToolTip(
            "Show what this model is for, what it was trained on, its licence and how good it is."
        )
        self.preset = ComboBox(
            choices=PRESETS,
            value="balanced",
            tooltip="How much time the run may take. Balanced is what the model says. Fast takes\n"
            "half of its overlap, Best the overlap of the paper, 57 % of the tile. With a prior\n"
            "Fast takes a quarter of its steps, and Best the mean of four samples.",
        )
        self.strength = FloatSlider(
            value=1.0,
            min=0.0,
            max=STRENGTH_MAX,
            step=0.01,
            tooltip="How much of what the network changes is put into the result: 1 is what it\n"
            "says, less keeps more of the blurred image, more helps where the result is still\n"
            "soft. A preview follows at once.",
        )
        self.strength.native.setToolTip(self.strength.tooltip)  # for its number, too
        self.device = ComboBox(
            choices=DEVICES,
            tooltip="Where the network runs. Automatic takes a GPU if there is one, else the CPU.",
        )
        self.save_to = LineEdit(
            tooltip="File for the result: .ome.zarr, .ome.tif or .tif. A run into a file can be\n"
            "stopped and goes on when it is started again, also after napari was closed.\n"
            "Empty: the result is a layer, to be saved later.",
        )
        self.save_to.native.setPlaceholderText("Memory")
        self.choose_file = QPushButton("…")
        self.choose_file.setFixedWidth(30)
        self.choose_file.setToolTip("Choose where the result is saved.")
        self.choose_file.clicked.connect(self._choose_file)
        self.prior = PriorFields()
        self.tile_size = SpinBox(
            value=256,
            min=1,
            max=_LARGEST,
            step=16,
            tooltip="Side of the square tiles that go through the network, in pixels.\n"
            "The model works best on the size that it was trained on.",
        )
        self.overlap = SpinBox(
            value=32,
            min=0,
            max=_LARGEST,
            step=16,
            tooltip="Overlap of neighbouring tiles, in pixels. More overlap takes longer\n"
            "and averages more results per pixel.",
        )
        self.blend = ComboBox(
            choices=BLENDS,
            tooltip="How tiles are joined where they overlap: weights that fall off smoothly\n"
            "towards the border of the tile, or the plain mean of the paper.",
        )
        self.scale = ComboBox(
            choices=SCALES,
            tooltip="Size of the image that the network sees. Half or a quarter of it is for\n"
            "blur that is too wide for the model; detail finer than that stays as it is.",
        )
        self.batch_size = ComboBox(
            choices=BATCH_SIZES,
            tooltip="Tiles that go through the network at once: more are faster on a GPU and need\n"
            "more memory. Automatic chooses by device.",
        )
        self.precision = ComboBox(
            choices=PRECISIONS,
            tooltip="Numbers that the network computes with. Automatic takes the fastest\n"
            "that the device computes well.",
        )
        self.seed = SpinBox(
            value=0,
            min=0,
            max=2**31 - 1,
            tooltip="Start of the random numbers of models that sample. The same seed gives the\n"
            "same result.",
        )

    def fields(self) -> tuple[ValueWidget[Any], ...]:
        """All fields, in tab order."""
        return (
            *(self.image, self.second_view, self.axes),
            *(self.planes, self.first_plane, self.last_plane),
            *(self.model, self.preset, self.strength, self.device, self.save_to),
            *self.prior.fields(),
            *(self.tile_size, self.overlap, self.blend, self.scale),
            *(self.batch_size, self.precision, self.seed),
        )

    def _lay_out(self) -> None:
        self.image_facts, self.model_facts = text_label("caption"), text_label("caption")
        self.second_facts = text_label("caption")
        main = form_layout()
        self._labels = [
            add_row(main, "Image", self.image, self.image_facts),
            add_row(main, "Other view", self.second_view, self.second_facts),
            add_row(main, "Axes", self.axes),
            add_row(main, "Planes", self.planes, self._range_row()),
            add_row(main, "Model", self.model, self.model_facts, self.show_card),
            add_row(main, "Preset", self.preset),
            add_row(main, "Strength", self.strength),
            add_row(main, "Device", self.device),
            add_row(main, "Save to", self.save_to, beside=self.choose_file),
        ]
        folded = QWidget()
        rest = form_layout(folded)
        rest.addRow(self.prior)
        self._labels += [
            *self.prior.labels,
            add_row(rest, "Tile size", self.tile_size),
            add_row(rest, "Overlap", self.overlap),
            add_row(rest, "Blending", self.blend),
            add_row(rest, "Scale", self.scale),
            add_row(rest, "Batch size", self.batch_size),
            add_row(rest, "Precision", self.precision),
            add_row(rest, "Seed", self.seed),
        ]
        self.more = QCollapsible("", expandedIcon=no_icon(), collapsedIcon=no_icon())
        self.more.setDuration(150)
        self.more.setContent(folded)
        self.more.layout().setContentsMargins(0, 0, 0, 0)
        self.more.layout().setSpacing(4)
        self.more.toggleButton().setObjectName("swintormer-more")
        self.more.toggleButton().setToolTip("Show or hide how the image is cut and computed with.")
        self.more.toggled.connect(self._show_more)
        self.more.toggled.connect(folded.setEnabled)  # or Tab would go where nothing is seen
        folded.setEnabled(False)
        self.more.collapse(animate=False)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(main)
        layout.addWidget(self.more)
        layout.addStretch(1)
        natives = [field.native for field in self.fields()]
        for before, after in pairwise(natives):
            QWidget.setTabOrder(before, after)
        QWidget.setTabOrder(self.model.native, self.show_card)
        QWidget.setTabOrder(self.show_card, self.preset.native)
        QWidget.setTabOrder(self.save_to.native, self.choose_file)
        first_folded = natives[natives.index(self.save_to.native) + 1]
        QWidget.setTabOrder(self.choose_file, self.more.toggleButton())
        QWidget.setTabOrder(self.more.toggleButton(), first_folded)

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self,
            "Save the result to",
            self.save_to.value,
            "OME-Zarr (*.ome.zarr);;OME-TIFF (*.ome.tif);;TIFF (*.tif)",
            options=QFileDialog.Option.DontConfirmOverwrite,  # nothing is overwritten
        )
        if path:
            self.save_to.value = path

    def _range_row(self) -> QWidget:
        self._range = QWidget()
        row = QHBoxLayout(self._range)
        row.setContentsMargins(0, 0, 0, 0)
        for text, field in (("from", self.first_plane), ("to", self.last_plane)):
            label = QLabel(text)
            label.setBuddy(field.native)
            row.addWidget(label)
            row.addWidget(field.native, 1)
        self._range.hide()
        return self._range

    def _show_second_view(self, shows: str | None) -> None:
        """Ask for the second view of the scene, and say what it shows; None for models of one."""
        label = next(label for label in self._labels if label.buddy() is self.second_view.native)
        for part in (label, self.second_view.native, self.second_facts):
            part.setVisible(shows is not None)
        self.second_facts.setText(f"The {shows} view of the scene; the result is of the image.")

    @property
    def label_width(self) -> int:
        """Width of the column of labels."""
        return max(int(label.sizeHint().width()) for label in self._labels)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Give all labels one width, and the height of their fields, so that all stand in line."""
        for label in self._labels:
            label.setFixedSize(self.label_width, label.buddy().sizeHint().height())
        super().showEvent(event)

    def _show_more(self, expanded: bool) -> None:
        self.more.setText(f"{'▾' if expanded else '▸'}  Tiles and precision")
