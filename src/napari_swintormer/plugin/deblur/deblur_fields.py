"""The fields of the Deblur widget and their layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, FloatSlider, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QFileDialog, QFormLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_swintormer.plugin.deblur.blur_section import BlurSection
from napari_swintormer.plugin.deblur.kind_choice import KindChoice
from napari_swintormer.plugin.deblur.stack_fields import StackFields
from napari_swintormer.plugin.shared.folded_part import FoldedPart
from napari_swintormer.plugin.shared.form_area import FormArea
from napari_swintormer.plugin.shared.option_field import choices_of, option_field
from napari_swintormer.plugin.shared.style import add_row, button, form_layout, text_label
from napari_swintormer.settings.deblur_settings import STACK_OPTIONS, DeblurSettings
from napari_swintormer.settings.options import options_of

OPTIONS = options_of(DeblurSettings)
_BATCH_SIZES = [("Automatic", 0), *((str(n), n) for n in (1, 2, 4, 8, 16, 32, 64))]
OF_PRIOR: dict[str, dict[str, Any]] = {"num_inference_steps": {}, "samples": {}, "uncertainty": {}}
FOLDED: dict[str, dict[str, Any]] = {
    "tile_size": {"step": 16},
    "overlap": {"step": 16},
    "blend": {},
    "scale": {},
    "batch_size": {"choices": _BATCH_SIZES},
    "precision": {},
    "seed": {},
}
"""Options in the folded part of the form, in their order, with arguments for `option_field`."""
_INPUT = ("image", "second_view", "axes", "planes", "first_plane", "last_plane")
_REST = ("model", "preset", "device", "save_to")
_ALL = (*_INPUT, "strength", *_REST, "use_prior", *OF_PRIOR, *FOLDED)
ALL_PLANES = "All planes"
CURRENT_PLANE = "Current plane"
RANGES = {"Range along T": "T", "Range along Z": "Z"}
CUSTOM = "custom"


class DeblurFields(QWidget):
    """Makes and arranges the fields; `DeblurForm` gives them their meaning."""

    num_inference_steps: Any
    samples: Any
    uncertainty: Any
    blend: Any

    def __init__(self) -> None:
        super().__init__()
        self._labels: list[QLabel] = []
        self.proposed_file = ""
        """What the dialog of *Save to* proposes."""
        self._make_input_fields()
        self._make_option_fields()
        self._lay_out()

    def _make_input_fields(self) -> None:
        self.image = ComboBox(
            label="Image",
            choices=[],
            nullable=False,
            tooltip="The image layer to deblur, at its finest level.",
        )
        self.second_view = ComboBox(
            label="Other view",
            choices=[],
            nullable=True,
            tooltip="The layer with the other view of the scene: this model takes both views of a\n"
            "dual-pixel camera. The result belongs to the image above.",
        )
        self.axes = option_field(OPTIONS["axes"], "Correct the guess if it is wrong.")
        self.planes = ComboBox(
            label="Planes",
            choices=[ALL_PLANES, CURRENT_PLANE],
            tooltip="Deblur the whole stack, the plane that the sliders show now, or a range of\n"
            "planes along T or Z.",
        )
        counted = "plane of the range, counted from 0 as on the sliders."
        self.first_plane = SpinBox(label="from", tooltip=f"First {counted}")
        self.last_plane = SpinBox(label="to", tooltip=f"Last {counted}")
        self.save_to = LineEdit(
            label="Save to",
            tooltip="File of the result: .ome.zarr, .ome.tif or .tif. A stopped run into a file\n"
            "continues when you start it again, even after napari was closed.\n"
            "Empty: the result is a layer that you can save later.",
        )
        self.save_to.native.setPlaceholderText("Memory")
        self.help = button("?", "Open the guide in the browser.")
        self.help.setFixedWidth(26)
        self.choose_file = button("…", "Choose the file of the result.", self._choose_file)
        self.choose_file.setFixedWidth(30)

    def _make_option_fields(self) -> None:
        self.model = ComboBox(
            label="Model",
            choices=[],
            tooltip="The trained network. Weights files in the models folder appear here.",
        )
        self.show_card = button(
            "Card", "Show what this model is for, its training images, its licence and its gain."
        )
        self.show_card.setFixedWidth(44)
        presets = [*choices_of(OPTIONS["preset"]), ("Custom", CUSTOM)]
        self.preset = option_field(OPTIONS["preset"], choices=presets, value="balanced")
        self.strength = option_field(
            OPTIONS["strength"],
            "A preview and a result in memory follow at once.",
            FloatSlider,
            step=0.01,
        )
        self.strength.native.setToolTip(self.strength.tooltip)  # for its number, too
        self.device = option_field(OPTIONS["device"])
        self.use_prior = CheckBox(
            label="Prior",
            value=True,
            tooltip="Restore with a sample of the model's diffusion prior. Off is quicker.",
        )
        for name, arguments in (OF_PRIOR | FOLDED).items():
            setattr(self, name, option_field(OPTIONS[name], **arguments))

    def fields(self, *names: str) -> list[ValueWidget[Any]]:
        """Return fields by name, or all fields."""
        return [getattr(self, name) for name in names or _ALL]

    def _add_row(self, form: QFormLayout, field: ValueWidget[Any], **around: QWidget) -> QLabel:
        label = add_row(form, field.label, field, **around)
        self._labels.append(label)
        if isinstance(field, CheckBox):
            field.text = ""  # the label stands in its column
        return label

    def _lay_out(self) -> None:
        """Put what everybody needs here, and the rest into `more`."""
        self.image_facts, self.second_facts = text_label("caption"), text_label("caption")
        first, last = form_layout(), form_layout()
        self._add_row(first, self.image, below=self.image_facts, beside=self.help)
        second = self._add_row(first, self.second_view, below=self.second_facts)
        self._second_row = (second, self.second_view.native, self.second_facts)
        self._axes_row = (self._add_row(first, self.axes), self.axes.native)
        self._planes_row = (
            self._add_row(first, self.planes, below=self._range_row()),
            self.planes.native,
        )
        self.kind = KindChoice()
        label = QLabel("It is a")
        label.setBuddy(self.kind.photo)
        label.setToolTip("What the image is decides how its blur is undone.")
        first.addRow(label, self.kind)
        self._labels.append(label)
        self._add_row(last, self.strength)
        self.stack = StackFields()
        self.sections = QVBoxLayout()
        """Folded parts between the image and the strength."""
        self.sections.setSpacing(8)
        self.blur = BlurSection()
        self._labels += self.blur.labels
        for section in (self.stack, self.blur):
            self.sections.addWidget(section)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        for rows in (first, self.sections, last):
            layout.addLayout(rows)
        layout.addStretch(1)
        self.more = FoldedPart(
            "More", "Show or hide model, device, tiles, trials, folders and scripts.", self._rest()
        )

    def _rest(self) -> QWidget:
        """Make the content of the folded part; the widget adds further rows to `rest`."""
        content = QWidget()
        self.model_facts = text_label("caption")
        rows = form_layout()
        self._add_row(rows, self.model, below=self.model_facts, beside=self.show_card)
        for field in (self.preset, self.device):
            self._add_row(rows, field)
        self._add_row(rows, self.save_to, beside=self.choose_file)
        self.rest = QVBoxLayout(content)
        self.rest.setContentsMargins(0, 0, 0, 0)
        self.rest.setSpacing(8)
        self.rest.addLayout(rows)
        self.rest.addWidget(self._tile_rows())
        return FormArea(content)

    def _tile_rows(self) -> QWidget:
        folded = QWidget()
        rows = form_layout(folded)
        self.prior_rows = QWidget()  # shown for models with a prior only
        prior = form_layout(self.prior_rows)
        self.prior_rows.hide()
        rows.addRow(self.prior_rows)
        for field in self.fields("use_prior", *OF_PRIOR):
            self._add_row(prior, field)
        for field in self.fields(*FOLDED):
            self._add_row(rows, field)
        self.tiles = FoldedPart(
            "Tiles and precision", "Show or hide the options for tiles and precision.", folded
        )
        return self.tiles

    def tab_order(self) -> tuple[list[QWidget], list[QWidget]]:
        """Return the fields in the order of Tab: those here, and those in `more`."""
        here: list[QWidget] = [self.image.native, self.help]
        here += [getattr(self, name).native for name in _INPUT[1:]]
        here += [self.kind.photo, self.kind.microscopy]
        here += [self.stack.toggleButton()]
        here += [self.stack.field(name).native for name in STACK_OPTIONS]
        here += [*self.blur.tab_order(), self.strength.native]
        buttons = {"model": self.show_card, "save_to": self.choose_file}
        folded: list[QWidget] = [self.more.toggleButton()]
        for name in _REST:
            folded.append(getattr(self, name).native)
            folded += [buttons[name]] if name in buttons else []
        folded.append(self.tiles.toggleButton())
        folded += [getattr(self, name).native for name in ("use_prior", *OF_PRIOR, *FOLDED)]
        return here, folded

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getSaveFileName(
            self,
            "Save the result to",
            self.save_to.value or self.proposed_file,
            "OME-Zarr (*.ome.zarr);;OME-TIFF (*.ome.tif);;TIFF (*.tif)",
            options=QFileDialog.Option.DontConfirmOverwrite,  # nothing is overwritten
        )
        if path:
            self.save_to.value = path

    def _range_row(self) -> QWidget:
        self._range = QWidget()
        row = QHBoxLayout(self._range)
        row.setContentsMargins(0, 0, 0, 0)
        for field in (self.first_plane, self.last_plane):
            label = QLabel(field.label)
            label.setBuddy(field.native)
            row.addWidget(label)
            row.addWidget(field.native, 1)
        self._range.hide()
        return self._range

    def _show_row(self, row: Sequence[QWidget], shown: bool) -> None:
        for part in row:
            part.setVisible(shown)

    def _show_second_view(self, shows: str | None) -> None:
        """Show the row of the second view and say what it shows; None hides the row."""
        self._show_row(self._second_row, shows is not None)
        self.second_facts.setText(
            f"The {shows} view of the scene; the result belongs to the image."
        )

    @property
    def label_width(self) -> int:
        """Width of the column of labels."""
        return max(int(label.sizeHint().width()) for label in self._labels)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 (Qt's name)
        """Give every label the same width, and the height of its field."""
        for label in self._labels:
            label.setFixedSize(self.label_width, label.buddy().sizeHint().height())
        super().showEvent(event)
