"""Deblur this view: the region on the screen gets the pixels of the whole run."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.widgets import camera_of, canvas_size, expected, noise
from napari_swintormer.errors import ImageError
from napari_swintormer.plugin.layers import visible_region
from napari_swintormer.plugin.layers.layer_data import LayerSource

pytestmark = pytest.mark.gui


def look_at(viewer, center, zoom):
    camera_of(viewer).center = (0, *center)
    camera_of(viewer).zoom = zoom


@pytest.mark.parametrize("multiscale", [False, True])
def test_the_preview_of_the_view_has_the_pixels_of_the_run(viewer, deblur, qtbot, multiscale):
    image = noise(2, 120, 110)
    data = [image, image[:, ::2, ::2]] if multiscale else image
    layer = viewer.add_image(data, multiscale=multiscale, scale=(2, 0.5, 0.5), translate=(0, 9, 7))
    viewer.dims.set_point(0, 2)
    height, width = canvas_size(viewer)
    look_at(viewer, (9 + 25, 7 + 30), zoom := 16)
    whole = expected(image, axes="ZYX")

    shown = deblur.preview()

    top, left = layer.world_to_data((2, 34 - height / 2 / zoom, 37 - width / 2 / zoom))[1:]
    bottom, right = layer.world_to_data((2, 34 + height / 2 / zoom, 37 + width / 2 / zoom))[1:]
    y0, y1 = max(0, int(top + 0.5)), min(120, int(np.ceil(bottom + 0.5)))
    x0, x1 = max(0, int(left + 0.5)), min(110, int(np.ceil(right + 0.5)))
    assert shown.data.shape == (1, y1 - y0, x1 - x0)
    assert (y1 - y0) * (x1 - x0) < 120 * 110
    np.testing.assert_array_equal(shown.data, whole[1:2, y0:y1, x0:x1])
    np.testing.assert_allclose(
        shown.data_to_world((0, 0, 0)), layer.data_to_world((1, y0, x0)), atol=1e-9
    )

    deblur.form.strength.value = 0.5  # follows without the network
    weaker = expected(image, axes="ZYX", strength=0.5)
    np.testing.assert_array_equal(shown.data, weaker[1:2, y0:y1, x0:x1])
    result = deblur.run()  # takes the place of the preview
    assert shown not in viewer.layers
    np.testing.assert_array_equal(result.data, weaker)


def test_colours_and_the_current_plane(deblur_alone):
    photo = noise(90, 70, 4, dtype="uint8")
    deblur_alone.viewer.add_image(photo, rgb=True)
    shown = deblur_alone.preview()
    assert shown.rgb
    whole = expected(photo)
    region = tuple(
        slice(int(t), int(t) + n)
        for t, n in zip(shown.translate, shown.data.shape[:2], strict=True)
    )
    np.testing.assert_array_equal(shown.data, whole[region])


def test_a_large_view_is_cut_and_a_view_from_the_side_refused(deblur_alone, monkeypatch):
    monkeypatch.setattr(visible_region, "LARGEST_PREVIEW", 30)
    viewer = deblur_alone.viewer
    layer = viewer.add_image(noise(5, 200, 100))
    source = LayerSource.of(layer, "ZYX")
    look_at(viewer, (100, 50), 1)
    assert visible_region.visible_region(viewer, layer, source) == (85, 115, 35, 65)
    look_at(viewer, (5000, 50), 1)
    with pytest.raises(ImageError, match="not on the screen"):
        visible_region.visible_region(viewer, layer, source)
    viewer.dims.order = (1, 0, 2)
    with pytest.raises(ImageError, match="along Z"):
        visible_region.visible_region(viewer, layer, source)
    viewer.dims.ndisplay = 3
    with pytest.raises(ImageError, match="2D view"):
        visible_region.visible_region(viewer, layer, source)


def test_a_selected_rectangle_replaces_the_view(deblur_alone):
    viewer, widget = deblur_alone.viewer, deblur_alone.widget
    image = noise(3, 120, 100)
    layer = viewer.add_image(image, scale=(1, 0.5, 0.5), translate=(0, 9, 7), name="cells")
    viewer.dims.set_point(0, 1)
    corners = np.array([[20, 30], [20, 59], [49, 59], [49, 30]])  # pixels of the image
    shapes = viewer.add_shapes([corners * 0.5 + (9, 7), corners * 0.5 + 500])
    shapes.selected_data = {0}
    widget.update_plan()
    assert widget.run_panel.preview.text() == "Deblur this shape"

    shown = deblur_alone.preview()

    whole = expected(image, axes="ZYX")
    np.testing.assert_array_equal(shown.data, whole[1:2, 20:50, 30:60])
    assert viewer.layers.selection.active == shapes  # stays chosen
    assert widget.compare.layer == shown
    shapes.selected_data = {1}
    with pytest.raises(ImageError, match="outside cells"):
        visible_region.visible_region(viewer, layer, LayerSource.of(layer, "ZYX"))
    shapes.selected_data = set()
    widget.update_plan()
    assert widget.run_panel.preview.text() == "Deblur this view"


def test_the_run_takes_over_the_tiles_of_the_preview(deblur_alone, batches):
    image = noise(100, 100)
    deblur_alone.viewer.add_image(image)
    wanted = expected(image)
    batches.clear()
    look_at(deblur_alone.viewer, (10, 10), 30)
    deblur_alone.preview()
    n_previewed = len(batches)
    result = deblur_alone.run()
    np.testing.assert_array_equal(result.data, wanted)
    n_tiles = deblur_alone.widget.chosen.plan()[0][2].plan.n_tiles
    assert 0 < n_previewed < len(batches) == n_tiles  # none twice
