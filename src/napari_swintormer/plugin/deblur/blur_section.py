"""The Blur section of the Deblur form: who says what the blur is, and what it is."""

from __future__ import annotations

import numpy as np
from magicgui.widgets import ComboBox, FloatSlider, LineEdit
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_swintormer.errors import SettingsError, SwintormerError
from napari_swintormer.optics.blur import Blur
from napari_swintormer.plugin.deblur.psf_picture import psf_pixmap
from napari_swintormer.plugin.layers.layer_optics import Lens
from napari_swintormer.plugin.shared.folded_part import FoldedPart
from napari_swintormer.plugin.shared.style import (
    add_row,
    button,
    form_layout,
    show_text,
    text_label,
)
from napari_swintormer.settings.deblur_settings import UNKNOWN_BLUR

AUTOMATIC, UNKNOWN, SIZE, MOTION = "auto", UNKNOWN_BLUR, "size", "motion"
LENS, FILE = "lens", "file"
_CHOICES = [
    ("Automatic", AUTOMATIC),
    ("Unknown", UNKNOWN),
    ("Size", SIZE),
    ("Motion", MOTION),
    ("Lens", LENS),
    ("PSF from file", FILE),
]
_LEAST, _MOST = 0.5, 16.0  # pixels, radius of a defocus
_STILL = 120  # milliseconds after which a slider or a line counts as still


class BlurSection(FoldedPart):
    """Fields for the blur of planes; hidden where a stack is restored as a volume."""

    changed = Signal()
    moved = Signal()
    """The slider or the line for the motion has stopped."""
    asked = Signal()
    """The user has chosen that the blur is measured."""

    def __init__(self) -> None:
        self._rows = QWidget()
        super().__init__(
            "Blur", "Show or hide what blurs the image, if you know it or let it be measured.",
            self._rows,
        )  # fmt: skip
        self._line: tuple[float, float] | None = None  # of the motion, along Y and X in pixels
        self._lens: Lens | None = None  # of the file
        self._found: tuple[str, Blur | None] = "", None
        self._shown: tuple[str, Blur | None] = "", None
        self._make_fields()
        self._lay_out()
        self._timer = QTimer(self, singleShot=True, interval=_STILL)
        self._timer.timeout.connect(self.moved)
        self.choice.changed.connect(self._choose)
        self.size.changed.connect(self._move)
        self.defocus.changed.connect(self._move)
        self.file.changed.connect(self._tell)
        self.toggled.connect(self._follow_fold)
        self._show_rows()

    def _make_fields(self) -> None:
        self.choice = ComboBox(
            label="Undo",
            choices=[choice for choice in _CHOICES if choice[1] != LENS],
            value=AUTOMATIC,
            tooltip="Who says what the blur is. Automatic measures the blur of each plane, unless\n"
            "the model finds it by itself. Unknown lets the network find it, place by place.\n"
            "The others are told by you.",
        )
        self.size = FloatSlider(
            label="Radius",
            min=_LEAST,
            max=_MOST,
            step=0.1,
            value=2.0,
            tooltip="Radius of a blur by defocus, in pixels. The preview follows when the slider\n"
            "stops.",
        )
        self.size.native.setToolTip(self.size.tooltip)  # for its number, too
        self.defocus = FloatSlider(
            label="Defocus",
            min=0.0,
            max=10.0,
            step=0.01,
            value=0.0,
            tooltip="Distance from the focus, in µm. The file says NA, wavelength and pixel size.",
        )
        self.defocus.native.setToolTip(self.defocus.tooltip)  # for its number, too
        self.file = LineEdit(
            label="PSF file",
            tooltip="Image of the point-spread function, with odd sides of at most 65 pixels.",
        )
        self.choose_file = button("…", "Choose the file of the PSF.", self._choose_file)
        self.choose_file.setFixedWidth(30)
        self.draw = button(
            "Draw a line",
            "Add a line to the image. Drag its ends so that it lies along the motion and has its\n"
            "length; a point of light in the image shows both.",
        )
        self.lens_facts, self.facts = text_label("caption"), text_label("caption")
        self.picture = QLabel()
        self.picture.setToolTip("The point-spread function: what the blur makes of a point.")

    def _lay_out(self) -> None:
        form = form_layout(self._rows)
        self.labels = [add_row(form, self.choice.label, self.choice)]
        self._of_choice: dict[str, QWidget] = {}
        for choice, field, beside in (
            (SIZE, self.size, None),
            (LENS, self.defocus, None),
            (FILE, self.file, self.choose_file),
        ):
            rows, own = self._own_rows(form, choice)
            self.labels.append(add_row(own, field.label, field, beside=beside))
            if choice == LENS:
                own.addRow(self.lens_facts)
            rows.hide()
        rows, own = self._own_rows(form, MOTION)
        own.addRow(self.draw)
        self.buttons = QVBoxLayout()
        """Further buttons, of the widget."""
        self.buttons.setContentsMargins(0, 0, 0, 0)
        form.addRow(self.buttons)
        told = QHBoxLayout()
        told.addWidget(self.facts, 1)
        told.addWidget(self.picture)
        form.addRow(told)

    def _own_rows(self, form: QFormLayout, choice: str) -> tuple[QWidget, QFormLayout]:
        rows = self._of_choice[choice] = QWidget()
        form.addRow(rows)
        return rows, form_layout(rows)

    def tab_order(self) -> list[QWidget]:
        """Return the fields and buttons in the order of Tab."""
        fields = (self.choice, self.size, self.defocus, self.file)
        added = (self.buttons.itemAt(number).widget() for number in range(self.buttons.count()))
        return [
            self.toggleButton(),
            *(field.native for field in fields),
            self.choose_file,
            self.draw,
            *(each for widget in added for each in widget.findChildren(QPushButton)),
        ]

    def blur(self) -> Blur | None:
        """Return the blur that the user tells; None where it is measured or left to the model.

        Raises
        ------
        SwintormerError
            There is no line or no file, or it cannot be a blur.
        """
        text = self.told()
        return None if text is None or text == UNKNOWN else Blur.parse(text)

    def told(self) -> str | None:
        """Return what the option `blur` gets; see `blur`."""
        choice = self.choice.value
        if choice == SIZE:
            return f"{self.size.value:g}px"
        if choice == MOTION:
            return self._motion()
        if choice == LENS and self._lens is not None:
            return self._lens.told(self.defocus.value)
        if choice == FILE:
            path = str(self.file.value).strip()
            if not path:
                raise SettingsError("There is no PSF file yet. Choose one with the button beside.")
            return path
        return UNKNOWN if choice == UNKNOWN else None

    def _motion(self) -> str:
        if self._line is None:
            raise SettingsError(
                "There is no line for the motion yet. Click Draw a line, and drag its ends."
            )
        along_y, along_x = self._line
        length = round(float(np.hypot(along_y, along_x)), 1)
        angle = round(float(np.degrees(np.arctan2(-along_y, along_x)))) % 180
        Blur.motion(length, angle)  # says what is wrong with a line of one pixel
        return f"motion:{length:g}@{angle:g}"

    def set_line(self, line: tuple[float, float] | None) -> None:
        """Take the line of the motion, as its extent along Y and X in pixels of the image."""
        if line != self._line:
            self._line = line
            if self.choice.value == MOTION:
                self._move()

    def offer_lens(self, lens: Lens | None) -> None:
        """Offer the lens that the file of the image names; None takes the choice away."""
        if lens == self._lens:
            return
        if lens is None and self.choice.value == LENS:
            self.choice.value = AUTOMATIC
        self._lens = lens
        chosen = self.choice.value
        with self.choice.changed.blocked():
            # before the file of a PSF
            self.choice.choices = [c for c in _CHOICES if lens is not None or c[1] != LENS]
            self.choice.value = chosen
        if lens is not None:
            self.defocus.max = lens.deepest
            self.defocus.value = 0.0
            self.lens_facts.setText(f"From the file: {lens.describe()}.")
        self._show_facts()

    def show_found(self, sentence: str, blur: Blur | None) -> None:
        """Show what was measured on the image; an empty sentence forgets it."""
        self._found = sentence, blur
        self._show_facts()

    def follow_kind(self) -> None:
        """Measure again, or renew the preview: the blur of a photo is undone in its light."""
        if self.choice.value != AUTOMATIC:
            self._move()
        elif self.isExpanded():
            self.asked.emit()

    def _choose(self, *_: object) -> None:
        self._show_rows()
        self._tell()
        if self.choice.value == AUTOMATIC:
            self.asked.emit()

    def _move(self, *_: object) -> None:
        self._tell()
        self._timer.start()

    def _tell(self, *_: object) -> None:
        self._show_facts()
        self.changed.emit()

    def _show_rows(self) -> None:
        for choice, rows in self._of_choice.items():
            rows.setVisible(choice == self.choice.value)
        self._show_facts()

    def _show_facts(self, *_: object) -> None:
        """Say what the blur is, and draw it, or say what is wrong with it."""
        sentence, blur = self._found
        measured = self.choice.value == AUTOMATIC and blur is not None
        role, chosen = "caption", "measured" if measured else ""
        try:
            told = self.blur()
        except SwintormerError as error:
            sentence, blur, role, chosen = str(error), None, "error", "not known yet"
        else:
            if told is not None:
                chosen = told.sentence()
                sentence, blur = f"{_capital(chosen)}.", told
            elif self.choice.value == UNKNOWN:
                sentence, blur, chosen = "The network finds the blur.", None, "unknown"
        show_text(self.facts, sentence, role)
        self._shown = chosen, blur
        self._follow_fold()

    def _follow_fold(self, *_: object) -> None:
        """Draw the PSF if the section is open, else say in the title what is chosen."""
        chosen, blur = self._shown
        self.set_title(f"Blur: {chosen}" if chosen and not self.isExpanded() else "Blur")
        self.picture.clear()
        if blur is not None and blur.kind != "none" and self.isExpanded():
            self.picture.setPixmap(psf_pixmap(blur.psf()))

    def _choose_file(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "PSF", str(self.file.value), "Images (*.tif *.tiff *.npy *.png);;All files (*)"
        )
        if path:
            self.file.value = path


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
