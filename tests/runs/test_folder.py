"""A run over a folder: image by image, resumed, failures named at last."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import tifffile
from PIL import Image
from typer.testing import CliRunner

import napari_swintormer
from napari_swintormer.cli import app
from napari_swintormer.errors import FileError, OutputError
from napari_swintormer.events import Notice, Progress
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.runs.folder import FolderRun
from napari_swintormer.settings.deblur_settings import DeblurSettings


def noise(*shape, dtype="uint16"):
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


@pytest.fixture
def folder(tmp_path):
    src = tmp_path / "blurred"
    src.mkdir()
    tifffile.imwrite(src / "a.tif", noise(70, 80))
    Image.fromarray(noise(60, 64, 3, dtype="uint8")).save(src / "b.png")
    Image.fromarray(noise(60, 64, dtype="uint8")).save(src / "b.jpg")
    (src / "c.tif").write_bytes(b"II*\0 torn")
    (src / "notes.txt").write_text("no image")
    (src / "further").mkdir()
    return src


@pytest.fixture
def settings(tiny_weights):
    return DeblurSettings(model=str(tiny_weights), device="cpu", precision="fp32")


def count_images(run, counted):
    """Run, and keep what is told of the images."""
    for event in run.events():
        if isinstance(event, Progress) and event.unit == "images":
            counted.append(event.done)


def test_every_image_is_deblurred_and_failures_are_named_at_last(folder, settings, tmp_path):
    run = FolderRun(folder, tmp_path / "out", settings)
    counted: list[int] = []
    with pytest.raises(FileError, match="1 of 4 images") as error:
        count_images(run, counted)
    assert counted == [1, 2, 3, 4]
    assert "\nc.tif: " in str(error.value)
    assert sorted(path.name for path in run.dst.iterdir()) == ["a.tif", "b.jpg.png", "b.png"]
    with open_image(run.dst / "a.tif") as made:
        whole = napari_swintormer.deblur(
            noise(70, 80), model=settings.model, device="cpu", precision="fp32"
        )
        np.testing.assert_array_equal(made.data[...], whole)


def test_a_stopped_folder_run_is_resumed(folder, settings, tmp_path):
    (folder / "c.tif").unlink()
    run = FolderRun(folder, tmp_path / "out", settings)
    with closing(run.events()) as events:
        for event in events:
            if isinstance(event, Notice) and event.message.startswith("b.png"):
                break
    before = {path: path.stat().st_mtime_ns for path in run.dst.glob("[ab]*")}
    assert len(before) == 2
    assert "2 of them done already" in run.describe()
    list(run.events())
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert len(list(run.dst.glob("*"))) == 3


def test_a_folder_without_images_and_the_same_folder_are_refused(folder, settings, tmp_path):
    with pytest.raises(OutputError, match="Choose another folder"):
        FolderRun(folder, folder, settings).describe()
    with pytest.raises(FileError, match="holds no TIFF"):
        FolderRun(folder / "further", tmp_path / "out", settings).describe()


def test_the_command_line_takes_folders(folder, settings, tmp_path):
    arguments = ["deblur", str(folder), str(tmp_path / "out"), "--model", settings.model]
    plan = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert plan.output.startswith("4 images from")
    assert not (tmp_path / "out").exists()
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--precision", "fp32"])
    assert done.exit_code == 2
    assert "c.tif" in done.output
    assert (tmp_path / "out" / "b.png").exists()


def test_several_images_and_folders_go_into_one_folder(folder, settings, tmp_path):
    (folder / "c.tif").unlink()
    for name in ("a.tif", "z.tif"):
        tifffile.imwrite(tmp_path / name, noise(40, 50))
    out = tmp_path / "out"
    run = FolderRun((tmp_path / "z.tif", folder, tmp_path / "a.tif", folder), out, settings)
    list(run.events())
    names = ["a-2.tif", "a.tif", "b.jpg.png", "b.png", "z.tif"]
    assert sorted(path.name for path in out.iterdir()) == names
    for name, shape in [("a.tif", (70, 80)), ("a-2.tif", (40, 50))]:
        with open_image(out / name) as made:
            assert made.data.shape == shape
    assert "5 images to" in run.describe()
    assert "5 of them done already" in run.describe()


def test_a_file_is_no_place_for_several_results(folder, settings, tmp_path):
    for dst in (folder / "a.tif", tmp_path / "new.tif"):
        with pytest.raises(OutputError, match="Give a folder"):
            FolderRun((folder / "b.png", folder / "b.jpg"), dst, settings).describe()
