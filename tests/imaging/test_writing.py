import os
import sys

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import example, given, settings
from hypothesis import strategies as st

from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.formats import npy, tiff_writing
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import check_fits, check_output, write_image
from napari_swintormer.imaging.store import pyramid
from napari_swintormer.imaging.views import Ordered

SIZES = {"T": 2, "C": 3, "Z": 4, "Y": 37, "X": 50}
PIXEL_SIZE = {"T": 2.5, "Z": 0.75, "Y": 0.25, "X": 0.125}
UNIT = {"T": "second", "Z": "micrometer", "Y": "micrometer", "X": "micrometer"}


def image_of(axes, dtype="uint16", samples=3):
    shape = [SIZES.get(a, samples) for a in axes]
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def sizes_of(axes):
    return {a: n for a, n in PIXEL_SIZE.items() if a in axes}


@pytest.mark.parametrize("compression", [None, "deflate", "zstd"])
@pytest.mark.parametrize("suffix", [".tif", ".ome.tif"])
@pytest.mark.parametrize(
    ("axes", "dtype", "samples"),
    [
        ("YX", "uint16", 0),
        ("ZYX", "float32", 0),
        ("TCZYX", "int16", 0),
        ("TZCYX", ">u2", 0),
        ("ZCTYX", "uint8", 0),
        ("XYZ", "float64", 0),
        ("YXS", "uint8", 3),
        ("SYX", "uint16", 4),
        ("ZYXS", "uint8", 2),
        ("TYXS", "float32", 3),
    ],
)
def test_tiff_keeps_pixels_axes_and_sizes(tmp_path, axes, dtype, samples, suffix, compression):
    image, path = image_of(axes, dtype, samples), tmp_path / f"a{suffix}"
    size = sizes_of(axes)
    unit = {a: UNIT[a] for a in size}
    write_image(path, image, axes, size, unit, compression=compression)
    with open_image(path) as written:
        assert sorted(written.axes) == sorted(axes)
        assert np.array_equal(written.data[...], Ordered(image, axes, written.axes)[...])
        assert written.data.dtype.newbyteorder("=") == image.dtype.newbyteorder("=")
        assert written.pixel_size == pytest.approx(size)
        assert written.unit == unit
    assert os.listdir(tmp_path) == [path.name]


def test_other_readers_find_the_metadata(tmp_path):
    write_image(tmp_path / "a.ome.tif", image_of("ZCYX"), "ZCYX", sizes_of("ZYX"), UNIT)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tiff:
        pixels = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]
        assert [pixels[f"Size{a}"] for a in "TCZYX"] == [1, 3, 4, 37, 50]
        assert (pixels["PhysicalSizeX"], pixels["PhysicalSizeXUnit"]) == (0.125, "µm")
    write_image(tmp_path / "b.tif", image_of("TZCYX"), "TZCYX", PIXEL_SIZE, UNIT)
    with tifffile.TiffFile(tmp_path / "b.tif") as tiff:
        metadata = tiff.imagej_metadata
        assert [metadata[n] for n in ("frames", "slices", "channels")] == [2, 4, 3]
        assert (metadata["unit"], metadata["spacing"]) == ("um", 0.75)
        assert metadata["finterval"] == 2.5
    write_image(tmp_path / "c.tif", image_of("YXS", "uint8"), "YXS")
    with tifffile.TiffFile(tmp_path / "c.tif") as tiff:
        assert tiff.pages[0].photometric == tifffile.PHOTOMETRIC.RGB


class Watched:
    """A view that remembers how many pixels were asked for at once."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim = data, data.shape, data.dtype, data.ndim
        self.largest = 0

    def __getitem__(self, index):
        region = self.data[index]
        self.largest = max(self.largest, region.size)
        return region


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".npy"])
@pytest.mark.parametrize("axes", ["YX", "ZYX", "YXS"])
def test_large_planes_are_streamed_in_bands(tmp_path, monkeypatch, axes, suffix):
    monkeypatch.setattr(tiff_writing, "_WHOLE_PLANE_BYTES", 1000)
    monkeypatch.setattr(tiff_writing, "_TILE", 16)
    monkeypatch.setattr(npy, "_BAND_BYTES", 1000)
    image = Watched(image_of(axes))
    path = tmp_path / f"a{suffix}"
    write_image(path, image, axes)
    assert image.largest <= 16 * 50 * 3
    with open_image(path, axes=axes) as written:
        assert np.array_equal(written.data[...], image.data)


@settings(deadline=None, max_examples=40)
@given(
    axes=st.sampled_from(["YX", "XY", "ZYX", "CTYX", "YXS", "SZYX"]),
    dtype=st.sampled_from(["uint8", ">u2", "float32"]),
    sides=st.tuples(st.integers(9, 90), st.integers(9, 90)),
    suffix=st.sampled_from([".tif", ".ome.tif"]),
    compression=st.sampled_from([None, "deflate", "zstd"]),
)
@example(axes="YX", dtype="uint8", sides=(90, 9), suffix=".tif", compression="deflate")
def test_large_planes_get_the_pyramid_of_an_ome_zarr(
    tmp_path_factory, axes, dtype, sides, suffix, compression
):
    shape = [dict(zip("YX", sides, strict=True)).get(a, 3) for a in axes]
    image = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    folder = tmp_path_factory.mktemp("pyramid")
    group = zarr.open_group(folder / "oracle.zarr", mode="w")
    with pytest.MonkeyPatch.context() as small:
        small.setattr(tiff_writing, "_WHOLE_PLANE_BYTES", 0)
        small.setattr(tiff_writing, "_TILE", 16)
        small.setattr(pyramid, "_COARSEST", 10)
        write_image(folder / f"a{suffix}", image, axes, compression=compression)
        levels = pyramid.create_levels(group, image.shape, image.dtype, axes, max(sides))
        levels[0][...] = image
        oracle = pyramid.Pyramid(levels, axes, note=lambda *_: None)
        for level, chunk in oracle.missing():
            oracle.make(level, chunk)
    assert sorted(os.listdir(folder)) == [f"a{suffix}", "oracle.zarr"]
    with open_image(folder / f"a{suffix}") as written:
        assert len(written.levels) + 1 == len(list(group.array_keys()))
        for number, level in enumerate([written.data, *written.levels]):
            expected = Ordered(group[str(number)], axes, written.axes)[...]
            assert np.array_equal(level[...], expected)


def test_files_beyond_classic_tiff_are_bigtiff(tmp_path, monkeypatch):
    write_image(tmp_path / "a.tif", image_of("ZYX"), "ZYX")
    monkeypatch.setattr(tiff_writing, "_CLASSIC_BYTES", 1000)
    write_image(tmp_path / "b.tif", image_of("ZYX"), "ZYX")
    for name, big in (("a.tif", False), ("b.tif", True)):
        with tifffile.TiffFile(tmp_path / name) as tiff:
            assert tiff.is_bigtiff is big


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
@pytest.mark.parametrize(
    ("axes", "samples"), [("YX", 0), ("XY", 0), ("YXS", 1), ("SYX", 3), ("YXS", 4)]
)
def test_png_keeps_every_pixel(tmp_path, axes, samples, dtype):
    image = image_of(axes, dtype, samples)
    write_image(tmp_path / "a.png", image, axes)
    upright = Ordered(image, axes, "YXS" if "S" in axes else "YX")[...]
    png = imagecodecs.png_decode((tmp_path / "a.png").read_bytes())
    assert np.array_equal(png.reshape(upright.shape), upright)


def test_jpeg_looks_the_same(tmp_path):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp, ramp[:, None], ramp[::-1]), -1)
    write_image(tmp_path / "a.jpg", image, "YXS")
    with open_image(tmp_path / "a.jpg") as written:
        assert np.abs(written.data.astype(int) - image).mean() < 3


@pytest.mark.parametrize(
    ("name", "axes", "shape", "dtype", "words"),
    [
        ("a.jpg", "YX", (5, 5), "uint16", "holds uint8, not uint16"),
        ("a.jpg", "YXS", (5, 5, 4), "uint8", "transparency"),
        ("a.png", "YX", (5, 5), "float32", "uint8 or uint16, not float32"),
        ("a.png", "TZYX", (1, 3, 5, 5), "uint8", "not a stack along Z"),
        ("a.ome.tif", "YX", (5, 5), "int64", "no data type int64"),
    ],
)
def test_formats_that_cannot_hold_the_image_are_refused(name, axes, shape, dtype, words):
    with pytest.raises(OutputError, match=rf"{words}.*use \.tif or \.ome\.zarr"):
        check_fits(name, axes, shape, dtype)
    check_fits(f"a{os.path.splitext(name)[1]}", "TYX", (1, 5, 5), "uint8")


def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path):
    there, inside = tmp_path / "there.tif", tmp_path / "there.ome.zarr"
    there.touch()
    inside.mkdir()
    for name in ("a.tif", "a.OME.TIFF", "a.ome.zarr", "a.zarr", "a.npy", "a.png", "a.jpeg"):
        check_output(tmp_path / name, there)
    check_output(there, overwrite=True)
    check_output(inside, overwrite=True)
    for dst, src, overwrite, words in [
        (there, None, False, "exists already"),
        (inside, None, False, "exists already"),
        (there, tmp_path / "x" / ".." / "there.tif", True, "is the input itself"),
        (inside / "b.tif", inside, True, "inside the input"),
        (tmp_path / "a.gif", None, False, r"name it \.tif, "),
        (tmp_path / "a", None, False, r"name it \.tif, "),
        (tmp_path / "none" / "a.tif", None, False, "does not exist; create it"),
        (there / "a.tif", None, False, "does not exist; create it"),
    ]:
        with pytest.raises(OutputError, match=words) as caught:
            check_output(dst, src, overwrite)
        assert dst.name in str(caught.value)


def test_an_existing_file_stays_unless_overwritten(tmp_path):
    path = tmp_path / "a.npy"
    write_image(path, image_of("YX"), "YX")
    with pytest.raises(OutputError, match="exists already"):
        write_image(path, image_of("ZYX"), "ZYX")
    assert np.load(path).shape == (37, 50)
    write_image(path, image_of("ZYX"), "ZYX", overwrite=True)
    assert np.load(path).shape == (4, 37, 50)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".npy", ".png", ".jpg"])
def test_a_full_disk_gets_a_sentence_and_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    (tmp_path / f".a{suffix}.writing").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=rf"disk is full: .*a\{suffix}"):
        write_image(path, image_of("YX", "uint8"), "YX", overwrite=True)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == b"old"


def test_a_failing_source_leaves_nothing(tmp_path):
    class Broken(Watched):
        def __getitem__(self, index):
            if index[0] == 2:
                raise RuntimeError("no third slice")
            return self.data[index]

    with pytest.raises(OutputError, match="no third slice"):
        write_image(tmp_path / "a.tif", Broken(image_of("ZYX")), "ZYX")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="may not be written to"):
            check_output(tmp_path / "a.tif")
    finally:
        tmp_path.chmod(0o700)
