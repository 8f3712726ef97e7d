"""OME-Zarr images on the web: read chunk by chunk, and deblurred from the command line."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from helpers.web import serving
from napari_swintormer import deblur
from napari_swintormer.cli import app
from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.ome_zarr import describe
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.web_path import WebPath, as_path

PIXELS = np.random.default_rng(0).integers(0, 4000, (2, 40, 70), np.uint16)


@pytest.fixture
def web(tmp_path):
    """Serve a folder with an image of four chunks, with labels, and a collection of two."""
    pytest.importorskip("aiohttp")
    about = describe(
        "", "ZYX", dict.fromkeys("YX", 0.1), dict.fromkeys("YX", "micrometer"), [(1, 1, 1)]
    )
    collection = zarr.open_group(tmp_path / "both.zarr", mode="w")
    collection.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    groups = [collection.create_group(str(number)) for number in range(2)]
    alone = zarr.open_group(tmp_path / "cells.ome.zarr", mode="w")
    labels = alone.create_group("labels")
    labels.attrs["ome"] = {"version": "0.5", "labels": ["nuclei"]}
    for group in (*groups, alone, labels.create_group("nuclei")):
        group.attrs["ome"] = about
        group.create_array("0", data=PIXELS, chunks=(1, 40, 40))
    with serving(tmp_path) as server:
        yield server


def test_only_the_chunks_that_are_used_are_read(web):
    with open_image(f"{web.address}/cells.ome.zarr") as image:
        assert (image.axes, image.name) == ("ZYX", "cells")
        assert image.pixel_size == {"Y": 0.1, "X": 0.1}
        web.asked.clear()
        np.testing.assert_array_equal(image.data[1, 3:9, 50:60], PIXELS[1, 3:9, 50:60])
        assert web.asked == ["/cells.ome.zarr/0/c/1/0/1"]
        np.testing.assert_array_equal(image.data[...], PIXELS)


def test_the_command_line_deblurs_an_address(web, home, tiny_weights, tmp_path):
    address = f"{web.address}/cells.ome.zarr"
    out = tmp_path / "out.ome.zarr"
    flags = ["-m", str(tiny_weights), "--device", "cpu"]
    done = CliRunner().invoke(app, ["deblur", address, str(out), *flags])
    assert done.exit_code == 0, done.output
    with open_image(out) as image:
        expected = deblur(PIXELS, str(tiny_weights), axes="ZYX", device="cpu", progress=False)
        np.testing.assert_array_equal(image.data[...], expected)
        assert image.pixel_size["X"] == pytest.approx(0.1)
    copied = zarr.open_array(out / "labels" / "nuclei" / "0", mode="r")
    np.testing.assert_array_equal(copied[...], PIXELS)
    done = CliRunner().invoke(app, ["deblur", address, str(tmp_path / "out.tif"), *flags])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out.tif"), expected)


def test_images_of_a_collection_are_found_without_a_list_of_the_folder(web):
    with open_image(f"{web.address}/both.zarr", image=2) as image:
        assert image.images == ("0", "1")
        np.testing.assert_array_equal(image.data[...], PIXELS)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.zarr", "is an address without a Zarr array or OME-Zarr image."),
        ("cells.tif", "only OME-Zarr images can be read"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_address(web, name, said):
    address = f"{web.address}/{name}"
    with pytest.raises(FileError, match=f"^{address} .*{said}"):
        open_image(address)


def test_a_connection_that_breaks_is_told(web):
    with open_image(f"{web.address}/cells.ome.zarr") as image:
        web.shutdown()
        web.server_close()
        with pytest.raises(FileError, match=r"cannot be read any more .* Check the connection"):
            image.data[0, 0, 0]


def test_an_address_stays_one_as_a_path():
    address = "https://example.org/a/cells.ome.zarr"
    path = as_path(Path(address))
    assert isinstance(path, WebPath)
    assert (str(path), str(path / "0"), path.name) == (address, f"{address}/0", "cells.ome.zarr")
    assert str(as_path("s3://bucket/x.zarr")) == "s3://bucket/x.zarr"
    for local in ("cells.zarr", "c:/cells.zarr", "/http:/cells.zarr"):
        assert not isinstance(as_path(local), WebPath)
        assert PurePosixPath(as_path(local)) == PurePosixPath(local)
