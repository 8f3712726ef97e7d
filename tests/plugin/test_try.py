"""Comparing settings on the view, measuring its blur, and a folder."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import QEvent, QPointF, QSize, Qt
from qtpy.QtGui import QEnterEvent
from qtpy.QtWidgets import QApplication, QFileDialog, QPushButton
from scipy.ndimage import gaussian_filter

from helpers.tiny import random_network, tiny_prior_card
from helpers.widgets import PATIENCE, docks_of, expected, noise
from napari_swintormer.models.files.weights import save_weights
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.plane_blur import FoundBlur
from napari_swintormer.plugin.deblur.variant_row import VariantRow, coloured, side_for
from napari_swintormer.plugin.deblur.variants import Variant
from napari_swintormer.plugin.layers.visible_region import canvas_view
from napari_swintormer.plugin.shared import work as work_module
from napari_swintormer.plugin.shared.run_panel import ImageProgress

pytestmark = pytest.mark.gui

LOOK = {"rgb": False, "contrast_limits": (0, 1), "colormap": "gray", "gamma": 1.0}


def try_out(deblur, qtbot, button):
    trying = deblur.widget.trying
    shown = {}
    trying.made.connect(lambda made: shown.update({made.number: made.pixels}))
    deblur.widget.update_plan()
    with qtbot.waitSignal(trying.work.ended, timeout=PATIENCE):
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    return [shown[number] for number in sorted(shown)]


def test_strengths_are_shown_side_by_side_and_a_click_shows_one(viewer, deblur, qtbot, batches):
    image = noise(300, 260)
    viewer.add_image(image)
    whole = expected(image)
    batches.clear()
    trying, window = deblur.widget.trying, viewer.window._qt_window
    window.resize(1366, 768)
    qtbot.waitUntil(lambda: window.height() == 768)

    shown = try_out(deblur, qtbot, trying.strengths)

    assert window.height() == 768  # the row does not make a low window grow
    n_batches = len(batches)  # restored once, in the middle
    row = trying.row
    assert [button.text() for button in row.buttons] == ["As it is", "0.5", "1", "1.5", "2"]
    assert "Try on the view" in docks_of(viewer)
    height, width = shown[0].shape
    assert min(height, width) > 128
    y, x = (300 - height) // 2, (260 - width) // 2
    part = np.s_[y : y + height, x : x + width]
    np.testing.assert_array_equal(shown[0], image[part])
    np.testing.assert_array_equal(shown[2], whole[part])
    assert row.buttons[2].isChecked()
    assert row.buttons[3].icon().actualSize(QSize(999, 999)).height() == row.side
    assert [side_for(height) for height in (500, 768, 1080)] == [120, 148, 240]
    camera, canvas = canvas_view(viewer)
    for zoom in (1.0, 2.5):  # the frame follows the camera
        camera.zoom = zoom
        corners = (trying.frame.corners() / (trying.frame.width(), trying.frame.height()) - 0.5)[
            :, ::-1
        ]
        edges = np.array([(y, x), (y + height, x + width)]) - 0.5
        inside = (edges - camera.center[1:]) * zoom / canvas
        np.testing.assert_allclose([corners.min(axis=0), corners.max(axis=0)], inside)
    qtbot.mouseClick(row.buttons[3], Qt.MouseButton.LeftButton)
    assert deblur.form.strength.value == 1.5
    preview = deblur.widget.preview.layer
    assert len(viewer.layers) == 2
    np.testing.assert_array_equal(preview.data, shown[3])
    deblur.form.strength.value = 1  # acts on the preview at once
    np.testing.assert_array_equal(preview.data, whole[part])
    assert len(batches) == n_batches
    qtbot.mouseClick(row.buttons[3], Qt.MouseButton.LeftButton)
    try_out(deblur, qtbot, trying.strengths)  # in place of the first row
    assert trying.row.buttons[3].isChecked()
    viewer.window.remove_dock_widget(trying.row)  # the frame goes with the row
    assert trying.frame is None
    try_out(deblur, qtbot, trying.strengths)
    assert trying.frame is not None
    viewer.window.remove_dock_widget(deblur.widget)
    assert "Try on the view" not in docks_of(viewer)


def test_the_mouse_shows_a_picture_large(qtbot):
    variant = Variant("a", None, 1.0, {})
    row = VariantRow([variant, variant], "YX", LOOK)
    qtbot.addWidget(row)
    row.show()
    row.show_result(0, np.eye(9, 12))
    for number, large in ((1, False), (0, True)):  # the other one is not made yet
        button, place = row.buttons[number], QPointF(5, 5)
        QApplication.sendEvent(button, QEnterEvent(place, place, place))
        assert row.large.isVisible() == large
    assert row.large.pixmap().width() > 240
    QApplication.sendEvent(button, QEvent(QEvent.Type.Leave))
    assert not row.large.isVisible()


def test_models_are_shown_side_by_side(deblur_alone, qtbot, home, model, make_weights):
    other = make_weights("other")
    shutil.copy(other, home / "models")
    (home / "models" / "torn.safetensors").write_bytes(b"\x10")
    deblur_alone.viewer.add_image(noise(90, 70, 3, dtype="uint8"), rgb=True)
    deblur_alone.form.refresh()

    shown = try_out(deblur_alone, qtbot, deblur_alone.widget.trying.models)

    assert [b.text() for b in deblur_alone.widget.trying.row.buttons] == [
        "As it is",
        "other",
        "swintormer",
        "filter",
    ]
    assert len(shown) == 4
    image = deblur_alone.viewer.layers[0].data
    np.testing.assert_array_equal(shown[0], image)
    deblur_alone.widget.trying.row.buttons[1].click()
    assert deblur_alone.form.model.value == "other"
    deblur_alone.widget.trying.row.buttons[0].click()
    assert deblur_alone.form.model.value == "other"
    np.testing.assert_array_equal(deblur_alone.widget.preview.layer.data, image)
    qtbot.addWidget(deblur_alone.widget.trying.row)


def test_steps_of_the_prior_are_shown_side_by_side(deblur_alone, qtbot, home):
    card = tiny_prior_card().model_copy(update={"name": "with-prior"})
    file = home / "models" / "with-prior.safetensors"
    save_weights(file, random_network(card).state_dict(), card)
    form, trying = deblur_alone.form, deblur_alone.widget.trying
    deblur_alone.viewer.add_image(noise(60, 70))
    form.refresh()
    assert not trying.steps.isVisibleTo(deblur_alone.widget)
    form.model.value = "with-prior"

    shown = try_out(deblur_alone, qtbot, trying.steps)

    qtbot.addWidget(trying.row)
    labels = [button.text() for button in trying.row.buttons]
    assert labels == ["As it is", "No prior", "1 step", "2 steps", "4 steps", "8 steps"]
    assert not np.array_equal(shown[0], shown[1])
    trying.row.buttons[3].click()
    assert (form.num_inference_steps.value, form.settings().num_inference_steps) == (2, 2)
    trying.row.buttons[1].click()
    assert form.settings().prior == "off"


def test_a_picture_has_the_colours_of_its_layer(deblur_alone):
    layer = deblur_alone.viewer.add_image(
        np.array([[[0, 100], [200, 50]]]), colormap="red", contrast_limits=(0, 100)
    )
    look = layer.as_layer_data_tuple()[1]
    drawn = coloured(layer.data, "ZXY", look)  # Y and X the other way round
    assert drawn.tolist() == [[[0, 0, 0], [255, 0, 0]], [[255, 0, 0], [128, 0, 0]]]


def test_the_blur_of_the_view_is_described_and_mapped(deblur_alone, qtbot):
    y, x = np.mgrid[:256, :256]
    sharp = 100 * ((y // 24 + x // 24) % 2) + noise(256, 256) / 100
    image = np.concatenate([sharp[:, :128], gaussian_filter(sharp, 3)[:, 128:]], 1)[np.newaxis]
    viewer, blur = deblur_alone.viewer, deblur_alone.widget.blur
    layer = viewer.add_image(image.astype("float32"), scale=(1, 2, 0.5), translate=(0, 5, 7))
    viewer._canvas_size = (4000, 4000)
    deblur_alone.form.blur.expand(animate=False)

    with qtbot.waitSignal(blur.work.ended, timeout=PATIENCE) as found:
        qtbot.mouseClick(blur.map, Qt.MouseButton.LeftButton)

    assert deblur_alone.widget.run_panel.message.text() == found.args[0].describe()
    shown = viewer.layers[-1]
    assert shown.name.endswith("blur")
    for corner in ((-0.5, -0.5), (-0.5, 255.5), (255.5, -0.5)):
        large = [(c + 0.5) / 64 - 0.5 for c in corner]
        np.testing.assert_allclose(
            shown.data_to_world((0, *large)), layer.data_to_world((0, *corner)), atol=1e-5
        )
    assert np.nanmax(shown.data[0, :, 0]) < np.nanmin(shown.data[0, :, 3])


def test_a_blur_that_changes_is_a_layer_of_its_radius(deblur_alone, qtbot):
    viewer, blur = deblur_alone.viewer, deblur_alone.widget.blur
    layer = viewer.add_image(noise(128, 192).astype("float32"), scale=(2, 0.5), translate=(5, 7))
    viewer._canvas_size = (4000, 4000)
    deblur_alone.form.blur.expand(animate=False)
    radii = np.array([[0, 1, 2.5], [0.5, 3, 4]])
    shares = np.stack([np.ones((2, 3)), np.zeros((2, 3))])
    places = (31.5, 31.5), (64.0, 64.0)
    field = BlurField.of((Blur.none(), Blur.disk(2)), *places, shares, radii)
    view = blur._in_view()
    job = view.source.plan(deblur_alone.form.settings_with_blur("auto"))
    assert job.found_at(view.position) is None
    blur.measured = replace(job, found={0: FoundBlur.of_field(field)})

    qtbot.mouseClick(blur.map, Qt.MouseButton.LeftButton)

    assert "from place to place" in deblur_alone.widget.run_panel.message.text()
    shown = viewer.layers[-1]
    np.testing.assert_allclose(shown.data, radii)
    for row, column in ((0, 0), (1, 2)):
        place = layer.data_to_world((31.5 + 64 * row, 31.5 + 64 * column))
        np.testing.assert_allclose(shown.data_to_world((row, column)), place)


def open_dialog(panel, qtbot):
    """Open the dialog for a folder, and choose the folder that the file dialog returns."""
    qtbot.mouseClick(panel.choose, Qt.MouseButton.LeftButton)
    assert not panel.dialog.begin.isEnabled()
    (choose, *_) = (b for b in panel.dialog.findChildren(QPushButton) if b.text() == "…")
    choose.click()
    return panel.dialog


def test_the_dialog_for_a_folder_says_what_is_left_out(deblur_alone, qtbot, tmp_path, monkeypatch):
    src = tmp_path / "blurred"
    (src / "further").mkdir(parents=True)
    (tmp_path / "blurred-deblurred").mkdir()
    for name in "abc":
        tifffile.imwrite(src / f"{name}.tif", noise(60, 70))
    shutil.copy(src / "a.tif", tmp_path / "blurred-deblurred")
    (src / "b.tif").write_bytes(b"II*\0 torn")
    (src / "notes.txt").write_text("no image")
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(src))
    dialog = open_dialog(deblur_alone.widget.folder, qtbot)
    qtbot.waitUntil(lambda: dialog.begin.text() == "Deblur 1 image", timeout=PATIENCE)
    assert dialog.facts.text() == "1 image to deblur, the time is unknown before the first run."
    said = dialog.details.text().splitlines()
    assert said[0] == "Skipped, because they have a result: a.tif."
    assert said[1] == "Skipped, because they cannot be deblurred: 1 file."
    assert said[2].startswith("b.tif: ")
    assert said[3] == "Left out, because they are no images: further, notes.txt."
    dialog.dst.value = str(src)
    qtbot.waitUntil(lambda: "is the folder of the images" in dialog.facts.text(), timeout=PATIENCE)
    assert not dialog.begin.isEnabled()
    dialog.reject()
    assert not deblur_alone.widget.folder.work.running


def test_a_folder_is_deblurred_from_the_widget(deblur_alone, qtbot, tmp_path, monkeypatch):
    src, dst = tmp_path / "blurred", tmp_path / "sharper"
    src.mkdir()
    for name in "ab":
        tifffile.imwrite(src / f"{name}.tif", noise(60, 70))
    lines, shares = [], []
    monkeypatch.setitem(work_module.PAUSES, ImageProgress, 0.0)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(src))
    panel = deblur_alone.widget.folder
    panel.work.progressed.connect(lambda event: shares.append(event.share))
    panel.work.progressed.connect(
        lambda _: lines.append(deblur_alone.widget.run_panel.progress_text.text())
    )
    dialog = open_dialog(panel, qtbot)
    assert dialog.dst.value == f"{src}-deblurred"  # proposed
    assert not dst.exists()
    dialog.dst.value = str(dst)
    qtbot.waitUntil(lambda: "2 images" in dialog.begin.text(), timeout=PATIENCE)
    with qtbot.waitSignal(panel.work.ended, timeout=PATIENCE) as done:
        qtbot.mouseClick(dialog.begin, Qt.MouseButton.LeftButton)
        assert not panel.choose.isEnabled()
        assert deblur_alone.widget.run_panel.cancel.isVisibleTo(deblur_alone.widget)
    assert done.args == [True]
    whole = expected(noise(60, 70))
    np.testing.assert_array_equal(tifffile.imread(dst / "b.tif"), whole)
    assert panel.choose.isEnabled()
    assert {"Image 1 of 2: a.tif", "Image 2 of 2: b.tif"} <= set(lines)  # and no tiles
    assert shares == sorted(shares)  # one bar over all
    assert (shares[0], shares[-1]) == (0.0, 1.0)
