"""The form of the Deblur widget: what its fields mean, and what they offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, get_args
from weakref import WeakKeyDictionary

from napari.layers import Image
from qtpy.QtCore import Signal

from napari_swintormer.imaging.axes import AXES
from napari_swintormer.models.catalogue import ALIASES, ModelInfo
from napari_swintormer.plugin.deblur.blur_section import AUTOMATIC, UNKNOWN
from napari_swintormer.plugin.deblur.deblur_fields import (
    ALL_PLANES,
    CURRENT_PLANE,
    CUSTOM,
    FOLDED,
    OF_PRIOR,
    RANGES,
    DeblurFields,
)
from napari_swintormer.plugin.deblur.kind_choice import known_kind
from napari_swintormer.plugin.layers.layer_data import full_resolution, guess_axes
from napari_swintormer.plugin.layers.made_layers import own_images, users_images, warning_for
from napari_swintormer.runs.presets import complete
from napari_swintormer.settings.deblur_settings import (
    AUTOMATIC_MODEL,
    DEFAULT_MODEL,
    FILTER_MODEL,
    SAMPLES_FOR_UNCERTAINTY,
    DeblurSettings,
    ImageKind,
    Preset,
)
from napari_swintormer.settings.preferences import preferences, with_preferences

_OF_MODEL = ("tile_size", "overlap", "blend", *OF_PRIOR)
_OF_PRESET = ("tile_size", "overlap", "num_inference_steps", "samples")


class DeblurForm(DeblurFields):
    """Everything that the user chooses before a run."""

    changed = Signal()
    image_chosen = Signal()
    """Another image is chosen."""

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
        self._range_over: tuple[str, int] | None = None
        self._shown_model: ModelInfo | None = None
        self._proposed: str | None = None
        self._raised_samples = False
        self._answers: WeakKeyDictionary[Image, ImageKind] = WeakKeyDictionary()
        self._last_answer: ImageKind | None = None
        self.image.changed.connect(self._show_image)
        self.axes.changed.connect(self._show_planes)
        self.planes.changed.connect(self._show_range)
        self.model.changed.connect(self._show_model)
        self.preset.changed.connect(self._use_preset)
        for field in self.fields(*_OF_PRESET):
            field.changed.connect(self._show_preset)
        self.use_prior.changed.connect(self._enable_prior)
        self.uncertainty.changed.connect(self._use_preset_or_samples)
        self.stack.changed.connect(self._show_blur)
        self.stack.changed.connect(self._show_facts)
        self.stack.changed.connect(self._tell)
        self.kind.answered.connect(self._take_answer)
        self.more.toggled.connect(self._show_axes)
        self.blur.changed.connect(self._tell)
        for field in self.fields():
            field.changed.connect(self._tell)
        self.refresh()
        self._propose_model()

    @property
    def layer(self) -> Image | None:
        """The chosen input layer."""
        return self.image.value

    @property
    def second_layer(self) -> Image | None:
        """The chosen layer of the second view; None if the model takes one view."""
        return None if self.second_view_name() is None else self.second_view.value

    def second_view_name(self) -> str | None:
        """Return what the second view of the chosen model shows; None for a model of one view."""
        info = self._models.get(self.model.value)
        return None if info is None or info.card is None else info.card.second_view

    @property
    def current_plane_only(self) -> bool:
        """Whether only the plane in view is deblurred."""
        return bool(self.planes.value == CURRENT_PLANE)

    @property
    def plane_range(self) -> tuple[str, int, int] | None:
        """Axis, first and last plane of the chosen range; None without a range."""
        axis = RANGES.get(self.planes.value)
        return None if axis is None else (axis, self.first_plane.value, self.last_plane.value)

    def settings(self) -> DeblurSettings:
        """Return the settings that the fields describe, with the user's preferences.

        Raises
        ------
        SwintormerError
            A blur that the user wants to tell is not there yet, or is impossible.
        """
        return self.settings_with_blur(None if self.blur.isHidden() else self.blur.told())

    def settings_with_blur(self, blur: str | None) -> DeblurSettings:
        """Return the settings that the fields describe, with another blur."""
        has_prior, used = not self.prior_rows.isHidden(), self.use_prior.value
        names = ["model", "axes", "strength", "device", *FOLDED]
        if has_prior and used:
            names += OF_PRIOR
        chosen = {name: getattr(self, name).value for name in names}
        chosen["kind"] = self.kind.value
        if blur is not None:
            chosen = self._with_blur(chosen, blur)
        volume = self.stack.options()
        if volume.get("depth") == "volume":  # the network has no part in it
            chosen = {name: chosen[name] for name in ("axes", "strength", "device")}
        chosen |= volume
        chosen["axes"] = chosen["axes"].strip() or None
        chosen["batch_size"] = chosen.get("batch_size") or None
        if has_prior and not used and chosen.get("model") == self.model.value:
            chosen["prior"] = "off"
        return with_preferences(DeblurSettings(**chosen))

    def _with_blur(self, chosen: dict[str, Any], blur: str) -> dict[str, Any]:
        """Add what is said about the blur; no model that finds the blur by itself is told one."""
        info = self._models.get(chosen["model"])
        alone = info is not None and info.card is not None and not info.card.network.known_blur
        if alone and blur not in (AUTOMATIC, UNKNOWN):
            chosen = {name: value for name, value in chosen.items() if name not in _OF_MODEL}
            chosen["model"] = AUTOMATIC_MODEL
        return chosen | {"blur": blur}

    def _show_blur(self) -> None:
        """Hide the section where the stack is restored as a volume."""
        self.blur.setHidden(self.stack.options().get("depth") == "volume")

    def refresh(self) -> None:
        """List layers and models again; a choice stays while it exists."""
        self._models = {info.name: info for info in self._list_models()}
        self.model.choices = [*self._models, FILTER_MODEL]
        self._list_images()
        self._show_model()
        self._show_image()

    def _list_images(self) -> None:
        """List the images of the user, then results; only the user chooses a result."""
        layers = self._list_layers()
        own = [(layer.name, layer) for layer in users_images(layers)]
        made = [(layer.name, layer) for layer in own_images(layers)]
        chosen = self.image.value
        # the first choice takes the place of a layer that is gone
        nothing = [] if own or chosen in layers else [("Open an image", None)]
        self.image.choices = [*nothing, *own, *made]
        self.second_view.choices = own

    def _tell(self, *_: object) -> None:
        self.changed.emit()

    def _show_image(self, *_: object) -> None:
        """Guess the axes of a newly chosen image and describe it."""
        layer = self.layer
        if layer is not self._shown_image:
            self._shown_image = layer
            self.axes.value = "" if layer is None else guess_axes(layer)
            self._show_kind()
            self._propose_model()
            self.image_chosen.emit()
        facts = "Open an image to begin." if layer is None else _describe_image(layer)
        warning = "" if layer is None else warning_for(layer)
        self.image_facts.setText(f"{warning} {facts}".strip())
        self._show_facts()
        self._show_axes()
        self._show_planes()

    def _propose_model(self) -> None:
        """Choose the model of the preferences, unless the user has chosen one."""
        if self._proposed is not None and self.model.value != self._proposed:
            return
        name = preferences().model
        if name == AUTOMATIC_MODEL:
            name = DEFAULT_MODEL
        if name not in self._models:
            name = ALIASES.get(name, name)
        if name in self.model.choices:
            self._proposed = self.model.value = name

    def _show_kind(self) -> None:
        """Say what the image is: as its file tells, as the user has said, or as of the last one."""
        layer = self.layer
        self.kind.value = None
        if layer is not None:
            known = self._answers.get(layer) or known_kind(layer)
            self.kind.value = known or self._last_answer

    def _take_answer(self) -> None:
        """Take the kind that the user has named, also for later images."""
        kind = self.kind.value
        if kind is None:
            return
        if self.layer is not None:
            self._answers[self.layer] = kind
            if known_kind(self.layer) is None:
                self._last_answer = kind
        self._show_facts()
        self.blur.follow_kind()

    def _show_axes(self, *_: object) -> None:
        """Show the axes where they are unclear: not named by the file, or wrong; else in More."""
        layer = self.layer
        unclear = False
        if layer is not None:
            labels = {str(label).strip().upper()[:1] for label in layer.axis_labels}
            unclear = not self.axes.value or (layer.ndim > 2 and not labels <= set(AXES))
        self._show_row(self._axes_row, unclear or self.more.isExpanded())

    def _show_planes(self, *_: object) -> None:
        """Offer the planes of the image; a choice stays while it is possible."""
        layer = self.layer
        shape = () if layer is None else full_resolution(layer).shape
        stack = layer is not None and prod(shape[: layer.ndim - 2]) > 1
        self._lengths = {}
        if len(self.axes.value.strip()) == len(shape):
            self._lengths = dict(zip(self.axes.value.strip().upper(), shape, strict=True))
        self.stack.show_for(layer, self.axes.value.strip().upper())
        self._show_blur()
        ranges = [text for text, axis in RANGES.items() if self._lengths.get(axis, 1) > 1]
        chosen = self.planes.value
        self.planes.choices = [ALL_PLANES, CURRENT_PLANE, *ranges]
        self.planes.enabled = stack
        self._show_row(self._planes_row, stack)
        self.planes.value = chosen if stack and chosen in self.planes.choices else ALL_PLANES
        self._show_range()

    def _show_range(self, *_: object) -> None:
        """Show the ends of a range; a new range holds all planes of its axis."""
        axis = RANGES.get(self.planes.value)
        self._range.setVisible(axis is not None)
        end = 0 if axis is None else int(self._lengths[axis]) - 1
        if axis is not None and (axis, end) != self._range_over:
            self._range_over = axis, end
            for field, value in ((self.first_plane, 0), (self.last_plane, end)):
                field.max = end
                field.value = value

    def _show_facts(self, *_: object) -> None:
        """Describe the model."""
        info = self._models.get(self.model.value)
        alone = "Undoes the blur by a filter, without a network."
        self.model_facts.setText(alone if info is None else _describe_model(info))
        self.show_card.setEnabled(info is not None)
        self.kind.describe(info)
        if self.stack.options().get("depth") == "volume":
            self.kind.describe_volume()
        self.kind.setEnabled(self.layer is not None)

    def _show_model(self, *_: object) -> None:
        """Take the tiles and the prior of a newly chosen model, and describe the model."""
        info = self._models.get(self.model.value)
        self._show_facts()
        self._show_second_view(self.second_view_name())
        if info is None:
            self.prior_rows.hide()
            self._shown_model = None
        if info is None or info.card is None or info == self._shown_model:
            return
        self._shown_model = info
        prior = info.card.prior
        self.prior_rows.setVisible(prior is not None)
        if prior is not None:
            self.num_inference_steps.max = prior.start - 1
            self.num_inference_steps.value = prior.num_inference_steps
        self.use_prior.value, self.samples.value, self.uncertainty.value = True, 1, False
        self.blend.value = info.card.blend
        if self.preset.value == CUSTOM:
            self.preset.value = "balanced"
        self._use_preset()

    def _enable_prior(self, used: bool) -> None:
        for field in self.fields(*OF_PRIOR):
            field.enabled = used

    def _preset_values(self, preset: Preset) -> tuple[int, ...]:
        """Return the values of the fields in `_OF_PRESET` for the chosen model."""
        card = None if self._shown_model is None else self._shown_model.card
        chosen = complete(DeblurSettings(preset=preset), card)
        values = (getattr(chosen, name) for name in _OF_PRESET)
        return tuple(1 if value is None else value for value in values)

    def _use_preset(self, *_: object) -> None:
        """Fill in the values of the chosen preset."""
        preset = self.preset.value
        if preset == CUSTOM or self._shown_model is None:
            return
        for field, value in zip(self.fields(*_OF_PRESET), self._preset_values(preset), strict=True):
            with field.changed.blocked():
                field.value = value
        self._use_preset_or_samples()
        self._tell()

    def _use_preset_or_samples(self, *_: object) -> None:
        """Take as many samples as uncertainty needs; without it, those of the preset again."""
        if self.uncertainty.value and self.samples.value < 2:
            self.samples.value = SAMPLES_FOR_UNCERTAINTY
            self._raised_samples = True
        elif not self.uncertainty.value and self._raised_samples:
            self._raised_samples = False
            self.samples.value = 1

    def _show_preset(self, *_: object) -> None:
        """Name the preset that has the values of the fields, or Custom."""
        if self._shown_model is None:
            return
        values = tuple(field.value for field in self.fields(*_OF_PRESET))
        fitting = (p for p in get_args(Preset) if self._preset_values(p) == values)
        with self.preset.changed.blocked():
            self.preset.value = next(fitting, CUSTOM)


def _describe_image(layer: Image) -> str:
    data = full_resolution(layer)
    size = " × ".join(str(n) for n in (data.shape[:-1] if layer.rgb else data.shape))
    colours = {3: "RGB", 4: "RGBA"}.get(data.shape[-1], "RGB") if layer.rgb else ""
    return ", ".join(part for part in (size, colours, str(data.dtype)) if part)


def _describe_model(info: ModelInfo) -> str:
    if info.card is None:
        return info.problem or ""
    return info.card.title or info.card.summary
