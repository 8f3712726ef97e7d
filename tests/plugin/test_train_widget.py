"""The Train widget in a real viewer, from pairs to a model that every list has."""

from __future__ import annotations

import dataclasses
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from napari.components import ViewerModel
from scipy import ndimage
from typer.testing import CliRunner

from napari_swintormer import list_models, load_model, train
from napari_swintormer.cli import app
from napari_swintormer.events import Progress
from napari_swintormer.models.swintormer import Swintormer
from napari_swintormer.models.weights import load_weights
from napari_swintormer.plugin.train_sources import FOLDERS, SHARP_ONLY
from napari_swintormer.plugin.train_widget import TrainWidget
from napari_swintormer.plugin.train_worker import TrainWorker
from napari_swintormer.training.checkpoint import load_checkpoint
from napari_swintormer.training.settings import PRESETS
from napari_swintormer.training.train import iter_train

pytestmark = pytest.mark.gui
PATIENCE = 120_000  # milliseconds: only a run that hangs takes so long


def stacks(planes=4, shape=(70, 80)):
    """A blurred and a sharp stack of the same structure."""
    sharp = np.stack(
        [
            ndimage.gaussian_filter(np.random.default_rng(k).standard_normal(shape), 1)
            for k in range(planes)
        ]
    )
    sharp = 20000 + 8000 * sharp
    blurred = ndimage.gaussian_filter(sharp, (0, 1.5, 1.5))
    return blurred.astype(np.uint16), sharp.astype(np.uint16)


@pytest.fixture
def folders(tmp_path):
    """Two folders of four images each."""
    made = tmp_path / "blurred", tmp_path / "sharp"
    for folder, stack in zip(made, stacks(), strict=True):
        folder.mkdir()
        for k, plane in enumerate(stack):
            tifffile.imwrite(folder / f"{'abcd'[k]}.tif", plane)
    return made


def drive(widget, viewer, qtbot):
    form = widget.form
    form.name.value = "mine"
    form.device.value = "cpu"
    form.steps.value, form.batch_size.value, form.patch_size.value = 6, 2, 32

    def run():
        with qtbot.waitSignal(widget.finished, timeout=PATIENCE) as blocker:
            widget.run()
        return blocker.args[0]

    def check():
        with qtbot.waitSignal(widget.checked, timeout=PATIENCE) as blocker:
            widget.check()
        return blocker.args[0]

    def stop_after(steps):
        report, there = TrainWorker._report, threading.Event()

        def held(worker, event):  # no step more until the training is stopped
            report(worker, event)
            if isinstance(event, Progress) and event.done >= steps:
                there.set()
                while not worker.abort_requested:
                    time.sleep(0.005)

        with (
            pytest.MonkeyPatch.context() as patch,
            qtbot.waitSignal(widget.finished, timeout=PATIENCE) as blocker,
        ):
            patch.setattr(TrainWorker, "_report", held)
            widget.run()
            qtbot.waitUntil(there.is_set, timeout=PATIENCE)
            widget.stop()
        return blocker.args[0]

    yield SimpleNamespace(
        viewer=viewer, widget=widget, form=form, run=run, check=check, stop_after=stop_after
    )
    if (worker := widget._worker) is not None:
        worker.quit()
        qtbot.waitUntil(lambda: not worker.is_running, timeout=PATIENCE)


@pytest.fixture(autouse=True)
def _validate_often(monkeypatch):
    monkeypatch.setitem(PRESETS["quick"], "validate_every", 2)
    monkeypatch.setattr("napari_swintormer.training.validation._PATCHES", 6)
    # every step is reported, however quick it was
    monkeypatch.setattr("napari_swintormer.plugin.train_worker._REPORT_EVERY", 0.0)


@pytest.fixture
def training(viewer, model, qtbot):
    """Open the Train widget in a real viewer."""
    _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Train")
    yield from drive(widget, viewer, qtbot)


@pytest.fixture
def training_alone(model, qtbot):
    """Show the Train widget beside a viewer without a window."""
    viewer = ViewerModel()
    widget = TrainWidget(viewer)
    qtbot.addWidget(widget)
    viewer.layers.events.inserted.connect(widget.reset_choices)
    viewer.layers.events.removed.connect(widget.reset_choices)
    yield from drive(widget, viewer, qtbot)


def use_folders(form, folders):
    form.sources.setCurrentIndex(FOLDERS)
    form.sources.blurred_folder.value, form.sources.sharp_folder.value = folders


def weights(path):
    return load_weights(path)[1]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_widget_python_and_command_line_make_the_same_weights(training, folders, model, tmp_path):
    use_folders(training.form, folders)
    made = training.run()
    assert made is not None, training.widget.run_panel.message.text()

    fields = {"steps": 6, "batch_size": 2, "patch_size": 32, "learning_rate": 3e-4}
    more = fields | {"warmup": 6, "validate_every": 2, "keep": "best", "device": "cpu"}
    out = tmp_path / "python.safetensors"
    train(*folders, out, from_model=str(model), **more)
    assert same(weights(made), weights(out))
    assert not same(weights(made), weights(model))

    out = tmp_path / "command_line.safetensors"
    options = {"--blurred": folders[0], "--sharp": folders[1], "--out": out, "--from": model}
    options |= {"--lr": more.pop("learning_rate")}
    options |= {f"--{name.replace('_', '-')}": value for name, value in more.items()}
    done = CliRunner().invoke(app, ["train", *(str(x) for item in options.items() for x in item)])
    assert done.exit_code == 0, done.output
    assert same(weights(made), weights(out))


def test_layers_are_trained_on_and_the_model_is_in_every_list_at_once(training, viewer):
    _, deblur = viewer.window.add_plugin_dock_widget("napari-swintormer", "Deblur")
    blurred, sharp = stacks()
    viewer.add_image(blurred, name="soft")
    viewer.add_image(sharp, name="crisp")
    labels = np.ones(sharp.shape, np.uint8)
    labels[:, :, 60:] = 2
    viewer.add_labels(labels, name="marks")
    sources = training.form.sources
    assert not training.widget.update_ready()
    assert "Choose the layer" in training.widget.run_panel.message.text()
    sources.blurred.value, sources.sharp.value = viewer.layers["soft"], viewer.layers["crisp"]
    sources.annotations.value = viewer.layers["marks"]
    assert training.widget.update_ready()

    made = training.run()

    message = training.widget.run_panel.message.text()
    assert made is not None, message
    assert message.startswith("mine is in the list of models. Best validation:")
    assert "mine" in {info.name for info in list_models()}
    assert load_model("mine").card.title == "mine"
    deblur.form.refresh()
    assert "mine" in deblur.form.model.choices
    assert "mine" in training.form.model.choices
    assert [step for step, _ in training.widget.quality.points] == [0, 2, 4, 6]
    assert training.widget.quality.baseline is not None
    assert len(training.widget.loss.points) == 3
    preview = viewer.layers[-1]
    assert preview.name.startswith("validation")
    assert preview.data.shape == (32, 96, 3)
    assert preview.data.max() > preview.data.min()


def test_the_check_fills_the_table_and_a_bad_pair_is_refused(training_alone, folders):
    plane = tifffile.imread(folders[1] / "b.tif")
    tifffile.imwrite(folders[1] / "b.tif", np.roll(plane, 7, axis=0))
    (folders[0] / "d.tif").unlink()
    use_folders(training_alone.form, folders)
    reports = training_alone.check()
    table = training_alone.widget.table
    rows = [
        tuple(table.item(row, column).text() for column in range(5))
        for row in range(table.rowCount())
    ]
    assert [(row[0], row[4]) for row in rows] == [
        ("d.tif", "unmatched"),
        ("a.tif", "good"),
        ("b.tif", "shifted"),
        ("c.tif", "good"),
    ]
    assert [report.bad for report in reports] == [True, False, True, False]
    assert "2 of 4 pairs can be trained on" in training_alone.widget.run_panel.message.text()

    assert training_alone.run() is None
    assert "2 of 4 pairs cannot" in training_alone.widget.run_panel.message.text()
    assert training_alone.widget.run_panel.run.isEnabled()
    training_alone.form.skip_bad.value = training_alone.form.register.value = True
    assert training_alone.run() is not None


def test_a_stopped_training_keeps_its_best_weights_and_goes_on(training_alone, folders, tmp_path):
    use_folders(training_alone.form, folders)
    training_alone.form.steps.value = 16
    settings = training_alone.form.settings()
    whole = dataclasses.replace(
        settings, out=tmp_path / "whole.safetensors", from_model=settings.from_model
    )
    list(iter_train(whole))

    made = training_alone.stop_after(3)

    assert made == settings.out
    assert training_alone.widget.run_panel.message.text().startswith("Stopped. mine is in the")
    done = load_checkpoint(settings.run_folder).step
    assert 3 <= done < 16
    best = weights(settings.run_folder / "best.safetensors")
    assert same(weights(made), best)
    assert training_alone.form.resume.value  # offered at once
    assert training_alone.run() == made
    assert same(weights(made), weights(whole.out))
    assert not training_alone.form.resume.value


@pytest.mark.parametrize("close", ["dock widget", "viewer"])
def test_closing_the_window_leaves_a_training_that_can_go_on(
    viewer, training, folders, qtbot, monkeypatch, close
):
    forward = Swintormer.forward

    def slow(self, x):
        time.sleep(0.02)
        return forward(self, x)

    monkeypatch.setattr(Swintormer, "forward", slow)
    use_folders(training.form, folders)
    training.form.steps.value = 100_000
    settings = training.form.settings()
    training.widget.run()
    worker, steps = training.widget._worker, []
    worker.progressed.connect(lambda event: steps.append(event.done))
    qtbot.waitUntil(lambda: bool(steps), timeout=PATIENCE)
    if close == "viewer":
        viewer.close()
    else:
        viewer.window.remove_dock_widget(training.widget)
    assert worker.abort_requested
    qtbot.waitUntil(lambda: not worker.is_running, timeout=PATIENCE)
    assert load_checkpoint(settings.run_folder).step >= steps[0]
    assert settings.out.is_file()


def test_sharp_images_alone_and_shapes_that_mark(training_alone, qtbot):
    viewer, form = training_alone.viewer, training_alone.form
    blurred, sharp = stacks(1)
    viewer.add_image(sharp[0], name="crisp")
    form.sources.setCurrentIndex(SHARP_ONLY)
    assert not training_alone.widget.update_ready()
    form.sources.sharp_layer.value = viewer.layers["crisp"]
    assert training_alone.widget.update_ready()
    assert not training_alone.widget.check_button.isEnabled()
    assert form.settings().synthesize == "defocus"

    form.sources.setCurrentIndex(0)
    viewer.add_image(blurred[0], name="soft")
    viewer.add_shapes([[[10, 20], [10, 50], [40, 50], [40, 20]]], name="here")
    form.sources.blurred.value, form.sources.sharp.value = viewer.layers["soft"], viewer.layers[0]
    form.sources.annotations.value = viewer.layers["here"]
    form.sources.add_pair.click()
    form.sources.add_pair.click()
    pairs = form.settings().pairs
    assert [pair.name for pair in pairs] == ["soft", "soft"]
    labels = pairs[0].annotations.data
    assert set(np.unique(labels)) == {0, 1}
    assert labels[25, 35] == 1
    assert labels[5, 5] == 0
    form.sources.clear_pairs.click()
    assert len(form.settings().pairs) == 1


def test_fields_that_do_not_fit_are_named(training_alone, folders):
    use_folders(training_alone.form, folders)
    training_alone.form.name.value = "no/name"
    assert not training_alone.widget.update_ready()
    assert "Give the new model a name" in training_alone.widget.run_panel.message.text()
    assert not training_alone.widget.run_panel.run.isEnabled()
    training_alone.form.name.value = "mine"
    assert training_alone.widget.update_ready()
    assert not training_alone.widget.run_panel.message.text()
    training_alone.form.patch_size.value = 48
    assert training_alone.run() is None
    assert "patch_size must be a multiple of 32" in training_alone.widget.run_panel.message.text()


def test_curves_are_drawn(qtbot):
    from napari_swintormer.plugin.curves import CurvePlot

    plot = CurvePlot("Loss", "dB")
    qtbot.addWidget(plot)
    plot.resize(200, 96)
    plot.restart(100)
    empty = plot.grab().toImage()
    plot.add(0, float("nan"))
    assert not plot.points
    plot.add(10, 1.0, baseline=0.5)
    plot.add(90, 2.0)
    assert plot.caption() == "Loss: 2.00 dB"
    assert plot.grab().toImage() != empty
