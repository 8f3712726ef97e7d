"""The fields of the Train widget, and the settings that they stand for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, FloatSpinBox, LineEdit, SpinBox
from magicgui.widgets.bases import ValueWidget
from napari.layers import Layer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QVBoxLayout, QWidget
from superqt import QCollapsible

from napari_swintormer.errors import TrainingError
from napari_swintormer.models.catalogue import ModelInfo
from napari_swintormer.plugin.shared.option_field import choices_of
from napari_swintormer.plugin.shared.style import form_layout, no_icon
from napari_swintormer.plugin.train.train_sources import TrainSources
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL, DeblurSettings
from napari_swintormer.settings.options import options_of
from napari_swintormer.settings.preferences import models_folder
from napari_swintormer.training.train_presets import PRESETS
from napari_swintormer.training.train_settings import TrainSettings

QUICK, THOROUGH, FROM_SCRATCH = PRESETS
_LOSSES = [
    ("Mean difference (L1)", "l1"),
    ("Charbonnier", "charbonnier"),
    ("Charbonnier and frequencies", "charbonnier + 0.1 * frequency"),
    ("Decibels", "decibel"),
    ("L1 and VGG19 features", "l1 + 0.01 * perceptual"),
]
_PARAMETERS = [
    ("Everything", "all"),
    ("Deconvolution", "deconvolution"),
    ("Decoder", "decoder"),
    ("Last layer", "output"),
]


class TrainForm(QWidget):
    """Everything that the user chooses before a training.

    Parameters
    ----------
    list_layers
        Gives the layers to choose from.
    list_models
        Gives the models to start from.
    """

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
        self.sources.changed.connect(self.changed)
        self.preset.changed.connect(self._use_preset)
        for field in self._fields():
            field.changed.connect(lambda *_: self.changed.emit())

    def refresh(self) -> None:
        """List layers and models again; choices are kept as long as they exist."""
        self.sources.refresh()
        usable = [info.name for info in self._list_models() if info.card is not None]
        if tuple(usable) != tuple(self.model.choices):
            self.model.choices = usable

    def settings(self) -> TrainSettings:
        """Read the settings of the training off the fields.

        Raises
        ------
        TrainingError
            They do not fit each other; one sentence says what would work.
        """
        name = self.name.value.strip()
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise TrainingError(
                f"Give the new model a name of letters, digits, '.', '_' and '-' (got {name!r})."
            )
        from_scratch = self.preset.value == FROM_SCRATCH
        preset = PRESETS[self.preset.value]
        return TrainSettings(
            out=models_folder() / f"{name}.safetensors",
            **self.sources.settings(),
            from_model=None if from_scratch else self.model.value,
            steps=self.steps.value,
            learning_rate=self.learning_rate.value,
            warmup=min(preset["warmup"], self.steps.value),
            validate_every=preset["validate_every"],
            keep="best",
            batch_size=self.batch_size.value,
            patch_size=self.patch_size.value,
            loss=self.loss.value,
            parameters="all" if from_scratch else self.parameters.value,
            register=self.register.value,
            match_intensity=self.match_intensity.value,
            skip_bad=self.skip_bad.value,
            seed=self.seed.value,
            device=self.device.value,
            title=name,
        )

    def _use_preset(self, *_: object) -> None:
        preset = PRESETS[self.preset.value]
        self.steps.value = preset["steps"]
        self.learning_rate.value = preset["learning_rate"]
        self.model.enabled = self.parameters.enabled = self.preset.value != FROM_SCRATCH

    def _make_fields(self) -> None:
        self.preset = ComboBox(
            choices=[(name.capitalize(), name) for name in PRESETS],
            tooltip="Quick: minutes, a model made your own. Thorough: an hour or more.\n"
            "From scratch: hours and many images, ignores the model below.",
        )
        self.model = ComboBox(choices=[], tooltip="The model that is trained further.")
        self.name = LineEdit(value="my-model", tooltip="Name of the new model in every list.")
        self.steps = SpinBox(value=1, min=1, max=10**7, tooltip="Training steps.")
        self.learning_rate = FloatSpinBox(
            value=3e-4,
            min=1e-7,
            max=0.1,
            step=1e-4,
            tooltip="At its peak. Lower changes the model less; higher may destroy it.",
        )
        self.batch_size = SpinBox(
            value=TrainSettings.batch_size, min=1, max=1024, tooltip="Patches in a step."
        )
        self.patch_size = SpinBox(
            value=TrainSettings.patch_size,
            min=16,
            max=4096,
            step=16,
            tooltip="Side of the patches, in pixels.",
        )
        self.loss = ComboBox(
            choices=_LOSSES,
            tooltip="What the training makes small. VGG19's parameters (548 MB) are fetched once.",
        )
        self.parameters = ComboBox(
            choices=_PARAMETERS,
            tooltip="What is trained of the model: less is quicker and forgets less.",
        )
        self.register = CheckBox(
            text="Register pairs", tooltip="Move sharp images back by the shift that is found."
        )
        self.match_intensity = CheckBox(
            text="Match intensities",
            tooltip="Bring sharp images to the intensities of the blurred ones.",
        )
        self.skip_bad = CheckBox(
            text="Skip bad pairs", tooltip="Train without the pairs that the check finds bad."
        )
        devices = choices_of(options_of(DeblurSettings)["device"])
        self.device = ComboBox(choices=devices, tooltip="Where the training runs.")
        self.seed = SpinBox(
            value=0, min=0, max=2**31 - 1, tooltip="The same seed gives the same model."
        )

    def _fields(self) -> tuple[ValueWidget[Any], ...]:
        return (
            *(self.preset, self.model, self.name, self.register, self.match_intensity),
            *(self.skip_bad, self.steps, self.learning_rate, self.batch_size),
            *(self.patch_size, self.loss, self.parameters, self.device, self.seed),
        )

    def _lay_out(self) -> None:
        main = form_layout()
        rows: list[tuple[str, ValueWidget[Any]]] = [
            ("Preset", self.preset),
            ("Start from", self.model),
            ("New model", self.name),
        ]
        for text, field in rows:
            main.addRow(text, field.native)
        for box in (self.register, self.match_intensity, self.skip_bad):
            main.addRow("", box.native)
        folded = QWidget()
        rest = form_layout(folded)
        rows = [
            ("Steps", self.steps),
            ("Learning rate", self.learning_rate),
            ("Batch size", self.batch_size),
            ("Patch size", self.patch_size),
            ("Loss", self.loss),
            ("Train", self.parameters),
            ("Device", self.device),
            ("Seed", self.seed),
        ]
        for text, field in rows:
            rest.addRow(text, field.native)
        self.more = QCollapsible("", expandedIcon=no_icon(), collapsedIcon=no_icon())
        self.more.setDuration(150)
        self.more.setContent(folded)
        self.more.layout().setContentsMargins(0, 0, 0, 0)
        self.more.toggleButton().setObjectName("swintormer-more")
        self.more.toggled.connect(self._show_more)
        self.more.collapse(animate=False)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addWidget(self.sources)
        layout.addLayout(main)
        layout.addWidget(self.more)

    def _show_more(self, expanded: bool) -> None:
        self.more.setText(f"{'▾' if expanded else '▸'}  Training settings")
