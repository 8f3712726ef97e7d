"""Pictures: what their samples mean, and what they carry beside pixels, from any to any format."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Picture
from PIL import ImageCms, ImageOps
from PIL.JpegImagePlugin import get_sampling
from PIL.PngImagePlugin import PngInfo

from napari_swintormer.errors import FileError, ImageError
from napari_swintormer.imaging.carried import Carried
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.registry import loss_notice
from napari_swintormer.imaging.formats.writing import write_image
from napari_swintormer.imaging.image import Image

COLOUR = np.add.outer(np.arange(24) * 5, np.arange(20) * 6)[..., np.newaxis] + [0, 9, 20]
COLOUR = COLOUR.astype(np.uint8)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="1"/></x:xmpmeta>'
PICTURES = ("png", "jpg", "webp")


def camera_exif(**changes):
    block = Picture.Exif()
    block[0x0110], block[0x0132], block[0x8298] = "Camera", "2024:01:02 03:04:05", "Somebody"
    block.get_ifd(0x8769)[0x9003] = "2024:01:02 03:04:05"
    for code, value in changes.items():
        block[int(code[1:])] = value
    return block


def image(carried):
    return Image(COLOUR, "YXS", Path("a"), carried=carried)


def rewritten(source, target):
    """Read a picture and write it in another format, as a run at strength 0 does."""
    with open_image(source) as image:
        write_image(target, image.data, image.axes, image.pixel_size, image.unit,
                    carried=image.carried)  # fmt: skip
        return image.carried


@pytest.mark.parametrize("target", [*PICTURES, "tif"])
@pytest.mark.parametrize("source", [*PICTURES, "tif"])
def test_profile_exif_xmp_and_resolution_go_from_any_to_any_format(tmp_path, source, target):
    a, b = tmp_path / f"a.{source}", tmp_path / f"b.{target}"
    block = camera_exif()
    if source == "webp":
        block[282], block[283], block[296] = 300.0, 300.0, 2
    options = {"quality": 95} if source == "jpg" else {"lossless": True} if source == "webp" else {}
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    options |= {"pnginfo": info} if source == "png" else {}
    if source == "tif":
        exif = block.tobytes().removeprefix(b"Exif\0\0")
        write_image(a, COLOUR, "YXS", carried=Carried(ICC, exif, XMP, (300, 300)))
    else:
        Picture.fromarray(COLOUR).save(
            a, icc_profile=ICC, exif=block, dpi=(300, 300), xmp=XMP, **options
        )
    rewritten(a, b)
    with Picture.open(b) as found:
        assert found.info["icc_profile"] == ICC
        told = found.getexif()
        assert (told[0x0110], told[0x8298]) == ("Camera", "Somebody")
        assert told.get_ifd(0x8769)[0x9003] == "2024:01:02 03:04:05"
        assert found.info["xmp"].rstrip(b"\0") == XMP
        dpi = (told[282], told[283]) if target == "webp" else found.info["dpi"]
        assert [round(float(n), 1) for n in dpi] == [300, 300]
    with Picture.open(a) as first, Picture.open(b) as second:
        atol = 3 if target == "jpg" else 0
        np.testing.assert_allclose(np.asarray(first, int), np.asarray(second, int), atol=atol)


@pytest.mark.parametrize("where", ["exif", "xmp"])
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", PICTURES)
def test_pictures_are_turned_upright_and_say_so(tmp_path, suffix, orientation, where):
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    options |= {"lossless": True} if suffix == "webp" else {}
    xmp = XMP.replace(b'"1"', b'"%d"' % orientation)
    if where == "exif":
        options["exif"] = camera_exif(_274=orientation)
    elif suffix == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    else:
        options["xmp"] = xmp
    Picture.fromarray(COLOUR).save(tmp_path / f"a.{suffix}", **options)
    rewritten(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
    with Picture.open(tmp_path / f"a.{suffix}") as a, Picture.open(tmp_path / f"b.{suffix}") as b:
        shown = np.asarray(ImageOps.exif_transpose(a), int)
        np.testing.assert_allclose(np.asarray(b, int), shown, atol=3 if suffix == "jpg" else 0)
        assert b.getexif().get(274, 1) == 1
        if where == "exif":
            assert b.getexif()[0x0110] == "Camera"


def test_a_thumbnail_that_is_not_upright_goes():
    from napari_swintormer.imaging.formats.exif import reset_orientation, table_of

    entry = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    block = b"II*\0\x08\0\0\0\x01\0" + entry + b"\x1a\0\0\0" + b"\0" * 6 + b"thumbnail"
    patched, _ = reset_orientation(block, b"")
    assert dict(table_of(patched)) == {274: 1}
    assert (len(patched), patched[22:26]) == (len(block), bytes(4))


@pytest.mark.parametrize(
    ("mode", "options", "expected"),
    [
        ("1", {}, ("YX", "uint8")),
        ("L", {"bits": 1}, ("YX", "uint8")),
        ("L", {"bits": 2}, ("YX", "uint8")),
        ("L", {"bits": 4}, ("YX", "uint8")),
        ("L", {"transparency": 0}, ("YXS", "uint8")),
        ("I;16", {}, ("YX", "uint16")),
        ("LA", {}, ("YXS", "uint8")),
        ("P", {}, ("YXS", "uint8")),
        ("P", {"bits": 4}, ("YXS", "uint8")),
        ("P", {"transparency": bytes(range(0, 256, 5))}, ("YXS", "uint8")),
        ("RGB", {"transparency": (0, 9, 20)}, ("YXS", "uint8")),
        ("RGBA", {}, ("YXS", "uint8")),
    ],
)
def test_png_of_every_form_looks_the_same(tmp_path, mode, options, expected):
    grey = Picture.fromarray((COLOUR[..., 0] // 64).astype(np.uint8) * 85)
    if mode == "I;16":
        picture = Picture.fromarray(COLOUR[..., 0].astype(np.uint16) * 300)
    else:
        first = Picture.fromarray(COLOUR) if mode in ("P", "RGB", "RGBA") else grey
        picture = first.convert(mode, palette=Picture.Palette.ADAPTIVE, colors=16)
    picture.save(tmp_path / "a.png", **options)
    rewritten(tmp_path / "a.png", tmp_path / "b.png")
    with open_image(tmp_path / "a.png") as image:
        assert (image.axes, image.data.dtype.name) == expected
    with Picture.open(tmp_path / "a.png") as a, Picture.open(tmp_path / "b.png") as b:
        if mode == "I;16":
            assert np.array_equal(np.asarray(a), np.asarray(b))
        else:
            assert np.array_equal(np.asarray(a.convert("RGBA")), np.asarray(b.convert("RGBA")))


def test_sixteen_bit_colour_with_metadata(tmp_path):
    carried = Carried(ICC, camera_exif().tobytes().removeprefix(b"Exif\0\0"), XMP, (118, 59),
                      "centimeter", "a leaf", {"Author": "Jürgen 葉"})  # fmt: skip
    write_image(tmp_path / "a.png", COLOUR.astype(np.uint16) * 256, "YXS", carried=carried)
    with open_image(tmp_path / "a.png") as image:
        assert image.data.dtype == np.uint16
        told = image.carried
        assert (told.icc_profile, told.exif, told.xmp) == (ICC, carried.exif, XMP)
        assert (told.description, dict(told.texts)) == ("a leaf", {"Author": "Jürgen 葉"})
        assert told.resolution == pytest.approx((118 * 2.54, 59 * 2.54), abs=0.02)


def test_text_and_colours_of_a_png_stand_after_its_pixels_or_before(tmp_path):
    info = PngInfo()
    info.add_text("Title", "leaf")
    info.add_text("Description", "a leaf")
    info.add(b"gAMA", (100000).to_bytes(4, "big"))
    Picture.fromarray(COLOUR).save(tmp_path / "a.png", pnginfo=info)
    encoded = (tmp_path / "a.png").read_bytes()
    start = encoded.index(b"tEXt") - 4
    late = encoded[start : encoded.index(b"IDAT") - 4]
    moved = encoded[:start] + encoded[start + len(late) : -12] + late + encoded[-12:]
    (tmp_path / "a.png").write_bytes(moved)
    carried = rewritten(tmp_path / "a.png", tmp_path / "b.png")
    assert (carried.description, dict(carried.texts)) == ("a leaf", {"Title": "leaf"})
    with Picture.open(tmp_path / "b.png") as b:
        assert (b.text["Title"], b.text["Description"]) == ("leaf", "a leaf")
        assert b.info["gamma"] == 1.0
    assert "gamma" in loss_notice(tmp_path / "b.jpg", image(carried))


@pytest.mark.parametrize(
    ("options", "sampling"),
    [({"quality": 100, "subsampling": 0}, 0), ({"quality": 80, "subsampling": 1}, 1),
     ({"quality": 75, "subsampling": 2}, 2), (None, 0)],
)  # fmt: skip
def test_a_jpeg_is_written_as_its_source_was_or_at_full_resolution(tmp_path, options, sampling):
    source = tmp_path / ("a.jpg" if options else "a.png")
    Picture.fromarray(COLOUR).save(source, **(options or {}))
    rewritten(source, tmp_path / "b.jpg")
    with Picture.open(tmp_path / "b.jpg") as b:
        assert get_sampling(b) == sampling
        if options:
            with Picture.open(source) as a:
                assert a.quantization == b.quantization
        else:
            assert max(b.quantization[0]) < 13  # quality 95


def test_cmyk_gets_the_same_sentence_from_every_format(tmp_path):
    picture = Picture.fromarray(COLOUR).convert("CMYK")
    for name in ("a.jpg", "a.tif"):
        picture.save(tmp_path / name)
        with pytest.raises(FileError, match=f"{name} has CMYK colours; convert it to RGB or grey"):
            open_image(tmp_path / name)


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_frames_are_named_and_can_be_chosen(tmp_path, suffix):
    frames = [Picture.fromarray(COLOUR), Picture.fromarray(255 - COLOUR)]
    options = {"jpg": {"format": "MPO", "quality": 95}, "webp": {"lossless": True}}.get(suffix, {})
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    for number in (None, 1, 2):
        with open_image(path, image=number) as image:
            assert (image.images, image.number) == (("frame 1", "frame 2"), number or 1)
            expected = 255 - COLOUR if number == 2 else COLOUR
            np.testing.assert_allclose(image.data[..., :3].astype(int), expected, atol=4)
    with pytest.raises(ImageError, match="its images are 1 to 2"):
        open_image(path, image=3)


def test_premultiplied_alpha_becomes_plain_alpha(tmp_path):
    pixels = np.zeros((8, 9, 4), np.uint8)
    pixels[:4] = [40, 100, 0, 100]
    write_image(tmp_path / "a.png", pixels, "YXS", carried=Carried(extra_samples=("associated",)))
    with Picture.open(tmp_path / "a.png") as picture:
        assert picture.getpixel((0, 0)) == (102, 255, 0, 100)
        assert picture.getpixel((0, 7)) == (0, 0, 0, 0)


def test_white_at_zero_is_inverted_in_pictures(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", COLOUR[..., 0], photometric="miniswhite")
    for suffix in PICTURES:
        rewritten(tmp_path / "a.tif", tmp_path / f"b.{suffix}")
        with Picture.open(tmp_path / f"b.{suffix}") as b:
            grey = np.asarray(b.convert("L"), int)
        np.testing.assert_allclose(grey, 255 - COLOUR[..., 0].astype(int), atol=3)


def test_what_a_jpeg_has_no_room_for_is_named(tmp_path):
    carried = Carried(exif=b"II*\0" + bytes(70000), texts={"Author": "a"}, name="leaf")
    said = loss_notice(tmp_path / "b.jpg", image(carried))
    assert all(word in said for word in ("EXIF data", "texts", "image name"))
    write_image(tmp_path / "b.jpg", COLOUR, "YXS", carried=carried)


def test_captions_of_a_jpeg_stay_and_a_gain_map_is_named(tmp_path):
    captions = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x09\x1c\x02\x78\0\x04leaf"
    segment = b"\xff\xed" + (len(captions) + 2).to_bytes(2, "big") + captions
    xmp = b'<x:xmpmeta hdrgm:Version="1.0"/>'
    Picture.fromarray(COLOUR).save(tmp_path / "a.jpg", extra=segment, xmp=xmp)
    carried = rewritten(tmp_path / "a.jpg", tmp_path / "b.jpg")
    with Picture.open(tmp_path / "b.jpg") as b:
        assert ("APP13", captions) in b.applist
    assert "gain map" in loss_notice(tmp_path / "b.jpg", image(carried))
    assert "captions" in loss_notice(tmp_path / "b.png", image(carried))
