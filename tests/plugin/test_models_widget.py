"""The Models panel lists models and adds, exports, renames and deletes them."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from napari.components import ViewerModel
from qtpy.QtCore import QMimeData, QPointF, Qt, QUrl
from qtpy.QtGui import QDropEvent
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from helpers.tiny import FINDING_NETWORK
from helpers.widgets import docks_of
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.models.model_card import ModelCardView
from napari_swintormer.plugin.models.models_widget import ModelsWidget

pytestmark = pytest.mark.gui
PATIENCE = 60_000


@pytest.fixture
def widget(model, qtbot):
    widget = ModelsWidget(ViewerModel())
    qtbot.addWidget(widget)
    return widget


def names(widget):
    return [widget.list.item(row).text() for row in range(widget.list.count())]


def test_an_added_model_appears_in_the_deblur_panel(widget, deblur_alone, qtbot, make_weights):
    widget.add_model(make_weights("brand-new", title="New <b>and</b> better"))
    qtbot.waitUntil(widget.add.isEnabled, timeout=PATIENCE)
    assert widget.message.text() == "Added brand-new."
    assert "brand-new" in names(widget)
    assert (
        widget.card.title.text() == "New <b>and</b> better"
    )  # text of a stranger's file, no markup
    deblur_alone.form.refresh()
    deblur_alone.form.model.value = "brand-new"
    assert deblur_alone.form.model_facts.text() == "New <b>and</b> better"
    assert deblur_alone.form.tile_size.value == 64


def test_a_file_that_is_no_model_is_refused(widget, qtbot, tmp_path):
    before = names(widget)
    (tmp_path / "broken.safetensors").write_bytes(b"no weights at all")
    widget.add_model(tmp_path / "broken.safetensors")
    qtbot.waitUntil(widget.add.isEnabled, timeout=PATIENCE)
    assert "broken.safetensors" in widget.message.text()
    assert names(widget) == before


def test_the_card_of_a_damaged_file_shows_the_problem(widget, home):
    (home / "models" / "torn.safetensors").write_bytes(b"\x10")
    widget.refresh("torn")
    assert "torn.safetensors" in widget.card.summary.text()
    assert widget.card.summary.property("role") == "error"


def test_a_model_of_the_user_is_renamed_exported_and_deleted(
    widget, home, model, qtbot, tmp_path, tiny_weights, monkeypatch
):
    own, buttons = home / "models" / "mine.safetensors", QMessageBox.StandardButton
    shutil.copy(model, own)
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


def test_a_file_with_a_taken_name_is_added_under_a_free_one(widget, qtbot, make_weights):
    widget.add_model(make_weights("swintormer", title="Mine"))
    qtbot.waitUntil(widget.add.isEnabled, timeout=PATIENCE)
    added = "Added swintormer-2. There is a model swintormer already."
    assert widget.message.text() == added
    assert [info.source for info in list_models()] == ["built-in", "user"]
    assert widget.info.name == "swintormer-2"


def test_built_in_models_cannot_be_renamed_or_deleted(widget):
    (info,) = list_models()
    assert info.source == "built-in"
    assert not widget.rename.isEnabled()
    assert not widget.delete.isEnabled()
    assert widget.export.isEnabled()


def drop(widget, *files):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(file)) for file in files])
    action, button = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton
    no_key = Qt.KeyboardModifier.NoModifier
    widget.dropEvent(QDropEvent(QPointF(5, 5), action, data, button, no_key))


def test_weights_dropped_on_the_deblur_panel_become_models(viewer, deblur, qtbot, make_weights):
    drop(deblur.widget, make_weights("dropped"))
    models = next(w for n, w in docks_of(viewer).items() if n.startswith("Models ("))
    qtbot.waitUntil(lambda: "dropped" in names(models), timeout=PATIENCE)
    deblur.form.refresh()
    assert "dropped" in deblur.form.model.choices


def test_dropped_weights_become_models(widget, qtbot, make_weights, tmp_path):
    (tmp_path / "notes.txt").write_text("no weights")
    drop(widget, make_weights("first"), tmp_path / "notes.txt", make_weights("second"))
    qtbot.waitUntil(lambda: {"first", "second"} <= set(names(widget)), timeout=PATIENCE)
    assert "notes" not in names(widget)


def test_a_card_shows_an_example_before_and_after(widget, qtbot, model):
    with qtbot.waitSignal(widget.card.drawn, timeout=PATIENCE):
        widget.card.show_example.click()
    drawn = widget.card.example.pixmap().toImage()
    assert drawn.width() == 2 * 150 + 6
    left, right = (drawn.copy(x, 0, 150, 150) for x in (0, 156))
    assert left != right
    widget.refresh()
    assert not widget.card.example.pixmap().isNull()  # made once
    again = ModelCardView()
    qtbot.addWidget(again)
    again.show_model(widget.info)
    assert again.example.pixmap().toImage() == drawn  # also for the next session
    shown = rows(widget.card.facts)
    assert "on this computer" in shown["Speed"]  # measured by the example
    assert not widget.card.folded.isExpanded()
    assert {"Tiles", "File"} <= set(rows(widget.card.details))


def rows(form):
    """Return the texts of a form by the names of its rows."""
    roles = form.ItemRole.LabelRole, form.ItemRole.FieldRole
    return dict(
        [form.itemAt(row, role).widget().text() for role in roles] for row in range(form.rowCount())
    )


def test_a_card_says_what_a_model_is_for(qtbot, home, make_weights):
    """The figures of a card tell what the model is not for, beside those of the best model."""
    (home / "models").mkdir(parents=True)
    figures = [f"PSNR gain in the set {name}, dB" for name in ("microscopy", "photo-motion")]
    for name, gains in {"lens": (-0.5, 0.1), "shake": (0.5, 3.0)}.items():
        metrics = dict(zip(figures, gains, strict=True))
        summary = f"Good for {name} images. Trained on much."
        shutil.copy(make_weights(name, metrics=metrics, summary=summary), home / "models")
    told = FINDING_NETWORK.model_copy(update={"deconvolution": None})
    shutil.copy(make_weights("told", network=told), home / "models")
    card = ModelCardView()
    qtbot.addWidget(card)
    shown = {}
    for info in list_models():
        card.show_model(info)
        shown[info.name] = rows(card.facts)
        assert shown[info.name]["Speed"] == "The first run measures it."
    not_for = "Photos with camera shake gain little, and microscopy images can get worse."
    assert shown["lens"]["Good for"] == "Good for lens images."
    assert shown["lens"]["Not for"] == not_for
    assert shown["told"]["Not for"].startswith("Images whose blur nobody tells")


def test_the_kind_of_an_image_is_asked_once_and_the_model_stays(deblur_alone, home, make_weights):
    shutil.copy(make_weights("mine", summary="Good for lenses. Trained on much."), home / "models")
    viewer, form = deblur_alone.viewer, deblur_alone.form
    form.refresh()
    assert set(form.model.choices) == {"mine", "swintormer", "filter"}
    photo = viewer.add_image(np.zeros((40, 40, 3), np.uint8), rgb=True)
    assert (form.kind.value, form.model.value) == (None, "swintormer")
    assert form.kind.sentence.text().startswith("Photo or microscopy?")
    form.kind.photo.click()
    form.model.value = "mine"
    assert form.kind.sentence.text() == "Good for lenses."
    assert (form.settings().kind, form.settings().model) == ("photo", "mine")

    grey = viewer.add_image(np.zeros((40, 40), np.uint16))  # known without a question
    form.image.value = grey
    assert (form.kind.value, form.settings().kind) == ("microscopy", "microscopy")
    stained = viewer.add_image(np.zeros((40, 40, 3), np.uint8), rgb=True, units=("um", "um"))
    form.image.value = stained
    assert form.kind.value == "microscopy"
    other = viewer.add_image(np.zeros((40, 40, 3), np.uint8), rgb=True)
    form.image.value = other  # not asked again
    assert (form.kind.value, form.model.value) == ("photo", "mine")
    form.image.value = photo
    assert form.kind.value == "photo"
    form.model.value = "filter"
    assert form.kind.sentence.text() == "A filter undoes the blur, without a model."
    assert not form.show_card.isEnabled()


@pytest.mark.parametrize("answer", ["Yes", "No"])
def test_a_program_is_added_only_if_the_user_trusts_it(
    widget, qtbot, tmp_path, monkeypatch, answer
):
    class Half(torch.nn.Module):
        def forward(self, x):
            return 0.5 * x

    program = torch.export.export(Half(), (torch.rand(1, 3, 256, 256),))
    torch.export.save(program, tmp_path / "half.pt2")
    asked = []

    def question(parent, title, text, *buttons):
        asked.append(text)
        return getattr(QMessageBox.StandardButton, answer)

    monkeypatch.setattr(QMessageBox, "question", question)
    widget.add_model(tmp_path / "half.pt2")
    qtbot.waitUntil(widget.add.isEnabled, timeout=PATIENCE)
    assert "half.pt2" in asked[0]
    assert "runs its code" in asked[0]
    assert ("half" in names(widget)) == (answer == "Yes")
