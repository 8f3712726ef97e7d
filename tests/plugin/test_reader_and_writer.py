"""The reader and the writer: lazy, with axes, pixel sizes, channels and pyramids."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from napari.components import ViewerModel
from npe2 import PluginManager

from helpers.web import serving
from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.ome_zarr import describe
from napari_swintormer.imaging.store.result import ResultStore
from napari_swintormer.plugin import reader
from napari_swintormer.plugin.deblur.scripts import as_command, run_record
from napari_swintormer.plugin.layers import writer
from napari_swintormer.plugin.layers.layer_data import CARRIED
from napari_swintormer.settings.deblur_settings import DeblurSettings

PLUGIN = "napari-swintormer"


def test_only_the_shown_part_of_a_large_flat_tiff_is_read(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 9999, (300, 200)).astype("uint16")
    tifffile.imwrite(tmp_path / "flat.tif", image)
    monkeypatch.setattr(reader, "LARGEST_TEXTURE", 250)
    monkeypatch.setattr(reader, "_OVERVIEW", 80)
    monkeypatch.setattr(reader, "_CHUNK", 64)
    pixels, get = [], FlatArray.__getitem__

    def counting(self, index):
        pixels.append(get(self, index).size)
        return get(self, index)

    monkeypatch.setattr(FlatArray, "__getitem__", counting)
    ((levels, arguments, kind),) = reader.get_reader(str(tmp_path / "flat.tif"))(
        str(tmp_path / "flat.tif")
    )
    assert not pixels
    assert kind == "image"
    assert arguments["multiscale"]
    assert [level.shape for level in levels] == [(300, 200), (150, 100), (75, 50)]
    np.testing.assert_array_equal(levels[0][:10, :10], image[:10, :10])
    assert sum(pixels) <= 64 * 64
    np.testing.assert_array_equal(levels[2], image[::4, ::4])


def test_channels_have_the_names_and_colours_of_the_file_and_keep_them(tmp_path):
    image = np.random.default_rng(0).integers(0, 99, (2, 20, 30)).astype("uint16")
    channels = {"Name": ["DAPI", "GFP"], "Color": [65535, 16711935]}
    source, saved = str(tmp_path / "a.ome.tif"), str(tmp_path / "b.ome.tif")
    tifffile.imwrite(source, image, metadata={"axes": "CYX", "Channel": channels})
    ((data, arguments, _),) = reader.read(source)
    viewer = ViewerModel()
    layers = viewer.add_image(data, **arguments)
    assert [layer.name for layer in layers] == ["a DAPI", "a GFP"]
    np.testing.assert_array_equal(layers[0].colormap.colors[-1], [0, 0, 1, 1])
    writer.write(saved, *layers[1].as_layer_data_tuple()[:2])
    with tifffile.TiffFile(saved) as tiff:
        xml = tiff.ome_metadata
    assert 'Name="GFP"' in xml
    assert "DAPI" not in xml


def test_axes_pixel_sizes_and_channels_of_an_ome_tiff_reach_the_layer(tmp_path):
    image = np.random.default_rng(0).integers(0, 99, (2, 3, 4, 20, 30)).astype("uint16")
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", image, metadata={"axes": "TCZYX", **sizes}, compression="zlib"
    )
    ((data, arguments, _),) = reader.read(str(tmp_path / "a.ome.tif"))
    np.testing.assert_array_equal(data, image)
    carried = [metadata[CARRIED] for metadata in arguments.pop("metadata")]
    assert [part.native["OME-XML"].spans["C"] for part in carried] == [(0, 1), (1, 2), (2, 3)]
    assert arguments == {
        "name": "a",
        "scale": [1.0, 0.5, 0.1, 0.1],
        "units": ["pixel", "micrometer", "micrometer", "micrometer"],
        "axis_labels": ["t", "z", "y", "x"],
        "channel_axis": 1,
        "cache": False,
        "multiscale": False,
    }


def test_the_pyramid_of_a_file_becomes_the_levels_of_the_layer(tmp_path):
    photo = np.random.default_rng(0).integers(0, 255, (256, 192, 3)).astype("uint8")
    with tifffile.TiffWriter(tmp_path / "slide.tif") as tiff:
        options = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib"}
        tiff.write(photo, subifds=1, **options)
        tiff.write(photo[::4, ::4], subfiletype=1, **options)
    stack = np.random.default_rng(1).integers(0, 255, (2, 1500, 40)).astype("uint16")
    store = ResultStore.create(
        tmp_path / "stack.zarr", stack.shape, stack.dtype, "ZYX", 512, {}, pixel_size={"Z": 2.0}
    )
    store.array[:] = stack
    store.finish()

    for path, image, coarse in (
        (tmp_path / "slide.tif", photo, photo[::4, ::4]),
        (tmp_path / "stack.zarr", stack, None),
    ):
        ((levels, arguments, _),) = reader.read(str(path))
        assert arguments["multiscale"]
        assert len(levels) == 2
        np.testing.assert_array_equal(levels[0], image)
        if coarse is not None:
            np.testing.assert_array_equal(levels[1], coarse)
            assert arguments["rgb"]
        else:
            assert levels[1].shape == (2, 750, 20)
            assert arguments["scale"] == [2.0, 1.0, 1.0]


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
@pytest.mark.parametrize("kind", ["stack", "photo"])
def test_a_saved_layer_opens_with_the_same_pixels_and_axes(tmp_path, suffix, kind, monkeypatch):
    PluginManager.instance().discover()  # which only a viewer with a window does by itself
    monkeypatch.setattr(
        "napari_swintormer.imaging.store.sharding._MANY_CHUNKS", 6
    )  # so has the stack
    viewer = ViewerModel()
    if kind == "stack":
        image = np.random.default_rng(0).integers(0, 999, (3, 1300, 40)).astype("uint16")
        look = {"scale": (2, 0.5, 0.25), "units": ("um",) * 3, "axis_labels": ("t", "y", "x")}
        look["units"] = ("s", "um", "um")
        layer = viewer.add_image([da.from_array(image), image[:, ::2, ::2]], **look)
    else:
        image = np.random.default_rng(0).integers(0, 255, (50, 40, 3)).astype("uint8")
        layer = viewer.add_image(image, rgb=True)
    path = tmp_path / f"saved{suffix}"
    for _ in range(2):  # the second replaces the first
        assert layer.save(str(path), plugin=PLUGIN) == [str(path)]
    assert [file.name for file in tmp_path.iterdir() if "home" not in file.name] == [path.name]
    ((data, arguments, _),) = reader.read(str(path))
    np.testing.assert_array_equal(data[0] if arguments["multiscale"] else data, image)
    if kind == "stack":
        assert arguments["multiscale"] is (suffix == ".ome.zarr")
        if suffix == ".ome.zarr":
            assert zarr.open_group(path, mode="r")["0"].shards == (3, 2048, 40)
        assert arguments["scale"] == [2.0, 0.5, 0.25]
        assert arguments["units"] == ["second", "micrometer", "micrometer"]
        assert arguments["axis_labels"] == ["t", "y", "x"]
    else:
        assert arguments["rgb"]


def test_an_image_on_the_web_opens_lazily_and_its_run_can_be_copied(tmp_path):
    pytest.importorskip("aiohttp")
    PluginManager.instance().discover()
    pixels = np.random.default_rng(0).integers(0, 999, (2, 40, 70)).astype("uint16")
    group = zarr.open_group(tmp_path / "cells.ome.zarr", mode="w")
    scale = {"Z": 2.0, "Y": 0.5, "X": 0.25}
    group.attrs["ome"] = describe("", "ZYX", scale, dict.fromkeys("ZYX", "micrometer"), [(1,) * 3])
    group.create_array("0", data=pixels, chunks=(1, 40, 40))
    with serving(tmp_path) as server:
        address = f"{server.address}/cells.ome.zarr"
        (layer,) = ViewerModel().open(address, plugin=PLUGIN)
        assert isinstance(layer.data, da.Array)
        assert (layer.name, layer.source.path) == ("cells", address)
        np.testing.assert_array_equal(layer.data, pixels)
        np.testing.assert_array_equal(layer.scale, list(scale.values()))
        command = as_command(run_record(layer, DeblurSettings(axes="ZYX")))
    assert command.split()[:4] == ["swintormer", "deblur", address, "cells-deblurred.ome.zarr"]


def test_a_damaged_file_and_a_list_of_files_are_refused(tmp_path):
    (tmp_path / "bad.tif").write_bytes(b"II*\0 not a TIFF")
    with pytest.raises(FileError, match="damaged"):
        reader.read(str(tmp_path / "bad.tif"))
    assert reader.get_reader(["a.tif", "b.tif"]) is None
