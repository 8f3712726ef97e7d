"""The Models widget: the catalogue, and adding to it."""

from __future__ import annotations

import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_swintormer.models.catalogue import BUILT_IN_FOLDER, list_models
from napari_swintormer.plugin.models_widget import ModelsWidget

pytestmark = pytest.mark.gui
PATIENCE = 60_000


@pytest.fixture
def widget(model, qtbot):
    widget = ModelsWidget(ViewerModel())
    qtbot.addWidget(widget)
    return widget


def names(widget):
    return [widget.list.item(row).text() for row in range(widget.list.count())]


def test_a_model_is_added_checked_and_offered_by_the_deblur_widget(
    widget, deblur_alone, qtbot, make_weights
):
    widget.add_model(make_weights("brand-new", title="New <b>and</b> better"))
    qtbot.waitUntil(widget.add.isEnabled, timeout=PATIENCE)
    assert widget.message.text() == "Added brand-new."
    assert "brand-new" in names(widget)
    assert widget.title.text() == "New <b>and</b> better"  # text of a stranger's file, no markup
    deblur_alone.form.refresh()
    deblur_alone.form.model.value = "brand-new"
    assert deblur_alone.form.model_facts.text() == "New <b>and</b> better"
    assert deblur_alone.form.tile_size.value == 64


def test_a_file_that_is_no_model_is_refused_with_a_sentence(widget, qtbot, tmp_path):
    before = names(widget)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights at all")
    widget.add_model(tmp_path / "broken.safetensors")
    qtbot.waitUntil(widget.add.isEnabled, timeout=PATIENCE)
    assert "broken.safetensors" in widget.message.text()
    assert names(widget) == before


def test_a_damaged_file_in_the_folder_says_what_is_wrong(widget, home):
    (home / "models" / "torn.safetensors").write_bytes(b"\x10")
    widget.refresh("torn")
    assert "torn.safetensors" in widget.summary.text()
    assert widget.summary.property("role") == "error"


def test_an_own_model_is_renamed_exported_and_deleted_when_meant(
    widget, home, model, qtbot, tmp_path, tiny_weights, monkeypatch
):
    own, buttons = home / "models" / "mine.safetensors", QMessageBox.StandardButton
    model.rename(own)
    widget.refresh("mine")
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("not/a name", True))
    widget.rename.click()
    assert "cannot be called 'not/a name'" in widget.message.text()
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("liver", True))
    widget.rename.click()
    assert widget.list.currentItem().text() == "liver"
    assert not own.exists()

    target = tmp_path / "gift.safetensors"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(tmp_path / "gift"), ""))
    widget.export.click()
    qtbot.waitUntil(widget.add.isEnabled, timeout=PATIENCE)
    assert widget.message.text() == f"Written to {target}."
    assert target.read_bytes() == tiny_weights.read_bytes()

    monkeypatch.setattr(QMessageBox, "question", lambda *_: buttons.No)
    widget.delete.click()
    assert "liver" in names(widget)
    monkeypatch.setattr(QMessageBox, "question", lambda *_: buttons.Yes)
    widget.delete.click()
    assert "liver" not in names(widget)
    assert not own.with_name("liver.safetensors").exists()


def test_built_in_models_offer_neither_renaming_nor_deleting(widget, model):
    assert widget.delete.isEnabled()  # the user's model hides the built-in one of its name
    model.unlink()
    widget.refresh()
    (info,) = list_models()
    assert info.path.parent == BUILT_IN_FOLDER
    assert not widget.rename.isEnabled()
    assert not widget.delete.isEnabled()
    assert widget.export.isEnabled()
