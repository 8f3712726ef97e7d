"""A model of two views in a real viewer: its second layer is asked for, and taken everywhere."""

from __future__ import annotations

import shlex
import shutil

import numpy as np
import pytest
import tifffile

from helpers.tiny import tiny_card
from helpers.widgets import camera_of, expected
from napari_swintormer.errors import SwintormerError
from napari_swintormer.plugin.deblur.deblur_fields import CURRENT_PLANE
from napari_swintormer.plugin.deblur.scripts import as_command, as_python

pytestmark = pytest.mark.gui


@pytest.fixture
def dual(model, home, make_weights):
    network = tiny_card().network.model_copy(update={"views": 2})
    path = make_weights("dual", network=network, views=("right", "left"))
    return shutil.copy(path, home / "models" / "dual.safetensors")


def test_the_second_view_is_a_second_layer(dual, deblur_alone, tmp_path, qtbot):
    viewer = deblur_alone.viewer
    stacks = [np.random.default_rng(n).integers(90, 60_000, (2, 96, 80), np.uint16) for n in (1, 2)]
    for name, stack in zip(("right", "left"), stacks, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, imagej=True, metadata={"axes": "ZYX"})
        viewer.open(tmp_path / f"{name}.tif", plugin="napari-swintormer", name=name)
    right, left = viewer.layers
    form, widget = deblur_alone.form, deblur_alone.widget
    form.image.value = right
    assert form.second_view.native.isHidden()
    form.model.value = "dual"
    assert not form.second_view.native.isHidden()
    assert "left view" in form.second_facts.text()
    assert not widget.update_plan()
    assert "the left view as second_view" in widget.plan_panel.sentence.text()
    form.second_view.value = right
    with pytest.raises(SwintormerError, match="chosen for both views"):
        widget.run()
    form.second_view.value = left
    viewer.layers.selection = {right, left}
    assert widget.update_plan()

    wanted = expected(stacks[0], model="dual", axes="ZYX", second_view=stacks[1])
    camera_of(viewer).zoom = 20
    viewer.dims.set_point(0, 1)
    preview = deblur_alone.preview()
    place = tuple(round(n) for n in preview.translate[1:])
    height, width = preview.data.shape[1:]
    shown = wanted[1:, place[0] : place[0] + height, place[1] : place[1] + width]
    np.testing.assert_array_equal(preview.data, shown)
    result = deblur_alone.run()
    np.testing.assert_array_equal(result.data, wanted)
    assert [layer.name for layer in viewer.layers] == ["right", "right · dual", "left"]

    made = result.metadata["swintormer"]["run"]
    namespace = {"viewer": viewer}
    viewer.layers.remove(result)
    exec(as_python(made), namespace)
    np.testing.assert_array_equal(namespace["result"], wanted)
    words = shlex.split(as_command(made))
    assert words[words.index("--second-view") + 1] == str(tmp_path / "left.tif")

    form.planes.value = CURRENT_PLANE
    form.image.value = right
    np.testing.assert_array_equal(deblur_alone.run().data, wanted[1:])
    form.planes.value = "All planes"
    form.save_to.value = str(tmp_path / "out.ome.tif")
    deblur_alone.run()
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.ome.tif"), wanted)

    form.model.value = "swintormer"
    assert form.second_view.native.isHidden()
    assert form.second_layer is None
    assert widget.update_plan()


def test_a_folder_asks_for_that_of_the_second_views(dual, deblur_alone, tmp_path, qtbot):
    views = [np.random.default_rng(n).integers(90, 60_000, (40, 50), np.uint16) for n in (1, 2)]
    for name, view in zip("rl", views, strict=True):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", view)
    deblur_alone.form.model.value = "dual"
    folder = deblur_alone.widget.folder
    folder.choose.click()
    dialog = folder.dialog
    assert "left views" in dialog.second.tooltip
    dialog.src.value, dialog.dst.value = str(tmp_path / "r"), str(tmp_path / "out")
    dialog.second.value = str(tmp_path / "l")
    qtbot.waitUntil(dialog.begin.isEnabled, timeout=20_000)
    with qtbot.waitSignal(folder.work.ended, timeout=60_000) as ended:
        dialog.begin.click()
    assert ended.args == [True]
    wanted = expected(views[0], model="dual", second_view=views[1])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.tif"), wanted)
