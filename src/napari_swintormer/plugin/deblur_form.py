"""The fields of the Deblur widget, and the settings that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod
from typing import Any

from magicgui.widgets import ComboBox, FloatSlider, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from napari.layers import Image
from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtGui import QIcon, QResizeEvent, QShowEvent
from qtpy.QtWidgets import (
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_swintormer.config import DEFAULT_MODEL, DeblurSettings
from napari_swintormer.models.catalogue import ModelInfo
from napari_swintormer.plugin.layers import full_resolution, guess_axes
from napari_swintormer.plugin.style import add_row, form_layout, text_label

ALL_PLANES = "All planes"
CURRENT_PLANE = "Current plane"
RANGES = {"Range along T": "T", "Range along Z": "Z"}
DEVICES = [("Automatic", "auto"), ("CPU", "cpu"), ("NVIDIA GPU", "cuda"), ("Apple GPU", "mps")]
BLENDS = [("Smooth", "smooth"), ("Uniform mean", "uniform")]
PRECISIONS = [
    ("Automatic", "auto"),
    ("32-bit float", "fp32"),
    ("bfloat16", "bf16"),
    ("16-bit float", "fp16"),
]
BATCH_SIZES = [("Automatic", 0), *((str(n), n) for n in (1, 2, 4, 8, 16, 32, 64))]
_LARGEST = 16384  # pixels, the largest tile that a model card can name


class DeblurForm(QWidget):
    """Everything that the user chooses before a run.

    Parameters
    ----------
    list_layers
        Gives the image layers to choose from.
    list_models
        Gives the models to choose from.
    """

    changed = Signal()

    def __init__(
        self,
        list_layers: Callable[[], Sequence[Image]],
        list_models: Callable[[], Sequence[ModelInfo]],
    ) -> None:
        super().__init__()
        self._list_layers = list_layers
        self._list_models = list_models
        self._models: dict[str, ModelInfo] = {}
        self._shown_image: Image | None = None
        self._lengths: dict[str, int] = {}
        self._range_over: tuple[str | None, int] | None = None
        self._shown_model: ModelInfo | None = None
        self._make_fields()
        self._lay_out()
        self.refresh()
        if DEFAULT_MODEL in self._models:
            self.model.value = DEFAULT_MODEL

    @property
    def layer(self) -> Image | None:
        """The chosen input layer."""
        return self.image.value

    @property
    def current_plane_only(self) -> bool:
        """Whether only the plane in view is to be deblurred."""
        return bool(self.planes.value == CURRENT_PLANE)

    @property
    def plane_range(self) -> tuple[str, int, int] | None:
        """Axis, first and last plane of the range to be deblurred; None without a range."""
        axis = RANGES.get(self.planes.value)
        return None if axis is None else (axis, self.first_plane.value, self.last_plane.value)

    def settings(self) -> DeblurSettings:
        """Read the settings of the run off the fields."""
        return DeblurSettings(
            model=self.model.value,
            axes=self.axes.value.strip() or None,
            tile_size=self.tile_size.value,
            overlap=self.overlap.value,
            blend=self.blend.value,
            batch_size=self.batch_size.value or None,
            device=self.device.value,
            precision=self.precision.value,
            seed=self.seed.value,
            strength=self.strength.value,
        )

    def refresh(self) -> None:
        """List layers and models again; choices are kept as long as they exist."""
        self._models = {info.name: info for info in self._list_models()}
        self.model.choices = list(self._models)
        self.image.choices = [(layer.name, layer) for layer in self._list_layers()]
        self._show_model()
        self._show_image()

    def _make_fields(self) -> None:
        self.image = ComboBox(
            choices=[],
            nullable=False,
            tooltip="The image layer to deblur. Of a multiscale layer the finest level is taken.",
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
        self.strength = FloatSlider(
            value=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Share of what the network changes that is put into the result: 1 is all of\n"
            "it, less keeps more of the blurred image. A preview follows at once.",
        )
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
        self.image.changed.connect(self._show_image)
        self.axes.changed.connect(self._show_planes)
        self.planes.changed.connect(self._show_range)
        self.model.changed.connect(self._show_model)
        for field in self.fields():
            field.changed.connect(self._tell)

    def fields(self) -> tuple[ValueWidget[Any], ...]:
        """All fields, in tab order."""
        return (
            *(self.image, self.axes, self.planes, self.first_plane, self.last_plane),
            *(self.model, self.strength, self.device, self.save_to),
            *(self.tile_size, self.overlap, self.blend),
            *(self.batch_size, self.precision, self.seed),
        )

    def _lay_out(self) -> None:
        self.image_facts, self.model_facts = text_label("caption"), text_label("caption")
        main = form_layout()
        self._labels = [
            add_row(main, "Image", self.image, self.image_facts),
            add_row(main, "Axes", self.axes),
            add_row(main, "Planes", self.planes, self._range_row()),
            add_row(main, "Model", self.model, self.model_facts),
            add_row(main, "Strength", self.strength),
            add_row(main, "Device", self.device),
            add_row(main, "Save to", self.save_to, beside=self.choose_file),
        ]
        folded = QWidget()
        rest = form_layout(folded)
        self._labels += [
            add_row(rest, "Tile size", self.tile_size),
            add_row(rest, "Overlap", self.overlap),
            add_row(rest, "Blending", self.blend),
            add_row(rest, "Batch size", self.batch_size),
            add_row(rest, "Precision", self.precision),
            add_row(rest, "Seed", self.seed),
        ]
        self.more = QCollapsible("", expandedIcon=QIcon(), collapsedIcon=QIcon())
        self.more.setDuration(150)
        self.more.setContent(folded)
        self.more.layout().setContentsMargins(0, 0, 0, 0)
        self.more.layout().setSpacing(4)
        self.more.toggleButton().setObjectName("swintormer-more")
        self.more.toggled.connect(self._show_more)
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
        QWidget.setTabOrder(self.save_to.native, self.choose_file)
        QWidget.setTabOrder(self.choose_file, self.tile_size.native)

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

    def _tell(self, *_: object) -> None:
        self.changed.emit()

    def _show_image(self, *_: object) -> None:
        """Guess the axes of a newly chosen image and say what it is."""
        layer = self.layer
        if layer is not self._shown_image:
            self._shown_image = layer
            self.axes.value = "" if layer is None else guess_axes(layer)
        if layer is None:
            self.image_facts.setText("Open an image to begin.")
        else:
            self.image_facts.setText(_describe_image(layer))
        self._show_planes()

    def _show_planes(self, *_: object) -> None:
        """Offer what planes can be chosen; the choice is kept as long as it makes sense."""
        layer = self.layer
        shape = () if layer is None else full_resolution(layer).shape
        stack = layer is not None and prod(shape[: layer.ndim - 2]) > 1
        self._lengths = {}
        if len(self.axes.value.strip()) == len(shape):
            self._lengths = dict(zip(self.axes.value.strip().upper(), shape, strict=True))
        ranges = [text for text, axis in RANGES.items() if self._lengths.get(axis, 1) > 1]
        chosen = self.planes.value
        self.planes.choices = [ALL_PLANES, CURRENT_PLANE, *ranges]
        self.planes.enabled = stack
        self.planes.value = chosen if stack and chosen in self.planes.choices else ALL_PLANES
        self._show_range()

    def _show_range(self, *_: object) -> None:
        """Show from and to where a range is chosen, at first over all planes of its axis."""
        axis = RANGES.get(self.planes.value)
        self._range.setVisible(axis is not None)
        end = 0 if axis is None else int(self._lengths[axis]) - 1
        over = (axis, end)
        if axis is not None and over != self._range_over:
            self._range_over = over
            for field, value in ((self.first_plane, 0), (self.last_plane, end)):
                field.max = end
                field.value = value

    def _show_model(self, *_: object) -> None:
        """Take over the tiles that a newly chosen model works best with, and say what it is."""
        info = self._models.get(self.model.value)
        self.model_facts.setText("" if info is None else _describe_model(info))
        if info is None or info.card is None or info == self._shown_model:
            return
        self._shown_model = info
        self.tile_size.value = info.card.tile_size
        self.overlap.value = info.card.overlap
        self.blend.value = info.card.blend


class FormArea(QScrollArea):
    """As high as its form needs, and scrolled where the window has less room."""

    def __init__(self, form: QWidget) -> None:
        super().__init__()
        self.setWidget(form)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Maximum)

    def sizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Give the size of the form; lines that wrap need more height where it is narrow."""
        form = self.widget()
        width = form.minimumSizeHint().width()
        shown = max(self.viewport().width(), width) if self.isVisible() else width
        border = self.height() - self.viewport().height() if self.isVisible() else 0
        return QSize(
            width, max(form.heightForWidth(shown), form.minimumSizeHint().height()) + border
        )

    def minimumSizeHint(self) -> QSize:  # noqa: N802 (Qt's name)
        """Never narrower than the form, for it scrolls up and down only."""
        bar = self.verticalScrollBar().sizeHint().width()
        return QSize(self.widget().minimumSizeHint().width() + bar, 120)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 (Qt's name)
        """Follow the form when it unfolds or a line wraps."""
        if watched is self.widget() and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return bool(super().eventFilter(watched, event))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 (Qt's name)
        """Ask for another height when the width changes."""
        super().resizeEvent(event)
        if event.oldSize().width() != event.size().width():
            self.updateGeometry()


def _describe_image(layer: Image) -> str:
    data = full_resolution(layer)
    size = " × ".join(str(n) for n in (data.shape[:-1] if layer.rgb else data.shape))
    colours = {3: "RGB", 4: "RGBA"}.get(data.shape[-1], "RGB") if layer.rgb else ""
    return ", ".join(part for part in (size, colours, str(data.dtype)) if part)


def _describe_model(info: ModelInfo) -> str:
    if info.card is None:
        return info.problem or ""
    return info.card.title or info.card.summary
