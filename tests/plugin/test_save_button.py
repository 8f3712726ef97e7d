"""The button that saves a result: the right layer, with its EXIF data, and nothing replaced."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
from qtpy.QtWidgets import QFileDialog

from helpers.widgets import PATIENCE, noise
from napari_swintormer.imaging.formats.reading import open_image

pytestmark = pytest.mark.gui
ARTIST = 315  # EXIF


@pytest.fixture
def photo(tmp_path):
    """Write a photo with EXIF data."""
    exif = PIL.Image.Exif()
    exif[ARTIST] = "me"
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(noise(60, 50, 3, dtype="uint8")).save(path, exif=exif)
    return path


def test_the_button_saves_the_result_with_what_the_photo_held(
    deblur_alone, photo, qtbot, monkeypatch
):
    (layer,) = deblur_alone.viewer.open(photo, plugin="napari")  # a reader that knows no EXIF
    panel = deblur_alone.widget.saving
    assert not panel.save.isEnabled()
    deblur_alone.preview()
    assert not panel.save.isEnabled()
    result = deblur_alone.run()
    deblur_alone.widget.compare.add_difference()
    assert deblur_alone.viewer.layers.selection.active != result
    answers, asked = [], []

    def ask(_parent, _title, proposed, *_):
        asked.append(proposed)
        return answers.pop(), "PNG (*.png)"

    monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)
    folder, said = photo.parent, []
    panel.said.connect(lambda text, error: said.append((text, error)))

    def save(answer):
        answers.append(answer)
        with qtbot.waitSignal(panel.work.ended, timeout=PATIENCE):
            panel.save.click()
        return said[-1]

    target = folder / "photo_swintormer.png"
    assert save(str(target)) == (f"Saved as {target}.", False)
    assert asked == [str(target)]
    with open_image(target) as written:
        np.testing.assert_array_equal(written.data[...], result.data)
    with PIL.Image.open(target) as file:
        assert file.getexif()[ARTIST] == "me"

    # the dialog did not ask about the name with the suffix that is added
    text, error = save(str(folder / "photo_swintormer"))
    assert error
    assert "exists already" in text
    before = photo.read_bytes()
    text, error = save(str(photo))
    assert error
    assert "is the input itself" in text
    assert photo.read_bytes() == before
    assert layer in deblur_alone.viewer.layers
