"""A run into a file: it stops, continues, and is shown from the file."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.widgets import PATIENCE, expected, noise
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.store.result import ResultStore

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("name", ["out.ome.zarr", "out.ome.tif", "out.tif"])
@pytest.mark.parametrize("axes", ["ZYX", "YXS"])
def test_the_file_and_its_layer_have_the_pixels_of_the_api(deblur_alone, tmp_path, name, axes):
    image = noise(1, 90, 70) if axes == "ZYX" else noise(90, 70, 3, dtype="uint8")
    scale = (2.0, 0.5, 0.5)[: image.ndim - axes.count("S")]
    blurred = deblur_alone.viewer.add_image(
        image, name="cells", scale=scale, units=["um"] * len(scale), rgb=axes == "YXS"
    )
    deblur_alone.form.axes.value = axes
    deblur_alone.form.save_to.value = str(tmp_path / name)
    assert deblur_alone.widget.update_plan()

    layer = deblur_alone.run()

    whole = expected(image, axes=axes)
    assert layer is not None
    finest = layer.data[0] if layer.multiscale else layer.data
    assert not isinstance(finest, np.ndarray)  # read when looked at
    np.testing.assert_array_equal(finest, whole)
    np.testing.assert_allclose(layer.scale, blurred.scale)
    assert layer.metadata["swintormer"]["complete"]
    with open_image(tmp_path / name) as written:
        assert written.pixel_size["X"] == pytest.approx(0.5)
        np.testing.assert_array_equal(np.squeeze(written.data[...]), np.squeeze(whole))
    assert not ResultStore.is_unfinished(tmp_path / name)
    assert deblur_alone.form.save_to.value == ""


def test_a_stopped_run_continues_when_it_is_started_again(deblur_alone, qtbot, tmp_path, batches):
    image = noise(6, 120, 100)
    whole = expected(image)
    n_batches = len(batches)
    batches.clear()
    path = tmp_path / "out.ome.zarr"
    deblur_alone.viewer.add_image(image, name="cells")
    widget, form = deblur_alone.widget, deblur_alone.form
    form.save_to.value = str(path)
    batches.limit = n_batches // 2

    with qtbot.waitSignal(widget.finished, timeout=PATIENCE) as blocker:
        widget.run()
        qtbot.waitUntil(lambda: len(batches) == batches.limit, timeout=PATIENCE)
        widget.cancel()
        batches.limit = None

    assert blocker.args == [None]

    assert ResultStore.is_unfinished(path)
    assert not path.exists()
    assert [layer.name for layer in deblur_alone.viewer.layers] == ["cells"]
    assert widget.runs.stopped is not None
    widget.runs.stopped = None  # as if napari had been closed
    form.strength.value = 0.5
    assert deblur_alone.run() is None
    assert "differs in settings.strength" in widget.run_panel.message.text()
    form.strength.value = 1.0
    before = len(batches)
    layer = deblur_alone.run()
    np.testing.assert_array_equal(layer.data, whole)
    assert len(batches) - before < n_batches


def test_a_file_that_cannot_be_written_is_refused_before_the_run(deblur_alone, tmp_path):
    viewer, widget = deblur_alone.viewer, deblur_alone.widget
    layers = [viewer.add_image(noise(64, 64)) for _ in range(2)]
    viewer.layers.selection = {layers[0]}
    taken = tmp_path / "taken.tif"
    taken.touch()
    for path, words in [(taken, "exists already"), (tmp_path / "a.xyz", "no suffix")]:
        deblur_alone.form.save_to.value = str(path)
        assert not widget.update_plan()
        assert words in widget.plan_panel.sentence.text()
    deblur_alone.form.save_to.value = str(tmp_path / "a.tif")
    deblur_alone.form.image.value = layers[0]
    assert widget.update_plan()
    assert "a.tif takes up to" in widget.plan_panel.sentence.text()
    viewer.layers.selection = set(layers)
    assert not widget.update_plan()
    assert "2 layers" in widget.plan_panel.sentence.text()
