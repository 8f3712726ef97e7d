"""The manifest: its copy, its commands, its menus and its samples."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import yaml
from napari._app_model import get_app_model
from npe2 import PluginManifest

import napari_swintormer
from helpers.widgets import docks_of
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur.deblur_form import DeblurForm
from napari_swintormer.sample import sample_images
from napari_swintormer.settings.deblur_settings import Blend, DeblurSettings, Precision

PLUGIN = "napari-swintormer"
MANIFEST = Path(napari_swintormer.__file__).parent / "napari.yaml"


def test_the_manifest_is_valid_and_equals_its_copy():
    PluginManifest.from_file(MANIFEST)
    top = Path(__file__).parents[2] / "napari.yaml"
    assert top.read_bytes() == MANIFEST.read_bytes()


def test_every_command_leads_to_a_callable():
    commands = yaml.safe_load(MANIFEST.read_text())["contributions"]["commands"]
    for command in commands:
        module, name = command["python_name"].split(":")
        assert callable(getattr(import_module(module), name))


def test_the_deblur_form_has_the_defaults_and_choices_of_the_settings(qtbot, model):
    form = DeblurForm(lambda: [], list_models)
    qtbot.addWidget(form)
    card = list_models()[0].card
    assert form.settings() == DeblurSettings(
        model="swintormer", tile_size=card.tile_size, overlap=card.overlap, blend=card.blend
    )
    assert set(form.blend.choices) == set(get_args(Blend))
    assert set(form.precision.choices) == set(get_args(Precision))


@pytest.mark.gui
def test_the_menus_open_the_deblur_panel_and_every_sample(viewer, model):
    def entries(menu):
        return {getattr(i, "command", i).title: i for i in get_app_model().menus.get_menu(menu)}

    for menu in ("napari/plugins", "napari/layers/filter"):
        entry = entries(entries(menu)["Swintormer"].submenu)["Deblur"]
    get_app_model().commands.execute_command(entry.command.id).result()
    (widget,) = docks_of(viewer).values()
    for key in ("circuit-board", "shaken-board", "actin", "algae", "nuclei-stack", "mitochondria"):
        for layer in viewer.open_sample(PLUGIN, key):
            sample = next(sample for sample in sample_images() if sample.name == layer.name)
            with open_image(sample.path) as image:
                np.testing.assert_array_equal(layer.data, image.data[...])
        assert widget.form.layer in viewer.layers
    assert len(viewer.layers) == len(sample_images())
