"""The Models widget: the catalogue, and adding to it."""

from __future__ import annotations

import pytest
from napari.components import ViewerModel

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
