"""What of a file is not carried: a sentence names it, wherever the file is opened."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from napari.utils.notifications import notification_manager
from typer.testing import CliRunner

from napari_swintormer import deblur_file
from napari_swintormer.cli import app
from napari_swintormer.events import Notice
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.plugin import reader
from napari_swintormer.plugin.layers import writer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

IMAGE = np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30)
GREY: dict[str, Any] = {"photometric": "minisblack", "metadata": None}


OWN = [(65000, 4, 1, 3, False)]


def pages(path: Path, *options: dict[str, Any]) -> None:
    with tifffile.TiffWriter(path) as tiff:
        for page, more in zip(IMAGE, options, strict=True):
            tiff.write(page, contiguous=False, **GREY | more)


def damaged_exif(path: Path, table: int) -> None:
    """Point the tag of the EXIF table to another place in the file."""
    tifffile.imwrite(path, IMAGE[0], extratags=[(34664, 4, 1, 7, True)], **GREY)
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", 34664, 4, 1))
    struct.pack_into("<HHII", content, at, 34665, 4, 1, table % len(content))
    path.write_bytes(content)


def damaged_ome(path: Path) -> None:
    channel = {"axes": "YX", "Channel": {"Name": ["DAPI"], "Color": [7]}}
    tifffile.imwrite(path, IMAGE[0], ome=True, metadata=channel)
    path.write_bytes(path.read_bytes().replace(b'Color="7"', b'Color="?"'))


def photoshop(path: Path) -> None:
    tags = [(34377, 1, 4, b"8BIM", True), (37724, 7, 5, b"Adobe", True)]
    tifffile.imwrite(path, IMAGE[0], extratags=tags, **GREY)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: damaged_exif(path, -40), "damaged EXIF data, left out here"),
        (lambda path: damaged_exif(path, -1), "a damaged tag 34665, left out here"),
        (damaged_ome, "damaged OME-XML, left out here"),
        (photoshop, "holds image resources of Photoshop and layers of Photoshop, which are not"),
        (
            lambda path: pages(path, {"description": "cell 1"}, {"description": "cell 2"}),
            "describes its pages one by one (its second page differs in ImageDescription)",
        ),
        (
            lambda path: pages(
                path,
                {},
                {"datetime": "2024:01:02 03:04:05", "extratags": OWN},
            ),
            "its second page differs in DateTime, 65000",
        ),
        (lambda path: pages(path, {"description": "cell"}, {"description": "cell"}), None),
        (lambda path: pages(path, {"description": "cell"}, {}), None),
        (lambda path: tifffile.imwrite(path, IMAGE, imagej=True), None),
        (lambda path: tifffile.imwrite(path, IMAGE, photometric="minisblack"), None),
    ],
)
def test_what_a_tiff_loses_is_told(
    make: Callable[[Path], object], said: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.tif"
    make(path)
    with open_image(path) as image:
        told, pixels = image.left_out, image.data[...]
    np.testing.assert_array_equal(pixels, IMAGE if pixels.ndim == 3 else IMAGE[0])
    assert len(told) == (said is not None)
    assert all(sentence.startswith("a.tif ") and said in sentence for sentence in told)


def test_a_run_the_list_and_napari_tell_it(tmp_path: Path) -> None:
    photoshop(tmp_path / "a.tif")
    (told,) = (image := open_image(tmp_path / "a.tif")).left_out
    image.close()
    settings = DeblurSettings(strength=0, device="cpu")
    events = FileRun(tmp_path / "a.tif", tmp_path / "b.tif", settings).events()
    assert told in [event.message for event in events if isinstance(event, Notice)]
    assert (
        "layers of Photoshop" in CliRunner().invoke(app, ["info", str(tmp_path / "a.tif")]).output
    )
    reader.read(str(tmp_path / "a.tif"))
    assert notification_manager.records[-1].message == told


def test_packed_bits_that_become_whole_words_are_told(tmp_path: Path) -> None:
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, IMAGE[0], bitspersample=12, **GREY)
    settings = DeblurSettings(strength=0, device="cpu")
    for name, compression, told in (
        ("plain.tif", None, False),
        ("small.tif", "deflate", True),
    ):
        run = FileRun(source, tmp_path / name, settings, compression=compression)
        said = [event.message for event in run.events() if isinstance(event, Notice)]
        assert any("packed samples of 12 bits" in sentence for sentence in said) is told
        with open_image(tmp_path / name) as result:
            assert result.carried.bits_per_sample == (None if told else 12)
            np.testing.assert_array_equal(result.data[...], IMAGE[0])


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_xmp_tells_upright_after_a_tiff_was_turned(tmp_path: Path, orientation: int) -> None:
    xmp = b'<x:xmpmeta><rdf tiff:Orientation="%d" other="6"/></x:xmpmeta>' % orientation
    tags = [(274, 3, 1, orientation, True), (700, 1, len(xmp), xmp, True)]
    tifffile.imwrite(tmp_path / "a.tif", IMAGE[0], extratags=tags, **GREY)
    deblur_file(tmp_path / "a.tif", tmp_path / "b.tif", strength=0, device="cpu")
    with open_image(tmp_path / "b.tif") as result:
        assert result.carried.xmp == xmp.replace(b'Orientation="%d"' % orientation,
                                                 b'Orientation="1"')  # fmt: skip
        assert result.data.shape == ((30, 20) if orientation == 6 else (20, 30))


def test_napari_tells_what_a_saved_file_cannot_hold(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.ome.tif", IMAGE[0], metadata={"axes": "YX", "Channel": {"Name": ["DAPI"]}}
    )
    ((data, arguments, _),) = reader.read(str(tmp_path / "a.ome.tif"))
    meta = {"scale": (1, 1), "units": ("pixel", "pixel"), "metadata": arguments["metadata"]}
    writer.write(str(tmp_path / "b.png"), data, meta)
    assert "cannot hold all of the input" in notification_manager.records[-1].message
