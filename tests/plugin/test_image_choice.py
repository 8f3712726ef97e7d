"""A file that holds several images: the viewer names all, and opens the one that is chosen."""

from __future__ import annotations

import shlex

import numpy as np
import pytest
import tifffile
from napari.components import ViewerModel
from napari.utils.notifications import notification_manager
from PIL import Image
from qtpy.QtWidgets import QApplication

from napari_swintormer.plugin import reader
from napari_swintormer.plugin.deblur.scripts import as_command, run_record
from napari_swintormer.plugin.image_choice import IMAGE_NUMBER, ImageChoice
from napari_swintormer.settings.deblur_settings import DeblurSettings

PLUGIN = "napari-swintormer"


@pytest.fixture
def positions(tmp_path):
    """Write an OME-TIFF of three positions, of which the last two have the same shape."""
    with tifffile.TiffWriter(tmp_path / "plate.ome.tif") as file:
        for k, name in enumerate(("overview", "cell A", "cell B")):
            pixels = np.full((40 if k else 60, 50), k + 1, np.uint16)
            file.write(pixels, metadata={"axes": "YX", "Name": name})
    return str(tmp_path / "plate.ome.tif")


def test_a_combo_box_opens_any_image_of_a_file(viewer, positions, qtbot, tmp_path):
    viewer.open(positions, plugin=PLUGIN)
    assert [layer.name for layer in viewer.layers] == ["plate overview"]
    said = notification_manager.records[-1].message
    assert "3 images (1 overview, 2 cell A, 3 cell B)" in said
    assert "Image 1 is open" in said
    (choice,) = (w for w in QApplication.allWidgets() if isinstance(w, ImageChoice))
    names = [choice.combo.itemText(i) for i in range(choice.combo.count())]
    assert names == ["1 overview", "2 cell A", "3 cell B"]
    for index in (2, 0, 2):
        choice.combo.setCurrentIndex(index)
    first, third = viewer.layers
    assert (first.visible, third.visible) == (False, True)
    assert third.name == "plate cell B"
    assert third.source.path == positions
    assert third.metadata[IMAGE_NUMBER] == 3
    assert np.all(np.asarray(third.data) == 3)
    viewer.open(positions, plugin=PLUGIN)  # no second combo box
    assert sum(isinstance(w, ImageChoice) for w in QApplication.allWidgets()) == 1
    choice._path = str(tmp_path / "gone.tif")
    choice.combo.setCurrentIndex(1)
    for word in ("gone.tif", "does not exist"):
        assert word in choice.message.text()
    assert choice.combo.currentIndex() == 2


def test_the_command_of_a_chosen_image_names_it(positions, monkeypatch):
    monkeypatch.setattr(reader, "chosen_number", lambda: 3)
    ((data, arguments, _),) = reader.read(positions)
    layer = ViewerModel().add_image(data, **arguments)
    record = run_record(layer, DeblurSettings(axes="YX")) | {"path": positions}
    words = shlex.split(as_command(record))
    assert words[words.index("--image") + 1] == "3"


def test_frames_of_an_animation_are_told_without_a_window(tmp_path):
    frames = [Image.fromarray(np.full((8, 9, 3), 9 * k, np.uint8)) for k in range(25)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    ((_, arguments, _),) = reader.read(str(tmp_path / "a.webp"))
    assert arguments["name"] == "a frame 1"
    said = notification_manager.records[-1].message
    assert "25 images (1 frame 1, 2 frame 2" in said
    assert "and 5 more" in said
