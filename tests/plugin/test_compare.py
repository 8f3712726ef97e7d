"""Swipe, toggle, difference, residual; copying a run."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QGuiApplication
from typer.testing import CliRunner

import napari_swintormer
from helpers.widgets import camera_of, canvas_size, noise
from napari_swintormer.cli import app
from napari_swintormer.evaluation.residual import residual_map
from napari_swintormer.plugin.deblur.deblur_fields import CURRENT_PLANE
from napari_swintormer.plugin.layers.swipe import canvas_of

pytestmark = pytest.mark.gui


def boundary(viewer):
    """Column of the canvas where the grey of the image changes."""
    row = viewer.screenshot(canvas_only=True, flash=False)[canvas_size(viewer)[0] // 2, :, 0]
    changes = np.flatnonzero(np.abs(np.diff(row.astype(int))) > 20)
    return None if changes.size == 0 else int(changes[0]) + 1


def test_the_swipe_line_is_dragged_follows_the_view_and_goes(viewer, deblur, qtbot):
    with qtbot.waitExposed(viewer.window._qt_window):
        viewer.show()
    dark = np.zeros((2, 100, 100), np.uint8)
    viewer.add_image(dark, contrast_limits=(0, 255))
    result = deblur.run()
    result.data = dark + 200  # as if it were bright
    camera_of(viewer).zoom = 20  # fills the canvas
    compare = deblur.widget.compare
    assert boundary(viewer) is None

    qtbot.mouseClick(compare.swipe, Qt.MouseButton.LeftButton)
    line = compare._swipe._line
    assert abs(boundary(viewer) - compare._swipe.x) <= 1
    for move in (
        lambda: setattr(camera_of(viewer), "zoom", 40),
        lambda: viewer.dims.set_point(0, 1),
        lambda: setattr(result, "visible", True),
    ):
        move()
        assert abs(boundary(viewer) - compare._swipe.x) <= 1
    before, grip = compare._swipe.x, QPoint(line.width() // 2, 40)
    qtbot.mousePress(line, Qt.MouseButton.LeftButton, pos=grip)
    qtbot.mouseMove(line, grip + QPoint(60, 0))
    qtbot.mouseRelease(line, Qt.MouseButton.LeftButton, pos=grip)
    assert compare._swipe.x != before
    assert abs(boundary(viewer) - compare._swipe.x) <= 1

    viewer.dims.ndisplay = 3
    assert not compare.swipe.isChecked()
    viewer.dims.ndisplay = 2
    qtbot.mouseClick(compare.swipe, Qt.MouseButton.LeftButton)
    viewer.layers.remove(result)
    assert not compare.swipe.isEnabled()
    assert not compare.swipe.isChecked()


def test_one_key_hides_and_shows_the_result(viewer, deblur, qtbot):
    viewer.add_image(noise(64, 64))
    result = deblur.run()
    canvas = canvas_of(deblur.widget).native
    for visible in (False, True):
        qtbot.keyClick(canvas, Qt.Key.Key_B)
        assert result.visible is visible
        assert deblur.widget.compare.before.isChecked() is not visible


def test_comparing_shows_the_input_alone_and_brings_everything_back(viewer, deblur, qtbot):
    with qtbot.waitExposed(viewer.window._qt_window):
        viewer.show()
    dark = np.zeros((100, 100), np.uint8)
    image = viewer.add_image(dark, contrast_limits=(0, 255), name="dark")
    compare, form = deblur.widget.compare, deblur.form
    earlier = deblur.run()
    compare.add_difference()
    viewer.layers.selection.active = image
    result = deblur.run()
    other = viewer.add_image(dark + 255, contrast_limits=(0, 255), name="other")  # covers all
    channel = viewer.add_image(dark, blending="additive", name="channel")
    points = viewer.add_points([[0, 0]])
    earlier.data, result.data = dark + 90, dark + 200
    camera_of(viewer).zoom = 20
    viewer.layers.selection.active = result
    image.visible = False
    states = {layer: layer.visible for layer in viewer.layers}

    def shown():
        return [layer.name for layer in viewer.layers if layer.visible]

    def middle():
        picture = viewer.screenshot(canvas_only=True, flash=False)
        return picture[picture.shape[0] // 2 + 40, :, 0]

    always = [channel.name, points.name]
    for press in (lambda: qtbot.keyClick(canvas_of(deblur.widget).native, Qt.Key.Key_B),
                  compare.before.click):  # fmt: skip
        press()
        assert sorted(shown()) == sorted(["dark", *always])
        assert middle()[middle().size // 2] == 0
        press()
        assert {layer: layer.visible for layer in viewer.layers} == states

    qtbot.mouseClick(compare.swipe, Qt.MouseButton.LeftButton)
    assert sorted(shown()) == sorted(["dark", result.name, *always])
    row = middle()
    assert (row[compare._swipe.x - 30], row[compare._swipe.x + 30]) == (0, 200)
    viewer.layers.selection.active = earlier  # compared instead, without a click
    assert sorted(shown()) == sorted(["dark", earlier.name, *always])
    row = middle()
    assert (row[compare._swipe.x - 30], row[compare._swipe.x + 30]) == (0, 90)
    qtbot.mouseClick(compare.swipe, Qt.MouseButton.LeftButton)
    assert {layer: layer.visible for layer in viewer.layers} == states

    compare.before.click()
    earlier.visible = True  # the eye in the list of layers
    assert not compare.before.isChecked()
    compare.before.click()
    viewer.layers.remove(earlier)
    assert result.visible
    assert other.visible
    assert form.layer == image


def test_the_difference_is_the_result_minus_the_image(deblur_alone, qtbot):
    photo = noise(90, 70, 3, dtype="uint8")
    deblur_alone.viewer.add_image(photo, rgb=True, scale=(2, 3))
    result = deblur_alone.run()
    qtbot.mouseClick(deblur_alone.widget.compare.difference, Qt.MouseButton.LeftButton)
    layer = deblur_alone.viewer.layers[-1]
    change = result.data.astype(float) - photo
    np.testing.assert_allclose(layer.data, change.mean(axis=-1), atol=1e-4)
    np.testing.assert_array_equal(layer.scale, (2, 3))
    low, high = layer.contrast_limits
    assert -low == high > 0


def test_the_residual_is_what_the_result_does_not_explain(deblur_alone, qtbot):
    photo = noise(90, 70, 3, dtype="uint8")
    deblur_alone.viewer.add_image(photo, rgb=True, name="photo")
    result = deblur_alone.run()
    layers = deblur_alone.viewer.layers
    compare = deblur_alone.widget.compare
    qtbot.mouseClick(compare.residual, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: not compare.residual_work.running, timeout=60_000)
    wanted = residual_map(photo, result.data).mean(axis=-1)
    np.testing.assert_allclose(layers[f"{result.name}, residual"].data, wanted, atol=1e-3)


def test_copied_python_gives_the_same_pixels(deblur_alone, qtbot):
    look = {"scale": (3, 2, 2), "units": ("um",) * 3, "rotate": 20, "colormap": "magma"}
    layer = deblur_alone.viewer.add_image(noise(4, 80, 64), name="it's", **look)
    deblur_alone.viewer.dims.set_point(0, layer.data_to_world((2, 0, 0))[0])
    deblur_alone.form.planes.value = CURRENT_PLANE
    deblur_alone.form.strength.value = 0.5
    result = deblur_alone.run()
    deblur_alone.form.overlap.value = 8  # the run of the active result is copied, not this
    deblur_alone.viewer.layers.selection.active = result
    qtbot.mouseClick(deblur_alone.widget.copying.python, Qt.MouseButton.LeftButton)
    names = {"viewer": deblur_alone.viewer}
    exec(QGuiApplication.clipboard().text(), names)
    np.testing.assert_array_equal(names["result"], result.data)
    added = deblur_alone.viewer.layers[-1]
    assert added is not result
    for name in ("units", "colormap", "contrast_limits"):
        assert getattr(added, name) == getattr(result, name)
    for point in ((0, 0, 0), (0, 7, 9)):
        np.testing.assert_allclose(added.data_to_world(point), result.data_to_world(point))


def test_the_copied_command_line_gives_the_same_pixels(deblur_alone, qtbot, tmp_path):
    viewer = deblur_alone.viewer
    image = noise(2, 70, 90)
    tifffile.imwrite(tmp_path / "my stack.tif", image, imagej=True, metadata={"axes": "ZYX"})
    viewer.open(tmp_path / "my stack.tif", plugin="napari-swintormer")
    deblur_alone.form.overlap.value = 8
    result = deblur_alone.run()
    viewer.layers.selection.active = result
    qtbot.mouseClick(deblur_alone.widget.copying.command, Qt.MouseButton.LeftButton)
    program, *arguments = shlex.split(QGuiApplication.clipboard().text())
    assert program == "swintormer"
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    with napari_swintormer.imaging.formats.reading.open_image(arguments[2]) as made:
        np.testing.assert_array_equal(made.data[...], result.data)

    viewer.layers.selection.active = viewer.add_image(image, name="no file")
    deblur_alone.form.image.value = viewer.layers["no file"]
    qtbot.mouseClick(deblur_alone.widget.copying.command, Qt.MouseButton.LeftButton)
    assert "comes from no file" in deblur_alone.widget.run_panel.message.text()
