"""An option is spelled once: API, command line and form have the same names and defaults."""

from __future__ import annotations

import dataclasses
import inspect
import typing

import pytest

from napari_swintormer import deblur
from napari_swintormer.api import deblur_file
from napari_swintormer.cli import app
from napari_swintormer.settings.deblur_settings import DeblurOptions, DeblurSettings
from napari_swintormer.settings.options import options_of

DEFAULTS = {field.name: field.default for field in dataclasses.fields(DeblurSettings)}


def parameters(function) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def command(name: str):
    return next(c.callback for c in app.registered_commands if c.callback.__name__ == name)


def test_every_field_is_an_option_with_help():
    options = options_of(DeblurSettings)
    assert list(options) == list(DEFAULTS)
    for option in options.values():
        assert option.help.endswith(".")
        assert not option.details or option.details.endswith(".")


@pytest.mark.parametrize("function", [deblur, deblur_file, command("deblur")])
def test_api_and_command_line_have_the_names_and_defaults_of_the_settings(function):
    given = parameters(function)
    assert {name: given[name].default for name in DEFAULTS} == DEFAULTS
    assert not any(p.kind is p.VAR_KEYWORD for p in given.values())


def test_the_types_for_type_checkers_are_those_of_the_settings():
    types = typing.get_type_hints(DeblurSettings)
    assert types.pop("model") == str | None  # the API takes a restorer, too
    assert typing.get_type_hints(DeblurOptions) == types


def test_help_of_the_api_explains_every_option():
    for function in (deblur, deblur_file):
        text = " ".join(function.__doc__.split())
        for option in options_of(DeblurSettings).values():
            assert option.name == "model" or f"{option.name} {option.text}" in text


def test_an_unknown_option_is_a_type_error():
    with pytest.raises(TypeError, match="tile_sise"):
        deblur([[1.0]], tile_sise=64)


def test_the_form_has_a_row_for_every_option(qtbot):
    from qtpy.QtWidgets import QLabel

    from napari_swintormer.models.catalogue import list_models
    from napari_swintormer.plugin.deblur.deblur_form import DeblurForm

    form = DeblurForm(list, list_models)
    qtbot.addWidget(form)
    qtbot.addWidget(form.more)
    rows = {label.text() for part in (form, form.more) for label in part.findChildren(QLabel)}
    assert {o.label for o in options_of(DeblurSettings).values() if o.label} <= rows
    chosen = dataclasses.asdict(form.settings())
    # the form shows the values of the model
    of_model = {"model", "tile_size", "overlap", "blend", "num_inference_steps", "samples"}
    free = DEFAULTS.keys() - of_model
    assert {name: chosen[name] for name in free} == {name: DEFAULTS[name] for name in free}
