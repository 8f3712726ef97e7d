"""One long session of a user: mouse and keys in a real window, from a sample to a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QSlider

from helpers.widgets import PATIENCE, camera_of, expected
from napari_swintormer.plugin.layers.swipe import canvas_of

pytestmark = pytest.mark.gui
LEFT = Qt.MouseButton.LeftButton


def test_from_a_sample_to_a_file(viewer, model, qtbot, tmp_path, batches):
    window = viewer.window._qt_window
    with qtbot.waitExposed(window):
        viewer.show()
    # open a sample, and the widget
    (layer,) = viewer.open_sample("napari-swintormer", "algae")
    image = np.array(layer.data)
    _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Deblur")
    form, panel = widget.form, widget.run_panel
    form.device.value, form.precision.value, form.overlap.value = "cpu", "fp32", 0
    qtbot.waitUntil(panel.run.isEnabled)
    assert form.axes.value == "ZYXS"

    # preview what is on the screen
    viewer.dims.set_point(0, 2)
    camera_of(viewer).zoom = 12
    with qtbot.waitSignal(widget.previewed, timeout=PATIENCE) as previewed:
        qtbot.mouseClick(panel.preview, LEFT)
    (preview,) = previewed.args
    assert preview in viewer.layers

    # change the strength with the arrow keys: the preview follows
    before = np.array(preview.data)
    slider = form.strength.native.findChild(QSlider)
    for _ in range(40):
        qtbot.keyClick(slider, Qt.Key.Key_Left)
    assert form.strength.value < 1
    strength = form.strength.value
    assert not np.array_equal(preview.data, before)
    batches.clear()
    whole = expected(image, axes="ZYXS", strength=strength, overlap=0)
    n_batches = len(batches)
    y, x = (round(part) for part in preview.world_to_data(layer.data_to_world((2, 0, 0)))[1:])
    height, width = preview.data.shape[1:3]
    np.testing.assert_array_equal(preview.data[0], whole[2, -y : height - y, -x : width - x])

    # apply, cancel on the way, resume
    def some_finished():
        run = widget.runs._current
        return run.result is not None and bool(run.result.finished())

    batches.limit = len(batches) + n_batches // 2 + 1
    with qtbot.waitSignal(widget.finished, timeout=PATIENCE) as stopped:
        qtbot.mouseClick(panel.run, LEFT)
        qtbot.waitUntil(some_finished, timeout=PATIENCE)
        qtbot.mouseClick(panel.cancel, LEFT)
        batches.limit = None
    assert stopped.args == [None]
    assert preview not in viewer.layers
    assert panel.resume.isVisible()
    with qtbot.waitSignal(widget.finished, timeout=PATIENCE) as finished:
        qtbot.mouseClick(panel.resume, LEFT)
    (result,) = finished.args
    np.testing.assert_array_equal(result.data, whole)

    # before and after: the key, and the line
    canvas = canvas_of(widget).native
    qtbot.keyClick(canvas, Qt.Key.Key_B)
    assert not result.visible
    qtbot.keyClick(canvas, Qt.Key.Key_B)
    qtbot.mouseClick(widget.compare.swipe, LEFT)
    line = widget.compare._swipe._line
    place, grip = widget.compare._swipe.x, QPoint(line.width() // 2, 40)
    qtbot.mousePress(line, LEFT, pos=grip)
    qtbot.mouseMove(line, grip - QPoint(50, 0))
    qtbot.mouseRelease(line, LEFT, pos=grip)
    assert widget.compare._swipe.x == place - 50
    qtbot.mouseClick(widget.compare.swipe, LEFT)

    # save, and open what was saved
    path = tmp_path / "algae.ome.zarr"
    assert result.save(str(path), plugin="napari-swintormer") == [str(path)]
    (again,) = viewer.open(path, plugin="napari-swintormer")
    np.testing.assert_array_equal(again.data, whole)
    assert again.rgb


@pytest.mark.slow("plugin", "runs", "engine", "tests/helpers/memory_growth.py")
@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is that of Linux")
def test_later_runs_take_no_more_memory_than_the_first_ones(model):
    script = Path(__file__).parents[1] / "helpers" / "memory_growth.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        env=os.environ | {"QT_QPA_PLATFORM": "offscreen"},
    )
    assert done.returncode == 0, done.stderr
    # a result that stays takes 12 MB, its change 23 MB, and four of them 138 MB
    assert int(done.stdout) < 40e6


@pytest.mark.gpu
def test_runs_leave_the_memory_of_the_gpu_unchanged(deblur_alone):
    deblur_alone.form.device.value = "cuda"
    layer = deblur_alone.viewer.add_image(np.arange(300 * 400, dtype="uint16").reshape(300, 400))

    def once():
        deblur_alone.preview()
        deblur_alone.viewer.layers.remove(deblur_alone.run())
        deblur_alone.viewer.layers.selection.active = layer

    once()
    before = torch.cuda.memory_allocated()
    for _ in range(4):
        once()
    assert torch.cuda.memory_allocated() == before
