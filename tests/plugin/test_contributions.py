"""What the manifest promises: menus, samples, reader."""

from __future__ import annotations

import gc
from importlib import import_module
from pathlib import Path
from threading import Event
from typing import get_args

import dask.array as da
import numpy as np
import pytest
import tifffile
import yaml
import zarr
from napari._app_model import get_app_model
from napari.components import ViewerModel
from npe2 import PluginManager, PluginManifest

import napari_swintormer
from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.store.pyramid import halve
from napari_swintormer.imaging.store.result import ResultStore
from napari_swintormer.models.catalogue import list_models
from napari_swintormer.plugin.deblur import deblur_form
from napari_swintormer.plugin.layers import overview_cache, reader
from napari_swintormer.sample import sample_images
from napari_swintormer.settings.deblur_settings import Blend, DeblurSettings, Precision

PLUGIN = "napari-swintormer"
MANIFEST = Path(napari_swintormer.__file__).parent / "napari.yaml"


def test_the_manifest_is_valid_and_its_copy_at_the_top_is_the_same():
    PluginManifest.from_file(MANIFEST)
    top = Path(__file__).parents[2] / "napari.yaml"
    assert top.read_bytes() == MANIFEST.read_bytes()


def test_every_command_leads_to_a_callable():
    commands = yaml.safe_load(MANIFEST.read_text())["contributions"]["commands"]
    for command in commands:
        module, name = command["python_name"].split(":")
        assert callable(getattr(import_module(module), name))


def test_defaults_and_choices_are_those_of_the_settings(qtbot, model):
    form = deblur_form.DeblurForm(lambda: [], list_models)
    qtbot.addWidget(form)
    card = list_models()[0].card
    assert form.settings() == DeblurSettings(
        model="swintormer-small", tile_size=card.tile_size, overlap=card.overlap, blend=card.blend
    )
    assert set(form.blend.choices) == set(get_args(Blend))
    assert set(form.precision.choices) == set(get_args(Precision))


@pytest.mark.gui
def test_the_menu_opens_the_widget_and_every_sample_opens(viewer, model):
    def entries(menu):
        return {getattr(i, "command", i).title: i for i in get_app_model().menus.get_menu(menu)}

    for menu in ("napari/plugins", "napari/layers/filter"):
        assert "Deblur" in entries(entries(menu)["Swintormer"].submenu)
    get_app_model().commands.execute_command(f"{PLUGIN}.deblur").result()
    (widget,) = viewer.window.dock_widgets.values()
    for key in ("circuit-board", "actin", "algae", "mitochondria"):
        for layer in viewer.open_sample(PLUGIN, key):
            sample = next(sample for sample in sample_images() if sample.name == layer.name)
            with open_image(sample.path) as image:
                np.testing.assert_array_equal(layer.data, image.data[...])
        assert widget.form.layer in viewer.layers
    assert len(viewer.layers) == len(sample_images())


def test_a_large_flat_tiff_is_read_only_where_it_is_looked_at(tmp_path, monkeypatch):
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


@pytest.fixture
def compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "LARGEST_TEXTURE", 250)
    monkeypatch.setattr("napari_swintormer.imaging.store.pyramid._COARSEST", 80)
    monkeypatch.setattr(overview_cache, "_CHUNK", 32)
    image = np.random.default_rng(0).integers(100, 9999, (2, 530, 401)).astype(">u2")
    path = tmp_path / "compressed.tif"
    tifffile.imwrite(path, image, compression="zlib", photometric="minisblack")
    return path, image.astype("uint16")


def test_the_levels_of_a_compressed_file_are_made_in_the_background_and_kept(
    compressed, home, monkeypatch
):
    path, image = compressed
    with open_image(path) as opened:
        kept = overview_cache.overview_levels(opened, None)
        assert [level.shape for level in kept.arrays] == [(2, 133, 101), (2, 67, 51)]
        assert kept.done.wait(60)
        half = halve(halve(image, "ZYX"), "ZYX")
        np.testing.assert_array_equal(kept.arrays[0][...], half)
        np.testing.assert_array_equal(kept.arrays[1][1], halve(half, "ZYX")[1])
    assert len(list((home / "cache" / "pyramids").iterdir())) == 1

    read, get = [], zarr.Array.__getitem__
    monkeypatch.setattr(
        zarr.Array, "__getitem__", lambda self, i: (read.append(self.shape), get(self, i))[1]
    )
    ((levels, arguments, _),) = reader.read(str(path))  # a second time they are there at once
    np.testing.assert_array_equal(levels[1], half)
    assert image.shape not in read
    assert "contrast_limits" not in arguments
    np.testing.assert_array_equal(levels[0], image)


def test_levels_of_another_file_are_not_taken_and_the_oldest_go(compressed, home, monkeypatch):
    path, image = compressed
    monkeypatch.setattr(overview_cache, "LIMIT", 1)
    for change in (0, 1):
        tifffile.imwrite(path, image + change, compression="zlib", photometric="minisblack")
        with open_image(path) as opened:
            kept = overview_cache.overview_levels(opened, None)
            assert kept.done.wait(60)
            expected = halve(halve(image + change, "ZYX"), "ZYX")
            np.testing.assert_array_equal(kept.arrays[0][...], expected)
    assert len(list((home / "cache" / "pyramids").iterdir())) == 1


def test_nothing_is_made_for_a_layer_that_has_gone(compressed, home, monkeypatch):
    begun, go_on = Event(), Event()

    def waiting(*arguments):
        begun.set()
        assert go_on.wait(60)
        return halve(*arguments)

    monkeypatch.setattr(overview_cache, "halve", waiting)
    opened = open_image(compressed[0])
    kept = overview_cache.overview_levels(opened, None)
    done = kept.done
    assert begun.wait(60)
    del kept
    gc.collect()
    go_on.set()
    assert done.wait(60)
    opened.close()
    assert not list((home / "cache" / "pyramids").iterdir())


def test_axes_pixel_sizes_and_channels_of_an_ome_tiff_are_carried_over(tmp_path):
    image = np.random.default_rng(0).integers(0, 99, (2, 3, 4, 20, 30)).astype("uint16")
    sizes = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1, "PhysicalSizeZ": 0.5}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", image, metadata={"axes": "TCZYX", **sizes}, compression="zlib"
    )
    ((data, arguments, _),) = reader.read(str(tmp_path / "a.ome.tif"))
    np.testing.assert_array_equal(data, image)
    assert arguments == {
        "name": "a",
        "scale": [1.0, 0.5, 0.1, 0.1],
        "units": ["pixel", "micrometer", "micrometer", "micrometer"],
        "axis_labels": ["t", "z", "y", "x"],
        "channel_axis": 1,
        "cache": False,
        "multiscale": False,
    }


def test_the_pyramid_of_a_file_is_taken(tmp_path):
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
def test_a_layer_is_saved_and_opens_as_it_was(tmp_path, suffix, kind, monkeypatch):
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


def test_a_damaged_file_says_so_and_a_list_of_files_is_left_to_others(tmp_path):
    (tmp_path / "bad.tif").write_bytes(b"II*\0 not a TIFF")
    with pytest.raises(FileError, match="damaged"):
        reader.read(str(tmp_path / "bad.tif"))
    assert reader.get_reader(["a.tif", "b.tif"]) is None
