"""Overviews of large compressed files: made in the background, kept in the cache."""

from __future__ import annotations

import gc
from threading import Event

import numpy as np
import pytest
import tifffile
import zarr

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.store.pyramid import halve
from napari_swintormer.plugin import reader
from napari_swintormer.plugin.layers import overview_cache


@pytest.fixture
def compressed(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "LARGEST_TEXTURE", 250)
    monkeypatch.setattr("napari_swintormer.imaging.store.pyramid._COARSEST", 80)
    monkeypatch.setattr(overview_cache, "_CHUNK", 32)
    image = np.random.default_rng(0).integers(100, 9999, (2, 530, 401)).astype(">u2")
    path = tmp_path / "compressed.tif"
    tifffile.imwrite(path, image, compression="zlib", photometric="minisblack")
    return path, image.astype("uint16")


def test_levels_are_made_in_the_background_and_kept(compressed, home, monkeypatch):
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


def test_a_changed_file_gets_new_levels_and_the_oldest_are_removed(compressed, home, monkeypatch):
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


def test_making_stops_when_the_layer_is_gone(compressed, home, monkeypatch):
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
