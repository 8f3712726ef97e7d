"""Layers that the plugin makes are left out of every automatic choice."""

from __future__ import annotations

import pytest

from helpers.widgets import noise
from napari_swintormer.plugin.deblur.deblur_widget import DeblurWidget
from napari_swintormer.plugin.layers.made_layers import kind_of

pytestmark = pytest.mark.gui


def test_own_layers_are_deblurred_only_when_the_user_chooses_one(deblur_alone, qtbot):
    viewer, widget, form = deblur_alone.viewer, deblur_alone.widget, deblur_alone.form
    cells, other = viewer.add_image(noise(60, 64), name="cells"), viewer.add_image(noise(60, 64))
    form.image.value = cells
    preview, result = deblur_alone.preview(), None
    assert kind_of(preview) == "preview"
    result = deblur_alone.run()
    widget.compare.add_difference()
    widget.compare.add_difference()  # takes the place of the first
    # just above the image that they were made of
    assert [kind_of(layer) for layer in viewer.layers] == [None, "result", "difference", None]
    listed = [form.image.choices[i] for i in range(len(form.image.choices))]
    assert listed == [cells, other, result]  # a difference is no image

    viewer.layers.selection = set(viewer.layers)  # Ctrl+A
    assert widget.update_plan()
    assert widget.run_panel.run.text() == "Deblur 2 layers"

    reopened = DeblurWidget(viewer)  # with a result as the active layer
    qtbot.addWidget(reopened)
    viewer.layers.selection.active = result
    assert reopened.form.layer == cells

    form.image.value = result
    assert form.image_facts.text().startswith("Already deblurred.")
    assert widget.update_plan()
    assert widget.run_panel.run.text() == "Deblur all"
    form.image.value = other
    viewer.layers.remove(other)
    assert form.layer == cells
    viewer.layers.remove(cells)
    assert form.layer is None
    assert not widget.update_plan()
    assert widget.plan_panel.sentence.text() == "Choose an image to see the plan."
