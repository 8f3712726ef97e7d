"""Networks of others on a large photo: the widget and the command line make the same."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import torch
from typer.testing import CliRunner

from helpers.foreign import network_of
from napari_swintormer.cli import app
from napari_swintormer.models.own_models import import_model

pytestmark = [
    pytest.mark.gui,
    pytest.mark.filterwarnings("ignore:torch.meshgrid"),  # in spandrel
]


@pytest.mark.parametrize(
    ("name", "size"),
    [("NAFNet", (700, 1300)), ("Restormer", (300, 700))],  # several tiles; the second is slow
)
def test_widget_and_command_line_agree_on_a_photo(name, size, spandrel, deblur_alone, tmp_path):
    torch.save({"params": network_of(name).state_dict()}, tmp_path / f"{name}.pth")
    import_model(tmp_path / f"{name}.pth")
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    tifffile.imwrite(tmp_path / "photo.tif", photo, photometric="rgb")
    form = deblur_alone.form
    deblur_alone.viewer.add_image(photo, rgb=True)
    form.refresh()
    form.model.value = name
    form.tile_size.value, form.overlap.value = 512, 32

    shown = np.asarray(deblur_alone.run().data)

    command = ["deblur", tmp_path / "photo.tif", tmp_path / "out.tif", "-m", name]
    options = ["--tile-size", 512, "--overlap", 32, "--device", "cpu", "--precision", "fp32"]
    done = CliRunner().invoke(app, [str(word) for word in command + options])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), shown)
    assert shown.shape == photo.shape
    assert (shown != photo).mean() > 0.5
