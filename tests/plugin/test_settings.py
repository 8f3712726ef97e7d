"""The Settings panel and the page in napari's Preferences."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import napari.settings
import pytest
import yaml
from napari.components import ViewerModel

import napari_swintormer
from napari_swintormer.plugin.settings.settings_page import preferences_page
from napari_swintormer.plugin.settings.settings_widget import SettingsWidget
from napari_swintormer.settings.deblur_settings import Precision
from napari_swintormer.settings.options import options_of
from napari_swintormer.settings.preferences import Preferences, change_preferences, preferences

pytestmark = pytest.mark.gui


@pytest.fixture
def page(request, npe2pm):
    from npe2 import PluginManifest

    if not hasattr(napari.settings, "get_plugin_settings"):
        pytest.skip("napari before 0.9 has no pages of plugins in its Preferences")
    request.getfixturevalue("plugin_settings")
    npe2pm.register(PluginManifest.from_distribution("napari-swintormer"))
    return preferences_page()


def test_the_page_has_the_words_and_limits_of_the_preferences(page):
    manifest = yaml.safe_load((Path(napari_swintormer.__file__).parent / "napari.yaml").read_text())
    rows = manifest["contributions"]["configurations"]["settings"]["properties"]
    for name, option in options_of(Preferences).items():
        assert rows[name]["title"] == option.label
        assert rows[name]["description"] == option.help
        assert getattr(page, name) == rows[name]["default"] == option.default
        assert (rows[name].get("minimum"), rows[name].get("maximum")) == (option.low, option.high)
    assert set(rows["precision"]["enum"]) == set(get_args(Precision))
    for precision in get_args(Precision):
        page.precision = precision


def test_panel_page_and_file_agree(page, model, qtbot):
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


def test_the_deblur_panel_uses_the_settings(model, deblur_alone, tmp_path):
    change_preferences(precision="bf16")
    form = deblur_alone.form
    form.precision.value = "auto"
    assert form.settings().precision == "bf16"
    form.precision.value = "fp32"
    assert form.settings().precision == "fp32"
