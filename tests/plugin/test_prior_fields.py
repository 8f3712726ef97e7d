"""The fields of a prior, presets, and the layer of the deviation, in the widget."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
from napari.layers import Image
from typer.testing import CliRunner

from helpers.tiny import random_network, tiny_prior_card
from helpers.widgets import FP32, camera_of
from napari_swintormer import deblur as deblur_array
from napari_swintormer.cli import app
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.files.weights import save_weights
from napari_swintormer.plugin.deblur.scripts import as_command, as_python, run_record
from napari_swintormer.settings.deblur_settings import DeblurSettings


@pytest.fixture
def model(home, model):
    """Two models: the default without prior, and one with."""
    folder = home / "models"
    card = tiny_prior_card().model_copy(update={"name": "with-prior"})
    save_weights(folder / "with-prior.safetensors", random_network(card).state_dict(), card)
    return folder / "with-prior.safetensors"


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 60_000, (70, 90), np.uint16)


def test_the_fields_are_shown_for_models_with_a_prior_only(deblur_alone, image):
    form = deblur_alone.form
    deblur_alone.viewer.add_image(image)
    assert form.prior_rows.isHidden()
    assert form.settings().num_inference_steps is form.settings().samples is None
    form.model.value = "with-prior"
    assert not form.prior_rows.isHidden()
    assert (form.settings().num_inference_steps, form.settings().samples) == (4, 1)
    form.uncertainty.value = True
    assert form.samples.value == 4  # one sample has no deviation
    assert deblur_alone.widget.update_plan()
    form.preset.value = "fast"
    assert deblur_alone.widget.update_plan()
    form.uncertainty.value = False
    assert form.samples.value == 1
    form.use_prior.value = False
    assert form.settings().prior == "off"
    assert deblur_alone.widget.update_plan()
    form.model.value = "swintormer"
    assert form.prior_rows.isHidden()
    assert form.settings().prior is None


def test_a_preset_sets_the_fields_and_the_fields_name_the_preset(deblur_alone):
    form = deblur_alone.form
    form.model.value = "with-prior"
    seen = {}
    for preset in ("fast", "best", "balanced"):
        form.preset.value = preset
        seen[preset] = (form.overlap.value, form.num_inference_steps.value, form.samples.value)
        assert form.preset.value == preset
    assert seen == {"fast": (8, 1, 1), "balanced": (16, 4, 1), "best": (36, 4, 4)}
    form.overlap.value = 17
    assert form.preset.value == "custom"
    form.overlap.value = 8
    form.num_inference_steps.value = 1
    assert form.preset.value == "fast"
    form.model.value = "swintormer"
    assert form.overlap.value == 8  # the preset stays what was chosen


@pytest.mark.parametrize("kind", ["memory", "disk", "file"])
def test_the_deviation_becomes_a_layer(deblur_alone, image, model, tmp_path, monkeypatch, kind):
    if kind == "disk":
        monkeypatch.setattr("napari_swintormer.plugin.layers.space_check.SHARE_OF_MEMORY", 0.0)
    form, layers = deblur_alone.form, deblur_alone.viewer.layers
    photo = np.stack([image, image.T[:70, :70].repeat(2, 1)[:, :90], image], -1)
    deblur_alone.viewer.add_image(photo, rgb=True, scale=(2, 2), name="cells")
    form.model.value = "with-prior"
    form.samples.value = 2
    form.uncertainty.value = True
    if kind == "file":
        form.save_to.value = str(tmp_path / "out.ome.zarr")
    result = deblur_alone.run()

    wanted, deviation = deblur_array(photo, model, samples=2, uncertainty=True, axes="YXS", **FP32)
    layer = layers[f"{result.name}, deviation"]
    assert layers.selection.active == result
    assert not layer.visible
    np.testing.assert_array_equal(np.asarray(result.data), wanted)
    shown = np.asarray(layer.data)
    np.testing.assert_allclose(shown, np.sqrt((deviation**2).mean(axis=-1)), rtol=1e-5)
    np.testing.assert_array_equal(layer.scale, result.scale)
    assert 0 < layer.contrast_limits[1] <= shown.max()
    if kind == "file":
        assert (tmp_path / "out-deviation.ome.zarr").is_dir()


def test_a_preview_with_a_prior_has_the_pixels_of_the_run(deblur_alone, image, qtbot):
    layer = deblur_alone.viewer.add_image(image)
    deblur_alone.form.model.value = "with-prior"
    deblur_alone.form.samples.value = 2
    deblur_alone.form.uncertainty.value = True  # a preview shows none
    camera_of(deblur_alone.viewer).zoom = 10
    shown = deblur_alone.preview()
    result = deblur_alone.run()
    y, x = (int(i) for i in np.round(layer.world_to_data(shown.data_to_world((0, 0)))))
    height, width = shown.data.shape
    np.testing.assert_array_equal(shown.data, result.data[y : y + height, x : x + width])
    assert height < 70 or width < 90


def test_a_run_with_a_slow_prior_stops_within_a_step(deblur_alone, image, monkeypatch):
    import torch

    from napari_swintormer.models.prior.compact import CompactPrior

    calls, denoise = [], CompactPrior.denoise
    widget, form = deblur_alone.widget, deblur_alone.form

    def cancelling(self, *inputs):
        calls.append(torch.is_inference_mode_enabled())
        if len(calls) == 3:
            widget.runs._worker.quit()  # as the button does, from the GUI thread
        return denoise(self, *inputs)

    monkeypatch.setattr(CompactPrior, "denoise", cancelling)
    deblur_alone.viewer.add_image(image)
    form.model.value = "with-prior"
    form.num_inference_steps.value = 200
    assert deblur_alone.run() is None
    assert calls == [True] * 3
    assert len(deblur_alone.viewer.layers) == 1


def test_a_run_with_uncertainty_is_copied(deblur_alone, image, model, tmp_path):
    np.save(tmp_path / "cells.npy", image)
    layer = Image(image, name="cells")
    settings = DeblurSettings(str(model), "YX", samples=2, uncertainty=True, **FP32)
    record = run_record(layer, settings) | {"path": str(tmp_path / "cells.npy")}
    names = {"viewer": deblur_alone.viewer}
    deblur_alone.viewer.add_layer(layer)
    exec(as_python(record), names)
    assert deblur_alone.viewer.layers["cells · deblurred, deviation"].data.shape == image.shape
    done = CliRunner().invoke(app, shlex.split(as_command(record))[1:])
    assert done.exit_code == 0, done.output
    with open_image(tmp_path / "cells-deblurred-deviation.ome.zarr") as made:
        np.testing.assert_array_equal(made.data[...], names["deviation"])
