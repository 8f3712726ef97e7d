"""The Train widget in a real viewer, from pairs to a model that every list has."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

from helpers.train_runs import same
from helpers.training import stacks, use_folders, weights
from napari_swintormer import list_models, load_model, train
from napari_swintormer.cli import app
from napari_swintormer.plugin.train.curves import CurvePlot
from napari_swintormer.plugin.train.train_sources import SHARP_ONLY
from napari_swintormer.training.train_presets import NETWORKS

pytestmark = pytest.mark.gui


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
    assert not training.widget.update_ready()
    assert "Choose the layer" in training.widget.run_panel.message.text()
    viewer.add_image(blurred, name="blurred")
    viewer.add_image(sharp, name="sharp")
    labels = np.ones(sharp.shape, np.uint8)
    labels[:, :, 60:] = 2
    viewer.add_labels(labels, name="marks")
    sources = training.form.sources
    chosen = sources.blurred.value, sources.sharp.value  # by their names
    assert chosen == (viewer.layers["blurred"], viewer.layers["sharp"])
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
    assert training.form.name.value == "mine-2"  # the next training replaces nothing
    assert [step for step, _ in training.widget.quality.points] == [0, 2, 4, 6]
    assert training.widget.quality.baseline is not None
    assert len(training.widget.loss.points) == 3
    assert [layer.name for layer in viewer.layers] == ["blurred", "sharp", "marks"]
    strips = sorted((made.with_suffix(".run") / "validation").iterdir())
    assert len(strips) == 4
    whole = training.widget.picture._whole.toImage()
    with Image.open(strips[-1]) as strip:
        assert (whole.width(), whole.height()) == strip.size
    assert training.widget.picture.isVisibleTo(training.widget)

    assert training.widget.deblur_with_it() is deblur  # the button
    form = deblur.form
    assert (form.layer, form.model.value) == (viewer.layers["blurred"], "mine")
    assert training.widget.use_model.isVisibleTo(training.widget)


def detail(image):
    """Mean difference of neighbouring pixels."""
    levels = np.array(
        [
            [image.pixelColor(x, y).red() for x in range(image.width())]
            for y in range(image.height())
        ]
    )
    return np.abs(np.diff(levels, axis=1)).mean()


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
    assert [row[:2] for row in rows] == [
        ("d.tif", "unmatched"),
        ("a.tif", "good"),
        ("b.tif", "shifted"),
        ("c.tif", "good"),
    ]
    assert [report.bad for report in reports] == [True, False, True, False]
    assert "2 of 4 pairs can be trained on" in training_alone.widget.run_panel.message.text()

    icons = [table.item(row, 0).icon() for row in range(4)]
    assert [icon.isNull() for icon in icons] == [True, False, False, False]
    both = icons[1].pixmap(icons[1].availableSizes()[0])
    width = both.width() // 2
    left, right = (both.copy(x, 0, width, both.height()).toImage() for x in (0, width))
    assert detail(right) > 1.1 * detail(left)  # the sharp one stands to the right

    assert training_alone.run() is None
    message = training_alone.widget.run_panel.message.text()
    assert "2 of 4 pairs cannot" in message
    assert "--" not in message
    assert training_alone.widget.run_panel.run.isEnabled()
    training_alone.form.skip_bad.value = training_alone.form.register.value = True
    assert training_alone.run() is not None


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
    assert "Give the new model a name" in training_alone.form.name_problem.text()
    assert not training_alone.widget.run_panel.run.isEnabled()
    form, run = training_alone.form, training_alone.widget.run_panel.run
    form.name.value = "Swintormer"  # built in: the new model would take its place
    assert not training_alone.widget.update_ready()
    assert not run.isEnabled()
    refusal = "There is a built-in model 'swintormer' already. Another name is free: "
    assert form.name_problem.text() == refusal + "'Swintormer-2'."
    training_alone.form.name.value = "mine"
    assert form.name_problem.isHidden()
    assert training_alone.widget.update_ready()
    assert not training_alone.widget.run_panel.message.text()
    for typed, taken in ((50, 64), (33, 32), (1000, 992)):  # what the network takes
        form.patch_size.value = typed
        assert form.patch_size.value == taken
    form.preset.value = "from scratch"
    assert form.patch_size.value % 256 == 0 or form.patch_size.step == NETWORKS["small"].multiple


def test_curves_are_drawn_in_the_colours_of_the_theme(qtbot):
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
    for colour in ("#ffffff", "#000000"):
        plot.setStyleSheet(f"QWidget {{ background-color: {colour}; }}")
        assert plot.grab().toImage().pixelColor(150, 60).name() == colour
