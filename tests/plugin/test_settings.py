"""The Settings widget and napari's own page of Preferences."""

from __future__ import annotations

from dataclasses import asdict
from typing import get_args

import pytest
from napari.components import ViewerModel

from napari_swintormer.plugin.settings.settings_page import preferences_page
from napari_swintormer.plugin.settings.settings_widget import SettingsWidget
from napari_swintormer.settings.deblur_settings import Precision
from napari_swintormer.settings.preferences import Preferences, change_preferences, preferences

pytestmark = pytest.mark.gui


@pytest.fixture
def page(plugin_settings, npe2pm):
    from npe2 import PluginManifest

    npe2pm.register(PluginManifest.from_distribution("napari-swintormer"))
    return preferences_page()


def test_the_page_has_the_settings_with_their_defaults_and_choices(page):
    shown = {name: getattr(page, name) for name in asdict(Preferences())}
    assert shown == asdict(Preferences())
    for precision in get_args(Precision):
        page.precision = precision


def test_widget_page_and_file_are_one(page, model, qtbot):
    page.device = "cpu"  # before any widget of ours is open
    change_preferences(precision="fp32")  # on the command line

    widget = SettingsWidget(ViewerModel())
    qtbot.addWidget(widget)

    assert (preferences().device, page.precision) == ("cpu", "fp32")
    assert (widget.device.value, widget.precision.value) == ("cpu", "fp32")
    page.memory_share = 0.5
    assert preferences().memory_share == 0.5
    assert widget.memory_share.value == 50
    widget.precision.value = "bf16"
    assert preferences().precision == page.precision == "bf16"
    page.cache_folder = "/no/such/folder"
    assert page.cache_folder == preferences().cache_folder == ""
    assert "no folder /no/such/folder" in widget.message.text()


def test_the_deblur_widget_takes_the_settings(model, deblur_alone, tmp_path):
    change_preferences(precision="bf16")
    form = deblur_alone.form
    form.precision.value = "auto"
    assert form.settings().precision == "bf16"
    form.precision.value = "fp32"
    assert form.settings().precision == "fp32"
