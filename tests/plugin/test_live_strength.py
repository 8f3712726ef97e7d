"""The strength acts on the finished result, without the network."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtGui import QGuiApplication

from helpers.widgets import expected, noise
from napari_swintormer.plugin.layers import layer_result

pytestmark = pytest.mark.gui


@pytest.mark.parametrize("kind", ["stack", "colours"])
def test_the_result_follows_the_slider_to_the_pixels_of_a_run(deblur_alone, qtbot, batches, kind):
    image = noise(3, 70, 80) if kind == "stack" else noise(70, 80, 4, dtype="uint8")
    viewer, form, widget = deblur_alone.viewer, deblur_alone.form, deblur_alone.widget
    viewer.add_image(image, rgb=kind == "colours", name="cells")
    viewer.dims.set_point(0, 1) if kind == "stack" else None
    result = deblur_alone.run()
    widget.compare.add_difference()
    viewer.layers.selection.active = result
    axes = "ZYX" if kind == "stack" else "YXS"
    for strength in (0.5, 2.0, 0.0):
        wanted = expected(image, axes=axes, strength=strength)
        batches.clear()
        with qtbot.waitSignal(widget.live.blended):
            form.strength.value = strength
        assert not batches
        np.testing.assert_array_equal(result.data, wanted)
        made = result.metadata["swintormer"]
        assert made["settings"]["strength"] == strength
        words = ["cells", "swintormer", f"{strength:g}x"]
        assert result.name == " · ".join(words)
        change = viewer.layers[f"{result.name}, difference"].data
        assert bool(np.any(change)) is (strength > 0)
    result.name = "mine"
    with qtbot.waitSignal(widget.live.blended):
        form.strength.value = 1.0
    assert result.name == "mine"  # a name of the user stays
    with qtbot.waitSignal(widget.live.blended):
        form.strength.value = 0.0
    widget.copying.python.click()
    assert "strength=0.0" in QGuiApplication.clipboard().text()


def test_a_result_without_its_changes_says_what_to_press(deblur_alone, monkeypatch):
    monkeypatch.setattr(layer_result, "changes_fit_in_memory", lambda _: False)
    deblur_alone.viewer.add_image(noise(60, 64))
    result = deblur_alone.run()
    before = result.data.copy()
    deblur_alone.form.strength.value = 0.5
    np.testing.assert_array_equal(result.data, before)
    assert "Press Deblur all" in deblur_alone.widget.run_panel.message.text()
