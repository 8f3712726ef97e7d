"""The form of the Train widget, and the settings that its fields stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from magicgui.widgets import ComboBox, LineEdit
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_swintormer.errors import SwintormerError, TrainingError
from napari_swintormer.models.catalogue import ModelInfo, free_name
from napari_swintormer.models.own_models import check_free
from napari_swintormer.plugin.shared.folded_part import FoldedPart
from napari_swintormer.plugin.shared.option_field import option_field
from napari_swintormer.plugin.shared.style import add_row, form_layout, show_text, text_label
from napari_swintormer.plugin.train.train_sources import TrainSources
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL
from napari_swintormer.settings.options import options_of
from napari_swintormer.settings.preferences import models_folder
from napari_swintormer.training.train_presets import NETWORKS, PRESETS
from napari_swintormer.training.train_settings import TrainSettings

QUICK, THOROUGH, FROM_SCRATCH = PRESETS
OPTIONS = options_of(TrainSettings)
_CHECKED = ("register", "match_intensity", "skip_bad")
_NAME = "my-model"
_SIZES = ("steps", "learning_rate", "batch_size", "patch_size")
_FOLDED = (*_SIZES, "loss", "parameters", "device", "seed")


class TrainForm(QWidget):
    """Holds everything that the user chooses before a training."""

    changed = Signal()

    def __init__(
        self,
        list_layers: Callable[[], Sequence[Layer]],
        list_models: Callable[[], Sequence[ModelInfo]],
    ) -> None:
        super().__init__()
        self._list_models = list_models
        self.sources = TrainSources(list_layers)
        self._make_fields()
        self._lay_out()
        self.refresh()
        if DEFAULT_MODEL in self.model.choices:
            self.model.value = DEFAULT_MODEL
        self._use_preset()
        self.propose_name()
        self._show_name()
        self.name.changed.connect(self._show_name)
        self.model.changed.connect(self._use_multiple)
        patch_size = self._options["patch_size"]
        patch_size.native.setKeyboardTracking(False)  # a number counts when it is complete
        patch_size.changed.connect(self._round_patch_size)
        self.sources.changed.connect(self.changed)
        self.preset.changed.connect(self._use_preset)
        for field in (self.preset, self.name, self.model, *self._options.values()):
            field.changed.connect(lambda *_: self.changed.emit())

    def refresh(self) -> None:
        """List layers and models again; a choice is kept as long as it exists."""
        self.sources.refresh()
        usable = [info.name for info in self._list_models() if info.card is not None]
        if tuple(usable) != tuple(self.model.choices):
            self.model.choices = usable
        self._show_name()

    def settings(self) -> TrainSettings:
        """Return the settings of the training.

        A `TrainingError` says which fields do not fit together.
        """
        name = self._checked_name()
        from_scratch = self.preset.value == FROM_SCRATCH
        preset = PRESETS[self.preset.value]
        options = {name: field.value for name, field in self._options.items()}
        if from_scratch:
            options["parameters"] = "all"
        return TrainSettings(
            out=models_folder() / f"{name}.safetensors",
            **self.sources.settings(),
            from_model=None if from_scratch else self.model.value,
            warmup=min(preset["warmup"], options["steps"]),
            validate_every=preset["validate_every"],
            keep="best",
            title=name,
            **options,
        )

    def propose_name(self) -> None:
        """Put a number behind the name of the new model if a model has this name."""
        self.name.value = free_name(self.name.value.strip() or _NAME)

    def _checked_name(self) -> str:
        name = str(self.name.value).strip()
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise TrainingError(
                f"Give the new model a name of letters, digits, '.', '_' and '-' (got {name!r})."
            )
        check_free(name)
        return name

    def _show_name(self, *_: object) -> None:
        """Say below the field why the name cannot be used."""
        try:
            self._checked_name()
        except SwintormerError as error:
            show_text(self.name_problem, str(error), "error")
        else:
            show_text(self.name_problem, "", "error")

    def _use_multiple(self, *_: object) -> None:
        """Let the side of patches be what the network takes: a multiple of some pixels."""
        card = next((i.card for i in self._list_models() if i.name == self.model.value), None)
        scratch = card is None or not self.model.enabled
        multiple = NETWORKS["small"].multiple if scratch or not card else card.network.multiple
        field = self._options["patch_size"]
        field.step = field.min = multiple
        self._round_patch_size()

    def _round_patch_size(self, *_: object) -> None:
        field = self._options["patch_size"]
        rounded = max(1, round(field.value / field.step)) * field.step
        if rounded != field.value:
            field.value = rounded

    def _use_preset(self, *_: object) -> None:
        preset = PRESETS[self.preset.value]
        for name in ("steps", "learning_rate"):
            self._options[name].value = preset[name]
        further = self.preset.value != FROM_SCRATCH
        self.model.enabled = self._options["parameters"].enabled = further
        self._use_multiple()

    def _make_fields(self) -> None:
        self.preset = ComboBox(
            choices=[(name.capitalize(), name) for name in PRESETS],
            tooltip="Quick adapts a model in minutes. Thorough takes an hour or more.\n"
            "From scratch takes hours and many images, and starts from no model.",
        )
        self.model = option_field(OPTIONS["from_model"], choices=[])
        self.name = LineEdit(value=_NAME, tooltip="Name of the new model in every list.")
        self.name_problem = text_label("error")
        changes: dict[str, dict[str, Any]] = {
            "learning_rate": {"step": 1e-4},
            "patch_size": {"step": 16},
        }
        self._options = {
            name: option_field(OPTIONS[name], **changes.get(name, {}))
            for name in (*_CHECKED, *_FOLDED)
        }
        for name, field in self._options.items():
            setattr(self, name, field)  # scripts write ``form.steps.value = 500``

    def _lay_out(self) -> None:
        main = form_layout()
        add_row(main, "Preset", self.preset)
        add_row(main, "Start from", self.model)
        add_row(main, "New model", self.name, below=self.name_problem)
        for name in _CHECKED:
            main.addRow("", self._options[name].native)
        content = QWidget()
        folded = form_layout(content)
        for name in _FOLDED:
            add_row(folded, OPTIONS[name].label, self._options[name])
        self.more = FoldedPart("Training settings", "Options that seldom need a change.", content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.sources)
        layout.addLayout(main)
        layout.addWidget(self.more)
