"""The Stack section of the Deblur form: the microscope of a stack, and whether it is a volume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari.layers import Image
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QLabel, QWidget

from napari_swintormer.errors import SettingsError
from napari_swintormer.imaging.carried import NOTHING
from napari_swintormer.optics.file_optics import FileOptics
from napari_swintormer.optics.stack_optics import IMMERSION_INDEX, StackOptics
from napari_swintormer.optics.stack_psf import psf_shape, stack_psf
from napari_swintormer.plugin.deblur.psf_picture import psf_pixmap
from napari_swintormer.plugin.layers.layer_data import CARRIED, full_resolution, pixel_sizes
from napari_swintormer.plugin.shared.folded_part import FoldedPart
from napari_swintormer.plugin.shared.option_field import choices_of, option_field
from napari_swintormer.plugin.shared.style import add_row, form_layout, text_label
from napari_swintormer.runs.stack_inputs import known_optics
from napari_swintormer.settings.deblur_settings import STACK_OPTIONS, DeblurSettings
from napari_swintormer.settings.options import options_of

OPTIONS = options_of(DeblurSettings)
_UNKNOWN = "not known"
_NUMBERS = ("na", "sample_index", "specimen_depth", "wavelength", "pixel_size", "z_step")
_DECIMALS = {"na": 3, "sample_index": 3, "specimen_depth": 1, "wavelength": 1}
_DECIMALS_OF_SIZES = 4  # of pixels and z steps in micrometres: files are that exact
_PICTURE = 41  # pixels: side of the part of a PSF that the picture shows


class StackFields(FoldedPart):
    """Fields for the microscope; shown for images with planes along Z only."""

    changed = Signal()

    def __init__(self) -> None:
        self._rows = QWidget()
        super().__init__(
            "Stack", "Show or hide the microscope, for restoring the stack as a volume.", self._rows
        )
        self._layer: Image | None = None
        self._planes, self._channels = 1, 1
        self._known = FileOptics()
        modalities = [("as the file says, or wide-field", None), *choices_of(OPTIONS["modality"])]
        special: dict[str, dict[str, Any]] = {
            "immersion": {"choices": _immersions(), "value": None},
            "modality": {"choices": modalities, "value": None},
            "na": {"step": 0.05},
            "sample_index": {"step": 0.01},
            "specimen_depth": {"step": 1},
            "wavelength": {"step": 10},
            "pixel_size": {"step": 0.01},
            "z_step": {"step": 0.05},
        }
        self.labels: list[QLabel] = []
        form = form_layout(self._rows)
        for name in STACK_OPTIONS:
            field = option_field(OPTIONS[name], **special.get(name, {}))
            if name in (*_NUMBERS, "iterations"):
                words = {
                    "sample_index": "as immersion",
                    "specimen_depth": "at the glass",
                    "iterations": "found on the image",
                }
                if name in _NUMBERS:
                    field.native.setDecimals(_DECIMALS.get(name, _DECIMALS_OF_SIZES))
                field.min = 0
                field.value = 0
                field.native.setSpecialValueText(words.get(name, _UNKNOWN))
            setattr(self, name, field)
            self.labels.append(add_row(form, field.label, field))
            field.changed.connect(self._tell)
        self.facts, self.picture = text_label("caption"), QLabel()
        self.picture.setToolTip(
            "The point-spread function: from above (xy) and from the side (xz)."
        )
        form.addRow(self.facts)
        form.addRow(self.picture)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(300)
        self._timer.timeout.connect(self._draw)
        self.toggled.connect(self._timer.start)
        self.hide()

    def field(self, name: str) -> Any:
        """Return the field of an option, a widget of magicgui."""
        return getattr(self, name)

    def show_for(self, layer: Image | None, axes: str) -> None:
        """Show the section for a layer with planes along Z; a new layer fills in what it knows."""
        shape = () if layer is None else full_resolution(layer).shape
        size = dict(zip(axes, shape, strict=True)) if len(axes) == len(shape) else {}
        self._planes, self._channels = size.get("Z", 1), size.get("C", 1)
        self.setVisible(self._planes > 1)
        if layer is not None and self._planes > 1 and layer is not self._layer:
            self._layer = layer
            self._fill(layer, axes)
        self._show_facts()

    def _fill(self, layer: Image, axes: str) -> None:
        """Fill in what the layer and its file say of the microscope; other numbers stay."""
        sizes = pixel_sizes(axes, layer.scale, layer.units)
        self._known = known = known_optics(layer.metadata.get(CARRIED, NOTHING), *sizes)
        index = known.immersion_index
        immersion = next((name for name, n in IMMERSION_INDEX.items() if n == index), index)
        waves = {round(1000 * wave, 1) for wave in known.emissions if wave}
        told: dict[str, Any] = {
            "na": known.na,
            "immersion": None if immersion is None else str(immersion),
            "wavelength": (waves.pop() if len(waves) == 1 else 0) if waves else None,
            "modality": known.modality,
        }
        values = {name: value for name, value in told.items() if value is not None}
        values |= {name: getattr(known, name) or 0 for name in ("pixel_size", "z_step")}
        for name, value in values.items():
            field = self.field(name)
            with field.changed.blocked():
                if name == "immersion":
                    field.choices = _immersions(index)
                field.value = min(value, field.max) if name in _NUMBERS else value
        several = len(known.emissions) > 1 and all(known.emissions)
        words = "of each channel, from the file" if several else _UNKNOWN
        self.field("wavelength").native.setSpecialValueText(words)

    def options(self) -> dict[str, Any]:
        """Return the options of a volume; empty where the stack is restored plane by plane."""
        if self._planes < 2:
            return {}
        chosen = self._chosen()
        automatic = chosen.pop("depth") == "auto"
        if self.field("depth").value == "planes" or (automatic and not self._is_known(chosen)):
            return {"depth": "planes"}
        return {"depth": "volume"} | {k: v for k, v in chosen.items() if v is not None}

    def _chosen(self) -> dict[str, Any]:
        values = {name: self.field(name).value for name in STACK_OPTIONS}
        return {name: value or None for name, value in values.items()}

    def _is_known(self, chosen: Mapping[str, Any]) -> bool:
        return chosen["psf"] is not None or not self._optics(chosen).missing()

    def _optics(self, chosen: Mapping[str, Any]) -> FileOptics:
        return self._known.completed(DeblurSettings(**chosen))

    def _tell(self, *_: object) -> None:
        self._show_facts()
        self.changed.emit()

    def _show_facts(self) -> None:
        """Say whether the stack is restored as a volume, and what is missing."""
        if self._planes < 2:
            return
        chosen = self._chosen()
        missing = [OPTIONS[name].label for name in self._optics(chosen).missing()]
        if self.field("depth").value == "planes":
            text = "Every plane is restored by itself."
        elif chosen["psf"] is not None or not missing:
            text = "The stack is restored as a volume, without the model."
        else:
            text = f"For a volume these numbers are missing: {', '.join(missing)}."
        self.facts.setText(text)
        how = "as a volume" if self.options()["depth"] == "volume" else "plane by plane"
        self.set_title(f"Stack: {how}")
        self._timer.start()

    def _draw(self) -> None:
        """Draw the PSF, if the section is open and the microscope is known."""
        self.picture.clear()
        if not self.isExpanded() or self._planes < 2:
            return
        try:
            optics: StackOptics = self._optics(self._chosen()).for_channels(1)[0]
            planes, side, _ = psf_shape(optics, self._planes)
            side = min(side, _PICTURE)
            psf = stack_psf(optics, (min(planes, _PICTURE), side, side))
        except SettingsError:
            return
        middle = psf.shape[1] // 2
        self.picture.setPixmap(psf_pixmap(psf[psf.shape[0] // 2], psf[:, middle]))


def _immersions(index: float | None = None) -> list[tuple[str, str | None]]:
    """List the immersions of the field, and that of a file if it is none of them."""
    choices: list[tuple[str, str | None]] = [(_UNKNOWN, None)]
    choices += [(name.capitalize(), name) for name in IMMERSION_INDEX]
    if index is not None and index not in IMMERSION_INDEX.values():
        choices.append((f"Index {index:g}", str(index)))
    return choices
