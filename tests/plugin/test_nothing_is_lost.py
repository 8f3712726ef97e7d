"""Whatever is pressed, in any order: layers, files and models of the user stay as they are."""

from __future__ import annotations

import random

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from helpers.widgets import PATIENCE, noise
from napari_swintormer.errors import SwintormerError
from napari_swintormer.plugin.layers.made_layers import kind_of
from napari_swintormer.plugin.models.models_widget import ModelsWidget
from napari_swintormer.plugin.train.train_form import TrainForm
from napari_swintormer.settings.preferences import models_folder

pytestmark = pytest.mark.gui


class Person:
    """Presses what the panels offer, and knows what is theirs."""

    def __init__(self, deblur, folder, qtbot, weights):
        self.deblur, self.folder, self.qtbot, self.weights = deblur, folder, qtbot, weights
        self.viewer, self.widget = deblur.viewer, deblur.widget
        self.models = ModelsWidget(self.viewer)
        self.training = TrainForm(lambda: list(self.viewer.layers), lambda: [])
        for each in (self.models, self.training):
            qtbot.addWidget(each)
        self.images = [
            self.viewer.add_image(noise(40, 50), name="cells"),
            self.viewer.add_image(noise(40, 50) + 1, name="cells · swintormer"),
            self.viewer.add_labels(np.ones((40, 50), int), name="marks"),
        ]
        self.images[1].visible = False
        tifffile.imwrite(folder / "kept.tif", noise(8, 9))
        (models_folder() / "mine.safetensors").write_bytes(weights.read_bytes())
        self.files = [folder / "kept.tif", models_folder() / "mine.safetensors"]
        self.asked = []

    def belongings(self):
        """Everything of the person, as it is now."""
        comparing = self.widget.compare.before.isChecked()
        layers = [
            (image in self.viewer.layers, image.name, image.visible or comparing)
            for image in self.images
        ]
        pixels = [np.asarray(image.data).tobytes() for image in self.images]
        return layers, pixels, [file.read_bytes() for file in self.files]

    def choose_an_image(self):
        self.widget.form.image.value = self.images[len(self.viewer.layers) % 2]

    def preview(self):
        self.deblur.preview()

    def run(self):
        self.deblur.run()

    def strength(self):
        self.widget.form.strength.value = 1.5 - self.widget.form.strength.value / 2

    def before(self):
        if self.widget.compare.before.isEnabled():
            self.widget.compare.before.click()

    def difference(self):
        self.widget.compare.add_difference()

    def residual(self):
        if self.widget.compare.layer is not None and not self.widget.compare.residual_work.running:
            with self.qtbot.waitSignal(self.widget.compare.residual_work.ended, timeout=PATIENCE):
                self.widget.compare.residual.click()

    def remove_what_was_made(self):
        made = [layer for layer in self.viewer.layers if kind_of(layer) is not None]
        if made:
            self.viewer.layers.remove(made[0])

    def save_over_a_file(self):
        self.answer = str(self.files[0].with_suffix("")), "TIFF (*.tif)"  # the suffix is added
        if self.widget.saving.save.isEnabled():
            with self.qtbot.waitSignal(self.widget.saving.work.ended, timeout=PATIENCE):
                self.widget.saving.save.click()

    def run_into_a_file_that_exists(self):
        self.widget.form.save_to.value = str(self.files[0])
        with pytest.raises(SwintormerError, match="exists already"):
            self.widget.run()
        self.widget.form.save_to.value = ""

    def add_a_model_of_the_same_name(self):
        with self.qtbot.waitSignal(self.models.work.ended, timeout=PATIENCE):
            self.models.add_model(self.weights)

    def delete_a_model(self):
        self.models.refresh("mine")
        asked = len(self.asked)
        self.models.delete.click()
        assert len(self.asked) == asked + 1

    def rename_a_model_to_another(self):
        self.models.refresh("mine-2")
        if self.models.rename.isEnabled():
            self.models.rename.click()

    def train_a_model_of_the_same_name(self):
        self.training.name.value = "mine"
        with pytest.raises(SwintormerError, match="mine"):
            self.training.settings()


ACTIONS = [
    action for name, action in vars(Person).items() if name[0] != "_" and name != "belongings"
]


@pytest.mark.parametrize("seed", range(2))
def test_nothing_of_the_user_is_replaced_or_hidden(
    deblur_alone, make_weights, tmp_path, qtbot, monkeypatch, seed
):
    (tmp_path / "new").mkdir()
    weights = make_weights("mine").rename(tmp_path / "new" / "mine.safetensors")
    person = Person(deblur_alone, tmp_path, qtbot, weights)
    no = QMessageBox.StandardButton.No

    def ask(*question):
        person.asked.append(question)
        return no

    monkeypatch.setattr(QMessageBox, "question", ask)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: person.answer)
    monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("mine", True))
    before = person.belongings()
    actions = ACTIONS * 2
    random.Random(seed).shuffle(actions)
    done = []
    for action in actions:
        action(person)
        done.append(action.__name__)
        assert person.belongings()[1:] == before[1:], done
        if not person.widget.compare.before.isChecked():
            assert person.belongings()[0] == before[0], done
    if person.widget.compare.before.isChecked():
        person.widget.compare.before.click()
    assert person.belongings() == before
