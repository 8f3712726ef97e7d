"""Readers behind extras, and AVIF: what they read, and what they say where a library is missing."""

import sys
from datetime import timedelta
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import dask.array as da
import imagecodecs
import numpy as np
import pytest
from PIL import Image as Picture
from PIL import ImageOps

from helpers.file_forms import dng
from napari_swintormer.errors import FileError, ImageError
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import write_image

COLOUR = np.add.outer(np.arange(24) * 5, np.arange(20) * 6)[..., np.newaxis] + [0, 9, 20]
COLOUR = COLOUR.astype(np.uint8)


def turned_exif(orientation):
    block = Picture.Exif()
    block[274], block[0x0110] = orientation, "Camera"
    return block


@pytest.mark.parametrize(
    ("name", "content", "module", "extra"),
    [
        ("a.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow_heif", "heif"),
        ("phone", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "pillow_heif", "heif"),
        ("a.NEF", b"II*\0", "rawpy", "raw"),
        ("a.czi", b"ZISRAWFI", "bioio", "bioio"),
        ("a.nd2", b"\xda\xce\xbe\x0a", "bioio", "bioio"),
    ],
)
def test_a_missing_extra_is_named_with_its_command(
    tmp_path, monkeypatch, name, content, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / name).write_bytes(content)
    said = rf'pip install "napari-swintormer\[{extra}\]"'
    with pytest.raises(FileError, match=said) as caught:
        open_image(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_heic_comes_upright_with_its_metadata(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Picture.fromarray(COLOUR)).save(
        tmp_path / "a.heic", quality=-1, chroma=444, exif=turned_exif(6).tobytes()
    )
    with open_image(tmp_path / "a.heic") as image:
        picture = Picture.fromarray(COLOUR)
        picture.getexif()[274] = 6
        upright = np.asarray(ImageOps.exif_transpose(picture), int)
        np.testing.assert_allclose(image.data.astype(int), upright, atol=3)
        write_image(tmp_path / "b.png", image.data, image.axes, carried=image.carried)
    with Picture.open(tmp_path / "b.png") as b:
        assert (b.getexif()[274], b.getexif()[0x0110]) == (1, "Camera")


def test_heic_of_ten_bits_and_of_several_pictures(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    deep = COLOUR.astype(np.uint16) * 257
    file = heif.from_bytes("RGB;16", (20, 24), deep.tobytes())
    file.add_frombytes("RGB;16", (20, 24), (65535 - deep).tobytes())
    file.save(tmp_path / "a.heic", quality=-1, chroma=444)
    for number, expected in ((None, deep), (2, 65535 - deep)):
        with open_image(tmp_path / "a.heic", image=number) as image:
            assert (image.data.dtype, image.images) == (np.uint16, ("frame 1", "frame 2"))
            np.testing.assert_allclose(image.data.astype(int), expected.astype(int), atol=600)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif_keeps_its_bits(tmp_path, bits):
    pixels = COLOUR if bits == 8 else COLOUR.astype(np.uint16) << (bits - 8)
    encoded = imagecodecs.avif_encode(pixels, level=100, bitspersample=bits, pixelformat="444")
    (tmp_path / "a.avif").write_bytes(encoded)
    with open_image(tmp_path / "a.avif") as image:
        np.testing.assert_allclose(image.data.astype(int), pixels.astype(int), atol=2 << (bits - 8))
        assert image.carried.bits_per_sample == (None if bits == 8 else bits)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_avif_comes_upright_with_its_metadata(tmp_path, orientation):
    picture = Picture.fromarray(COLOUR)
    picture.save(
        tmp_path / "a.avif", quality=100, exif=turned_exif(orientation), subsampling="4:4:4"
    )
    with Picture.open(tmp_path / "a.avif") as a, open_image(tmp_path / "a.avif") as image:
        shown = np.asarray(ImageOps.exif_transpose(a), int)
        np.testing.assert_allclose(np.asarray(image.data, int), shown, atol=3)
        assert b"Camera" in image.carried.exif


def test_a_raw_file_is_developed(tmp_path):
    pytest.importorskip("rawpy")
    dng(tmp_path / "a.dng")
    with open_image(tmp_path / "a.dng") as image:
        assert (image.axes, image.data.dtype) == ("YXS", np.uint16)
        assert image.data.shape == (96, 128, 3)
        brightness = image.data[8:-8, 8:-8].mean((1, 2))
        assert np.all(np.diff(brightness) > 0)
        assert b"Camera" in image.carried.exif
        assert image.carried.icc_profile
    (tmp_path / "b.dng").write_bytes((tmp_path / "a.dng").read_bytes()[:900])
    with pytest.raises(FileError, match=r"b\.dng is a damaged or truncated camera raw file"):
        open_image(tmp_path / "b.dng")


class UnsupportedFileFormatError(Exception):
    pass


class FakeScenes:
    """Stands for `bioio.BioImage` with two scenes of two channels."""

    scenes = ("small", "large")
    channel_names = ("DAPI", "GFP")
    physical_pixel_sizes = SimpleNamespace(Z=2.0, Y=0.1, X=0.1)
    time_interval = timedelta(seconds=3)
    dims = SimpleNamespace(order="TCZYX")
    xml = None
    read: ClassVar[list] = []  # shapes of the blocks that were read

    def __init__(self, path, reader):
        assert reader == "reader of CZI or ND2"
        if path.stem == "odd":
            raise UnsupportedFileFormatError("not of this form")
        if path.stem == "broken":
            raise RuntimeError("bad block\nat 7")
        self.set_scene(0)

    def set_scene(self, number):
        self.shape = (1, 2, 3, 8, 9 + number)
        stack = np.arange(np.prod(self.shape), dtype=np.uint16).reshape(self.shape)

        def read(block):
            self.read.append(block.shape)
            return block

        self.stack = stack
        self.dask_data = da.from_array(stack, (1, 1, 1, -1, -1)).map_blocks(read, meta=stack)

    @property
    def ome_metadata(self):
        if self.xml is None:
            raise NotImplementedError
        return SimpleNamespace(to_xml=lambda: self.xml)


@pytest.fixture
def bioio(monkeypatch):
    module = ModuleType("bioio")
    module.BioImage = FakeScenes
    monkeypatch.setitem(sys.modules, "bioio", module)
    for name in ("bioio_czi", "bioio_nd2"):
        plugin = ModuleType(name)
        plugin.Reader = "reader of CZI or ND2"
        monkeypatch.setitem(sys.modules, name, plugin)


def test_a_microscopes_file_is_read_lazily(tmp_path, bioio):
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFI")
    FakeScenes.read.clear()
    with open_image(tmp_path / "a.czi") as image:
        assert not FakeScenes.read
        assert (image.axes, image.data.shape) == ("CZYX", (2, 3, 8, 10))
        assert image.pixel_size == {"Z": 2.0, "Y": 0.1, "X": 0.1}
        assert set(image.unit.values()) == {"micrometer"}
        assert (image.images, image.number) == (("small", "large"), 2)
        assert [channel.name for channel in image.carried.channels] == ["DAPI", "GFP"]
        scene = np.arange(480, dtype=np.uint16).reshape(2, 3, 8, 10)
        assert np.array_equal(image.data[1, 2, 3:5], scene[1, 2, 3:5])
        assert FakeScenes.read == [(1, 1, 1, 8, 10)]  # one plane
        assert np.array_equal(image.data[..., 4], scene[..., 4])
    with open_image(tmp_path / "a.czi", image=1) as image:
        assert (image.data.shape[-1], image.carried.name) == (9, "small")
    with pytest.raises(ImageError, match="its images are 1 to 2"):
        open_image(tmp_path / "a.czi", image=3)


def test_wavelengths_come_from_the_plugins_ome_xml(tmp_path, bioio, monkeypatch):
    channel = '<Channel ID="Channel:0:{0}" Name="{1}" EmissionWavelength="{2}"/>'
    channels = channel.format(0, "DAPI", 461) + channel.format(1, "GFP", 509)
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0" Name="cells"><Pixels ID="Pixels:0">{channels}</Pixels></Image></OME>'
    )
    monkeypatch.setattr(FakeScenes, "xml", xml)
    (tmp_path / "a.nd2").write_bytes(b"\xda\xce\xbe\x0a")
    with open_image(tmp_path / "a.nd2", image=1) as image:
        assert [c.emission for c in image.carried.channels] == [461, 509]
        assert image.carried.name == "cells"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.lif", "pip install bioio-lif"),
        ("odd.czi", "damaged, or of a form that bioio-czi does not read"),
        ("broken.czi", r"cannot be read by bioio \(bad block"),
    ],
)
def test_what_bioio_cannot_read_gets_a_sentence(tmp_path, bioio, name, said):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(FileError, match=said):
        open_image(tmp_path / name)
