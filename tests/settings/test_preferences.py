"""Preferences are kept, checked, and used by the command line."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from napari_swintormer.cli import app
from napari_swintormer.errors import SettingsError
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.settings.preferences import (
    Preferences,
    cache_folder,
    change_preferences,
    preferences,
    preferences_file,
    with_preferences,
)


def test_preferences_are_kept_and_replace_automatic_settings(home, tmp_path):
    assert preferences() == Preferences()
    change_preferences(device="cpu", memory_share="0.5", cache_folder=str(tmp_path))
    assert preferences() == Preferences(device="cpu", memory_share=0.5, cache_folder=str(tmp_path))
    assert cache_folder() == tmp_path
    assert with_preferences(DeblurSettings()).device == "cpu"
    assert with_preferences(DeblurSettings(device="cuda:1")).device == "cuda:1"
    preferences_file().write_text('{"device": 7, "model": "mine", "unknown": 1}')
    assert preferences() == Preferences(model="mine")
    preferences_file().write_text("no JSON")
    assert preferences() == Preferences()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"colour": "red"}, "no setting 'colour'"),
        ({"memory_share": "2"}, "Use a number from 0.1 to 0.95"),
        ({"memory_share": "half"}, "Use a number from 0.1 to 0.95"),
        ({"precision": "fp8"}, "Use one of 'auto', 'fp32'"),
        ({"cache_folder": "/no/such/folder"}, "no folder /no/such/folder"),
    ],
)
def test_impossible_preferences_are_refused_and_not_written(change, sentence):
    with pytest.raises(SettingsError, match=sentence):
        change_preferences(**change)
    assert not preferences_file().exists()


def test_the_command_line_changes_and_shows_preferences():
    done = CliRunner().invoke(app, ["settings", "precision=fp32", "model=other"])
    assert done.exit_code == 0
    assert preferences() == Preferences(model="other", precision="fp32")
    assert "memory_share   0.85" in CliRunner().invoke(app, ["settings"]).output
    wrong = CliRunner().invoke(app, ["settings", "precision"])
    assert wrong.exit_code == 2
    assert "name=value (got 'precision')" in wrong.output
