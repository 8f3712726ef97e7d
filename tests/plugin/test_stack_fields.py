"""The Stack section: shown for stacks, filled from the layer, and a volume in the viewer."""

from __future__ import annotations

import numpy as np
import pytest

from napari_swintormer import deblur
from napari_swintormer.plugin.deblur.deblur_widget import DeblurWidget

NUMBERS = {"na": 0.8, "immersion": "air", "wavelength": 500.0}


@pytest.fixture
def stack():
    rng = np.random.default_rng(0)
    image = rng.poisson(20, (5, 40, 48)).astype(np.uint16) + 100
    image[2, 15:25, 20:23] += 2000
    return image


@pytest.fixture
def widget(make_napari_viewer, stack):
    viewer = make_napari_viewer()
    viewer.add_image(stack, scale=(0.8, 0.3, 0.3), units=("um",) * 3, axis_labels=("z", "y", "x"))
    widget = DeblurWidget(viewer)
    viewer.window.add_dock_widget(widget)
    return widget


@pytest.mark.gui
def test_the_section_takes_voxels_from_the_layer_and_names_what_is_missing(widget):
    section = widget.form.stack
    assert not section.isHidden()
    assert section.pixel_size.value == pytest.approx(0.3)
    assert section.z_step.value == pytest.approx(0.8)
    assert "NA, Immersion, Wavelength" in section.facts.text()
    assert widget.form.settings().depth == "planes"
    for name, value in NUMBERS.items():
        section.field(name).value = value
    settings = widget.form.settings()
    assert (settings.depth, settings.na, settings.immersion) == ("volume", 0.8, "air")
    section.depth.value = "planes"
    assert widget.form.settings().depth == "planes"
    widget._viewer.add_image(np.zeros((20, 20), np.uint8), name="flat")
    widget.form.refresh()
    widget.form.image.value = widget._viewer.layers["flat"]
    assert section.isHidden()
    assert widget.form.settings().depth == "auto"


@pytest.mark.gui
def test_a_volume_in_the_viewer_equals_that_of_the_api(widget, stack, qtbot):
    for name, value in NUMBERS.items():
        widget.form.stack.field(name).value = value
    widget.form.stack.iterations.value = 3
    with qtbot.waitSignal(widget.runs.ended, timeout=60_000):
        widget.run()
    expected = deblur(
        stack, axes="ZYX", pixel_size=0.3, z_step=0.8, iterations=3, depth="volume", **NUMBERS
    )
    (result,) = (layer for layer in widget._viewer.layers if layer.name.endswith("· volume"))
    np.testing.assert_array_equal(result.data, expected)
    assert result.metadata["swintormer"]["model"] == "Richardson-Lucy 3-D"


@pytest.mark.gui
def test_the_psf_is_drawn_when_the_section_is_open(widget, qtbot):
    section = widget.form.stack
    for name, value in NUMBERS.items():
        section.field(name).value = value
    assert section.picture.pixmap().isNull()
    section.expand(animate=False)
    qtbot.waitUntil(lambda: not section.picture.pixmap().isNull(), timeout=10_000)
