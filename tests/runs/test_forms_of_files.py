"""What goes in comes out: every form of file, at strength 0, in pixels and everything carried."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image as Pillow

from helpers.file_forms import FORMS, PAGE, page, profile
from napari_swintormer import deblur_file
from napari_swintormer.errors import FileError
from napari_swintormer.imaging.carried import NOTHING, Carried, Channel
from napari_swintormer.imaging.formats.format import WORDS
from napari_swintormer.imaging.formats.imagej import ImageJ
from napari_swintormer.imaging.formats.ome_xml import OmeXml
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.registry import FORMATS
from napari_swintormer.imaging.formats.writing import write_image
from napari_swintormer.imaging.formats.zarr_carried import ZarrData
from napari_swintormer.imaging.views import Ordered


def plain(value: Any) -> Any:
    """Bring what is carried to a form that ``==`` compares."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, OmeXml):
        return ome_facts(value)
    if isinstance(value, ImageJ):
        return plain(dict(value.metadata))
    if isinstance(value, ZarrData):
        labels = None if value.labels is None else label_facts(value.labels)
        return plain({**vars(value), "labels": labels})
    if isinstance(value, (Carried, Channel)):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def ome_facts(told: OmeXml) -> Any:
    """All of OME-XML but its identity, and where the pixels lie in the file."""
    from ome_types import from_xml

    ome = from_xml(told.xml, validate=False)
    image = ome.images[told.number]
    pixels = image.pixels.model_copy(
        update={"tiff_data_blocks": [], "big_endian": None, "dimension_order": None}
    )
    image = image.model_copy(update={"pixels": None, "id": None})
    return [each.model_dump() for each in (*ome.instruments, image, pixels)]


def label_facts(folder: Any) -> Any:
    """Names and pixels of label images."""
    group = zarr.open_group(folder, mode="r")
    return {name: np.asarray(label["0"]).tolist() for name, label in group.groups()}


def exif_facts(block: bytes) -> Any:
    """Words and tables of an EXIF block."""
    exif = Pillow.Exif()
    exif.load(block)
    tables = {code: dict(exif.get_ifd(code)) for code in (0x8769, 0x8825)}
    return {k: v for k, v in exif.items() if k not in (*tables, 274, 282, 283, 296)}, tables


def facts(carried: Carried) -> Any:
    """Everything carried, to compare."""
    told = plain(replace(carried, exif=b""))
    native = told["native"]
    native.pop("TIFF tags", None)
    tags = {tag[0]: tag[1:4] for tag in carried.native.get("TIFF tags", ())}
    return told, tags, exif_facts(carried.exif) if carried.exif else None


@pytest.mark.parametrize(
    "form", [f for f in FORMS if not f.refused], ids=lambda f: f"{f.format} {f.holds}"
)
def test_at_strength_0_the_result_equals_its_input(tmp_path, form):
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    if form.needs:
        pytest.importorskip(form.needs)
    source = tmp_path / "in" / form.name
    result = tmp_path / "out" / (form.result or form.name)
    form.make(source)
    deblur_file(source, result, strength=0, device="cpu")
    with open_image(source) as before, open_image(result) as after:
        assert before.left_out == ()
        assert set(after.axes) == set(before.axes)
        assert after.data.dtype == before.data.dtype.newbyteorder("=")
        assert (after.pixel_size, after.unit) == (before.pixel_size, before.unit)
        pixels = Ordered(before.data, before.axes, after.axes)[...]
        pixels_after = np.asarray(after.data[...])
        if form.tolerance:
            pixels, pixels_after = pixels.astype(int), pixels_after.astype(int)
        np.testing.assert_allclose(pixels_after, pixels, rtol=0, atol=form.tolerance)
        assert facts(after.carried) == facts(before.carried)


@pytest.mark.parametrize(
    "form", [f for f in FORMS if f.refused], ids=lambda f: f"{f.format} {f.holds}"
)
def test_what_is_no_intensity_is_refused_by_name(tmp_path, form):
    form.make(tmp_path / form.name)
    with pytest.raises(FileError, match=form.refused) as caught:
        open_image(tmp_path / form.name)
    assert form.name in str(caught.value)


@pytest.mark.parametrize("form", [f for f in FORMATS if f.suffixes], ids=lambda f: f.name)
def test_a_format_holds_what_it_says_and_names_the_rest(tmp_path, form):
    path = tmp_path / f"a{form.suffixes[0]}"
    block = Pillow.Exif()
    block[0x0110] = "Camera"
    full = Carried(
        icc_profile=profile(),
        exif=block.tobytes(),
        xmp=b"<x/>",
        resolution=(300.0, 300.0),
        description="about",
        texts={"Comment": "hello"},
        no_data=7.0,
        channels=(Channel(name="DAPI", colour=(0, 0, 255)),),
    )
    lost = form.cannot_hold(full, path)
    for name, words in WORDS.items():
        if getattr(full, name) != getattr(NOTHING, name):
            assert (words in lost) == (name not in form.holds) or name == "texts", name
    if form.suffixes[0] == ".zarr":
        return
    pixels = np.add.outer(np.arange(32), np.arange(40)).astype(np.uint8)
    lost_fields = [name for name in ("channels", "texts") if name not in form.holds]
    write_image(path, pixels, "YX", carried=full.without(*lost_fields))
    with open_image(path) as image:
        for name in form.holds & WORDS.keys() - {"exif", "resolution", "channels", "name"}:
            assert getattr(image.carried, name) == getattr(full, name), name
        if "exif" in form.holds:
            assert exif_facts(image.carried.exif)[0][0x0110] == "Camera"
        if "resolution" in form.holds:
            assert image.carried.resolution == pytest.approx((300, 300), rel=1e-3)


def test_the_page_of_formats_is_made_from_this_table():
    made = "run `python tests/helpers/file_forms.py` from the folder tests' parent to renew it"
    assert PAGE.read_text(encoding="utf-8") == page(), made
