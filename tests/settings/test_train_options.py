"""An option of a training is spelled once: keywords, flags and form follow from it."""

from __future__ import annotations

import dataclasses
import inspect
import typing

from napari_swintormer import train
from napari_swintormer.cli import app
from napari_swintormer.settings.options import options_of
from napari_swintormer.training.data.pairs import ImagePair
from napari_swintormer.training.train_settings import TrainOptions, TrainSettings

OPTIONS = options_of(TrainSettings)
IMAGES = {"sharp", "blurred", "annotations"}  # the API takes arrays, too
# and these in more types
WIDER = {"out", "dual_pixel", "kinds", "vgg19", "network", "prior", "prior_cache"}
NO_TEXT = {"network", "deconvolution", "prior", "training_data"}  # a command line has no such types


def defaults(function) -> dict[str, object]:
    return {name: p.default for name, p in inspect.signature(function).parameters.items()}


def test_every_field_is_an_option_with_help():
    fields = {field.name for field in dataclasses.fields(TrainSettings)}
    assert OPTIONS.keys() == fields - {"pairs"}
    for option in OPTIONS.values():
        assert option.help.endswith(".")
        assert not option.details or option.details.endswith(".")


def test_the_api_has_the_options_with_their_defaults():
    given = defaults(train)
    named = OPTIONS.keys() - IMAGES - WIDER
    assert {name: given[name] for name in named} == {name: OPTIONS[name].default for name in named}
    assert given.keys() - named == IMAGES | WIDER - {"kinds"} | {"kind", "axes", "progress"}
    text = " ".join(train.__doc__.split())
    assert all(f"{name} {OPTIONS[name].text}" in text for name in named)


def test_the_types_for_type_checkers_are_those_of_the_settings():
    types = typing.get_type_hints(TrainSettings, localns={"ImagePair": ImagePair})
    given = typing.get_type_hints(TrainOptions)
    assert given == {name: types[name] for name in given}
    assert given.keys() == OPTIONS.keys() - IMAGES - WIDER


def test_the_command_line_has_the_options_with_their_defaults():
    callbacks = {command.callback.__name__: command.callback for command in app.registered_commands}
    given = defaults(callbacks["train"])
    named = OPTIONS.keys() - NO_TEXT - {"out"}
    as_list = {name: OPTIONS[name].default for name in named}
    as_list = {k: list(v) if isinstance(v, tuple) else v for k, v in as_list.items()}
    assert {name: given[name] for name in named} == as_list
    assert given.keys() == OPTIONS.keys() - NO_TEXT | {"network", "prior"}


def test_the_form_has_the_words_and_defaults_of_the_options(qtbot):
    from napari_swintormer.models.catalogue import list_models
    from napari_swintormer.plugin.train.train_form import TrainForm

    form = TrainForm(list, list_models)
    qtbot.addWidget(form)
    shown = {name for name, option in OPTIONS.items() if option.label} - {"from_model", "precision"}
    by_preset = {"steps", "learning_rate"}
    for name in shown:
        field = getattr(form, name)
        assert field.label == OPTIONS[name].label
        assert OPTIONS[name].tooltip() in field.tooltip
        assert name in by_preset or field.value == OPTIONS[name].default
