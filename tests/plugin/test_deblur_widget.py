"""The Deblur widget: fields, plan, run, errors, closing."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import dask.array as da
import numpy as np
import pytest
import torch
from napari.utils.notifications import notification_manager
from qtpy.QtCore import QPoint, Qt, QTimer
from qtpy.QtWidgets import QApplication

from helpers.widgets import expected, noise
from napari_swintormer.errors import SwintormerError
from napari_swintormer.models.restorer import Restorer
from napari_swintormer.plugin.deblur.deblur_fields import CURRENT_PLANE
from napari_swintormer.runs.planning import prepare

pytestmark = pytest.mark.gui


def test_opening_the_widget_imports_no_torch(display, model):
    script = (
        "import sys, napari\n"
        "viewer = napari.Viewer(show=False)\n"
        "viewer.open_sample('napari-swintormer', 'circuit-board')\n"
        "_, widget = viewer.window.add_plugin_dock_widget('napari-swintormer', 'Deblur')\n"
        "assert widget.run_panel.run.isEnabled(), widget.plan_panel.sentence.text()\n"
        "assert 'torch' not in sys.modules\n"
        "viewer.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_result_has_the_place_of_the_image_and_the_pixels_of_the_api(deblur_alone):
    look = {
        "scale": (2.0, 0.5, 0.25),
        "translate": (3.0, -1.0, 4.0),
        "rotate": 30.0,
        "shear": (0.1, 0.0, 0.2),
        "affine": np.diag([1.0, 2.0, 1.0, 1.0]),
        "units": ("um", "um", "um"),
        "axis_labels": ("z", "y", "x"),
        "colormap": "magma",
        "contrast_limits": (10, 200),
        "blending": "additive",
        "gamma": 0.7,
        "interpolation2d": "linear",
    }
    image = noise(3, 96, 70)
    layer = deblur_alone.viewer.add_image(image, name="cells", **look)
    deblur_alone.form.overlap.value = 8
    deblur_alone.form.scale.value = 2

    result = deblur_alone.run()

    assert result is deblur_alone.viewer.layers[-1]
    assert result.name == "cells · swintormer · half size"
    assert result.dtype == image.dtype
    assert not np.array_equal(result.data, image)
    np.testing.assert_array_equal(result.data, expected(image, axes="ZYX", overlap=8, scale=2))
    for point in np.random.default_rng(0).uniform(0, 50, (4, 3)):
        np.testing.assert_allclose(result.data_to_world(point), layer.data_to_world(point))
    for name in look.keys() - {"scale", "translate", "rotate", "shear", "affine"}:
        assert getattr(result, name) == getattr(layer, name), name
    assert result.contrast_limits_range == layer.contrast_limits_range
    made = result.metadata["swintormer"]
    assert made["model"] == "swintormer"
    assert made["settings"]["axes"] == "ZYX"
    assert made["settings"]["overlap"] == 8
    assert made["settings"]["scale"] == 2
    assert len(made["weights_sha256"]) == 64
    assert {"software", "versions", "time"} <= made.keys()


def test_the_current_plane_keeps_its_place(deblur_alone):
    stack = noise(4, 80, 64)
    layer = deblur_alone.viewer.add_image(stack, scale=(2, 1, 1), translate=(5, 0, 0), rotate=30)
    deblur_alone.viewer.dims.set_point(0, layer.data_to_world((2, 0, 0))[0])
    plane = round(layer.world_to_data(deblur_alone.viewer.dims.point)[0])
    deblur_alone.form.planes.value = CURRENT_PLANE

    result = deblur_alone.run()

    whole = expected(stack, axes="ZYX")
    np.testing.assert_array_equal(result.data, whole[plane : plane + 1])
    np.testing.assert_allclose(
        result.data_to_world((0, 7, 9)), layer.data_to_world((plane, 7, 9)), atol=1e-9
    )


def test_a_range_of_planes_keeps_its_place_and_is_copied(deblur_alone, qapp):
    stack = noise(2, 5, 60, 64)
    layer = deblur_alone.viewer.add_image(stack, scale=(1, 2, 1, 1), translate=(0, 5, 0, 0))
    form = deblur_alone.form
    form.axes.value = "TZYX"
    form.planes.value = "Range along Z"
    assert (form.first_plane.value, form.last_plane.value) == (0, 4)
    form.first_plane.value, form.last_plane.value = 1, 3
    deblur_alone.viewer.dims.set_point(1, 5 + 2 * 2)
    whole = expected(stack, axes="TZYX")[:, 1:4]

    shown = deblur_alone.preview()
    where = shown.world_to_data(layer.data_to_world((0, 2, 30, 30)))
    y, x = (int(i) for i in where[2:])
    assert where[1] == 0
    assert shown.data[0, 0, y, x] == whole[0, 1, 30, 30]
    deblur_alone.viewer.dims.set_point(1, 5 + 2 * 4)
    with pytest.raises(SwintormerError, match="outside of the range 1 to 3"):
        deblur_alone.widget.run_preview()
    result = deblur_alone.run()

    np.testing.assert_array_equal(result.data, whole)
    np.testing.assert_allclose(
        result.data_to_world((0, 0, 7, 9)), layer.data_to_world((0, 1, 7, 9))
    )
    deblur_alone.widget.copying.python.click()
    assert "planes='Z=1:4'" in qapp.clipboard().text()
    form.last_plane.value = 0
    assert not deblur_alone.widget.update_plan()
    assert "no planes 1 to 0 along Z" in deblur_alone.widget.plan_panel.sentence.text()


def test_colours_and_the_finest_level_of_a_pyramid(deblur_alone):
    photo = noise(90, 70, 3, dtype="uint8")
    deblur_alone.viewer.add_image(
        [da.from_array(photo), da.from_array(photo[::2, ::2])], rgb=True, name="photo"
    )
    assert deblur_alone.form.axes.value == "YXS"

    result = deblur_alone.run()

    assert result.rgb
    assert not result.multiscale
    np.testing.assert_array_equal(result.data, expected(photo, axes="YXS"))


def test_the_window_stays_alive_during_a_run(viewer, deblur, monkeypatch):
    restore = Restorer.in_steps

    def slow(self, tiles, origins):
        result = yield from restore(self, tiles, origins)
        end = time.monotonic() + 0.05
        while time.monotonic() < end:
            torch.randn(300, 300) @ torch.randn(300, 300)
        return result

    monkeypatch.setattr(Restorer, "in_steps", slow)
    viewer.add_image(noise(10, 112, 112))
    progressed, beats = [], []
    timer = QTimer()
    timer.setInterval(50)
    timer.timeout.connect(lambda: beats.append(time.monotonic()))

    started = time.monotonic()
    timer.start()
    deblur.widget.form.overlap.value = 16
    deblur.widget.runs.progressed.connect(lambda event: progressed.append(event.done))
    result = deblur.run()
    took = time.monotonic() - started

    assert result is not None
    assert took > 2  # 40 tiles of 0.05 s at least
    assert len(beats) >= 10, f"{len(beats)} beats in {took:.1f} s"
    assert progressed[-1] == 40
    assert len(progressed) <= took / 0.1 + 2


@pytest.mark.parametrize(
    ("field", "value"),
    [("tile_size", 7), ("overlap", 64), ("axes", "YQ"), ("axes", "ZYX")],
)
def test_a_wrong_setting_shows_the_message_of_the_api(deblur_alone, qtbot, field, value):
    image = noise(80, 80)
    deblur_alone.viewer.add_image(image)
    form, widget = deblur_alone.form, deblur_alone.widget
    qtbot.waitUntil(widget.run_panel.run.isEnabled)
    before = getattr(form, field).value
    getattr(form, field).value = value
    with pytest.raises(SwintormerError) as error:
        prepare(image, form.settings())
    qtbot.waitUntil(lambda: not widget.run_panel.run.isEnabled())
    assert widget.plan_panel.sentence.text() == str(error.value)
    with pytest.raises(SwintormerError, match=re.escape(str(error.value))):
        widget.run()

    getattr(form, field).value = before
    qtbot.waitUntil(widget.run_panel.run.isEnabled)


def test_a_boolean_image_is_refused_with_the_message_of_the_api(deblur_alone):
    mask = noise(40, 40) > 100
    deblur_alone.form.image.value = deblur_alone.viewer.add_image(mask)
    deblur_alone.widget.update_plan()
    with pytest.raises(SwintormerError) as error:
        prepare(mask)
    assert deblur_alone.widget.plan_panel.sentence.text() == str(error.value)


@pytest.mark.parametrize("work", ["run", "preview"])
def test_the_plan_shows_a_time_after_a_single_tile(deblur_alone, work):
    deblur_alone.viewer.add_image(noise(40, 40))
    deblur_alone.widget.update_plan()
    time_of_plan = deblur_alone.widget.plan_panel._figures[1]
    assert time_of_plan.text() == "—"
    assert getattr(deblur_alone, work)() is not None
    deblur_alone.widget.update_plan()
    assert re.fullmatch(r"≈ .*\d.*", time_of_plan.text())


def test_an_error_during_a_run_is_shown_and_leaves_the_viewer_unchanged(deblur_alone):
    deblur_alone.viewer.add_image(noise(64, 64))
    deblur_alone.form.device.value = missing = "mps" if torch.cuda.is_available() else "cuda"

    assert deblur_alone.run() is None

    assert f"device='{missing}'" in deblur_alone.widget.run_panel.message.text()
    assert len(deblur_alone.viewer.layers) == 1
    assert deblur_alone.widget.run_panel.run.isEnabled()


def test_an_unexpected_error_keeps_its_traceback(deblur_alone, monkeypatch):
    def broken(self, tiles, origins):
        raise RuntimeError("the network is broken")

    monkeypatch.setattr(Restorer, "in_steps", broken)
    received = []
    monkeypatch.setattr(
        notification_manager, "receive_error", lambda *error: received.append(error)
    )
    deblur_alone.viewer.add_image(noise(64, 64))

    assert deblur_alone.run() is None

    assert deblur_alone.widget.run_panel.message.text() == "RuntimeError: the network is broken"
    ((kind, error, traceback),) = received
    assert kind is RuntimeError
    assert traceback is error.__traceback__ is not None
    assert len(deblur_alone.viewer.layers) == 1


@pytest.mark.parametrize("unfolded", [False, True])
def test_every_field_has_a_tooltip_and_tab_goes_from_top_to_bottom(deblur_alone, unfolded):
    deblur_alone.viewer.add_image(noise(4, 60, 60))
    widget = deblur_alone.widget
    deblur_alone.form.planes.value = "Range along Z"
    if unfolded:
        deblur_alone.form.more.expand(animate=False)
        deblur_alone.form.tiles.expand(animate=False)
    else:
        deblur_alone.form.more.collapse(animate=False)
    widget.resize(400, 1400)  # no scroll bars
    widget.show()
    widget.update_plan()
    QApplication.processEvents()
    order, child = [], widget.nextInFocusChain()
    while child is not widget:
        by_tab = child.focusPolicy() & Qt.FocusPolicy.TabFocus
        if by_tab and child.isVisible() and child.isEnabled() and widget.isAncestorOf(child):
            order.append(child)
        child = child.nextInFocusChain()
    assert len(order) > (25 if unfolded else 9)
    for field in order:
        explained = field
        while not explained.toolTip() and explained is not widget:
            explained = explained.parentWidget()
        what = getattr(field, "text", field.objectName)()
        assert explained is not widget, what
    places = [field.mapTo(widget, QPoint(0, field.height() // 2)) for field in order]
    rows = [round(place.y() / 12) for place in places]
    assert rows == sorted(rows)
