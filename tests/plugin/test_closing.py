"""Closing the panel during a run asks; a panel that is opened later takes over what is there."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from helpers.widgets import PATIENCE, closing_button, expected, no_and_yes, noise
from napari_swintormer.plugin.deblur.deblur_widget import DeblurWidget

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("close", ["dock widget", "viewer"])
def test_closing_the_window_asks_and_stops_the_run(
    viewer, deblur, qtbot, batches, monkeypatch, close
):
    asked, shut = no_and_yes(monkeypatch), closing_button(deblur.widget)
    image = viewer.add_image(noise(4, 96, 96))
    whole, n_batches = expected(noise(4, 96, 96)), len(batches)
    batches.clear()
    batches.limit = n_batches // 2 + 1
    deblur.widget.run()
    worker = deblur.widget.runs._worker
    qtbot.waitUntil(lambda: len(batches) == batches.limit, timeout=PATIENCE)
    (viewer.window._qt_window.close if close == "viewer" else shut)()
    assert not worker.abort_requested
    assert asked[0].startswith("A run is going on. Stop it?")
    qtbot.waitUntil(lambda: deblur.widget.runs._current.layer is not None, timeout=PATIENCE)
    (viewer.close if close == "viewer" else shut)()
    assert len(asked) == 2
    assert worker.abort_requested
    batches.limit = None
    qtbot.waitUntil(lambda: not worker.is_running, timeout=PATIENCE)
    assert len(batches) <= n_batches // 2 + 2
    if close == "viewer":
        return

    again = DeblurWidget(viewer)  # Resume, Swipe and Before work
    qtbot.addWidget(again)
    _, result = viewer.layers
    assert again.form.layer == image
    assert again.compare.layer == result
    assert again.compare.swipe.isEnabled()
    assert again.run_panel.resume.isVisibleTo(again)
    with qtbot.waitSignal(again.finished, timeout=PATIENCE):
        qtbot.mouseClick(again.run_panel.resume, Qt.MouseButton.LeftButton)
    np.testing.assert_array_equal(result.data, whole)
    assert len(viewer.layers) == 2


def test_a_later_panel_compares_results_and_previews_of_an_earlier_one(deblur_alone, qtbot):
    viewer, form = deblur_alone.viewer, deblur_alone.form
    image = noise(3, 80, 90)
    viewer.add_image(image)
    form.planes.value = "Current plane"
    result, preview = deblur_alone.run(), None
    form.image.value = viewer.layers[0]
    preview = deblur_alone.preview()
    later = DeblurWidget(viewer)
    qtbot.addWidget(later)
    for layer in (result, preview):
        viewer.layers.selection.active = layer
        assert later.compare.layer == layer
        later.compare.add_difference()
        difference = viewer.layers[-1]
        source = later.compare._sources[layer]
        np.testing.assert_array_equal(
            difference.data, layer.data.astype(np.float32) - np.asarray(source.data, np.float32)
        )
        viewer.layers.remove(difference)
    assert later.preview.layer is preview


def test_messages_about_an_earlier_state_go(deblur_alone):
    viewer, widget = deblur_alone.viewer, deblur_alone.widget
    message = widget.run_panel.message
    widget._preview_if_possible()
    assert message.text().startswith("There is no image")
    first = viewer.add_image(noise(4, 60, 60))
    assert not message.text()
    viewer.dims.ndisplay = 3
    widget._preview_if_possible()
    assert "needs the 2D view" in message.text()
    viewer.dims.ndisplay = 2
    assert not message.text()
    assert deblur_alone.run() is not None
    assert message.text().startswith("Done in")
    deblur_alone.form.image.value = viewer.add_image(noise(50, 60))
    assert not message.text()
    assert first in viewer.layers
