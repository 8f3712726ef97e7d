"""A training in the Train widget is stopped, paused, resumed and closed."""

from __future__ import annotations

import dataclasses

import pytest
from qtpy.QtWidgets import QFileDialog

from helpers.train_runs import same
from helpers.training import stacks, use_folders, weights
from helpers.widgets import PATIENCE, closing_button, no_and_yes
from napari_swintormer.errors import TrainingError
from napari_swintormer.plugin.train.train_sources import FOLDERS, LAYERS, SHARP_ONLY
from napari_swintormer.training.loop.checkpoint import load_checkpoint
from napari_swintormer.training.loop.train import iter_train

pytestmark = pytest.mark.gui


def test_a_stopped_training_keeps_its_best_weights_and_goes_on(training_alone, folders, tmp_path):
    use_folders(training_alone.form, folders)
    training_alone.form.steps.value = 8
    settings = training_alone.form.settings()
    whole = dataclasses.replace(
        settings, out=tmp_path / "whole.safetensors", from_model=settings.from_model
    )
    list(iter_train(whole))

    made = training_alone.stop_after(3)

    assert made == settings.out
    assert training_alone.widget.run_panel.message.text().startswith("Stopped. mine is in the")
    done = load_checkpoint(settings.run_folder).step
    assert 3 <= done < 8
    best = weights(settings.run_folder / "best.safetensors")
    assert same(weights(made), best)
    assert training_alone.go_on(training_alone.widget.run_panel.resume.click) == made
    assert same(weights(made), weights(whole.out))
    assert training_alone.widget.run_panel.resume.isHidden()


def test_a_paused_training_goes_on_or_ends_with_its_best_weights(training_alone, folders, tmp_path):
    use_folders(training_alone.form, folders)
    training_alone.form.steps.value = 8
    settings = training_alone.form.settings()
    whole = dataclasses.replace(settings, out=tmp_path / "whole.safetensors")
    list(iter_train(whole))
    panel = training_alone.widget.run_panel

    assert training_alone.stop_after(3, panel.pause.click) is None
    assert not settings.out.exists()
    assert panel.progress_text.text() == "Paused."
    assert not panel.resume.isHidden()
    points = list(training_alone.widget.quality.points)
    made = training_alone.go_on(panel.resume.click)
    assert same(weights(made), weights(whole.out))
    assert training_alone.widget.quality.points[: len(points)] == points
    made.unlink()

    # paused again under another name, and ended
    training_alone.form.name.value = "other"
    assert training_alone.stop_after(5, panel.pause.click) is None
    made = training_alone.go_on(panel.cancel.click)
    assert made.stem == "other"
    assert same(weights(made), weights(made.with_suffix(".run") / "best.safetensors"))
    assert panel.message.text().startswith("Stopped. other is in the")


def test_a_training_is_resumed_from_its_folder(training_alone, folders, tmp_path, monkeypatch):
    """By a widget that has not begun it, whatever its fields say; with the layers it is made of."""
    use_folders(training_alone.form, folders)
    training_alone.form.steps.value = 8
    settings = training_alone.form.settings()
    settings = dataclasses.replace(settings, out=tmp_path / "elsewhere" / "mine.safetensors")
    whole = dataclasses.replace(settings, out=tmp_path / "whole.safetensors")
    list(iter_train(whole))
    run = training_alone.stopped(settings)
    training_alone.form.steps.value, training_alone.form.name.value = 99, "never"
    training_alone.form.sources.setCurrentIndex(SHARP_ONLY)
    choices = [run, tmp_path]
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(choices.pop()))
    training_alone.widget.resume_button.click()  # a folder of something else
    message = training_alone.widget.run_panel.message.text()
    assert "is not the folder of a training" in message
    made = training_alone.go_on(training_alone.widget.resume_button.click)
    assert made == settings.out
    assert f"Written to {made}." in training_alone.widget.run_panel.message.text()
    assert same(weights(made), weights(whole.out))
    assert [step for step, _ in training_alone.widget.quality.points][-1] == 8

    viewer, form = training_alone.viewer, training_alone.form
    for name, stack in zip(("soft", "crisp"), stacks(), strict=True):
        viewer.add_image(stack, name=name)
    form.sources.setCurrentIndex(LAYERS)
    form.sources.blurred.value, form.sources.sharp.value = viewer.layers["soft"], viewer.layers[-1]
    form.name.value, form.steps.value = "layers", 8
    run = training_alone.stopped(form.settings())
    form.sources.setCurrentIndex(FOLDERS)
    with pytest.raises(TrainingError, match=r"from arrays or layers \(soft\): open and choose"):
        training_alone.widget.resume_from(run)
    form.sources.setCurrentIndex(LAYERS)
    made = training_alone.go_on(lambda: training_alone.widget.resume_from(run))
    assert made.stem == "layers"


@pytest.mark.parametrize("close", ["dock widget", "viewer"])
def test_closing_the_window_leaves_a_training_that_can_go_on(
    viewer, training, folders, qtbot, monkeypatch, close
):
    use_folders(training.form, folders)
    training.form.steps.value = 100_000
    settings = training.form.settings()
    asked, shut = no_and_yes(monkeypatch), closing_button(training.widget)
    with training.held_after(2) as reached:
        training.widget.run()
        worker = training.widget.work._worker
        qtbot.waitUntil(reached.is_set, timeout=PATIENCE)
        (viewer.window._qt_window.close if close == "viewer" else shut)()
        assert len(asked) == 1
        assert not worker.abort_requested
        assert training.widget.parent() is not None
        (viewer.close if close == "viewer" else shut)()
        assert len(asked) == 2
        assert "you can resume the training" in asked[0]
        assert worker.abort_requested
    qtbot.waitUntil(lambda: not worker.is_running, timeout=PATIENCE)
    assert load_checkpoint(settings.run_folder).step == 2
    assert settings.out.is_file()
