import errno
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Picture

from napari_swintormer.errors import FileError, ImageError
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.reading import open_image

STACK = np.arange(5 * 40 * 50, dtype=np.uint16).reshape(5, 40, 50)
COLOUR = np.random.default_rng(0).integers(0, 65535, (30, 40, 3)).astype(np.uint16)


def pixels(path, **options):
    with open_image(path, **options) as image:
        return np.asarray(image.data[...])


def pixels_or_refusal(path):
    try:
        return pixels(path)
    except (FileError, ImageError) as error:
        return str(error)


TIFFS = {
    "flat": {"metadata": None},
    "shaped": {},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    "bigtiff": {"bigtiff": True, "metadata": None},
    "big-endian": {"byteorder": ">", "metadata": None},
    "tiled": {"tile": (16, 32), "metadata": None},
    "strips": {"rowsperstrip": 7, "metadata": None},
    "deflate": {"compression": "zlib", "predictor": True, "metadata": None},
    "lzw tiles": {"compression": "lzw", "tile": (16, 16), "metadata": None},
    "zstd ome": {"compression": "zstd", "ome": True, "metadata": {"axes": "ZYX"}},
}


@pytest.fixture(params=TIFFS, scope="module")
def tiff(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiff") / "stack.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", **TIFFS[request.param])
    return path


def test_tiffs_of_every_kind_read_alike(tiff):
    with open_image(tiff) as image:
        assert (image.axes, image.data.shape, image.name) == ("ZYX", STACK.shape, "stack")
        assert np.array_equal(image.data[...], STACK)
        assert np.array_equal(image.data[3, 5:17, 20:], STACK[3, 5:17, 20:])


def test_threads_may_read_at_once(tiff):
    with open_image(tiff) as image, ThreadPoolExecutor(8) as pool:
        planes = list(pool.map(lambda i: np.asarray(image.data[i % 5]), range(40)))
    assert all(np.array_equal(plane, STACK[i % 5]) for i, plane in enumerate(planes))


def test_a_truncated_tiff_is_refused_or_whole(tiff, tmp_path):
    encoded, cut = tiff.read_bytes(), tmp_path / "cut.tif"
    refused = 0
    for length in (*range(0, len(encoded), len(encoded) // 40), len(encoded) - 1):
        cut.write_bytes(encoded[:length])
        outcome = pixels_or_refusal(cut)
        if isinstance(outcome, str):
            assert "cut.tif" in outcome
            refused += 1
        else:
            assert np.array_equal(outcome, STACK)  # what is missing was no pixel
    assert refused > 35


def test_flat_tiffs_are_read_in_place(tmp_path):
    for name, options in (
        ("a.tif", {"contiguous": True}),
        ("b.tif", {"contiguous": False, "metadata": None}),
    ):
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for plane in STACK:
                writer.write(plane, photometric="minisblack", **options)
        with open_image(tmp_path / name) as image:
            assert isinstance(image.data, FlatArray)
            assert np.array_equal(image.data[1:4, 2], STACK[1:4, 2])


@pytest.mark.parametrize(
    ("shape", "options", "axes"),
    [
        ((40, 50, 3), {"photometric": "rgb"}, "YXS"),
        ((3, 40, 50), {"photometric": "rgb", "planarconfig": "separate"}, "SYX"),
        ((40, 50, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, "YXS"),
        ((40, 50, 2), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, "YXS"),
        ((40, 50, 2), {"photometric": "minisblack", "planarconfig": "contig"}, "YXC"),
        ((40, 50, 5), {"photometric": "minisblack", "planarconfig": "contig"}, "YXC"),
        ((2, 3, 40, 50), {"photometric": "minisblack"}, "TZYX"),
        ((2, 3, 4, 40, 50), {"photometric": "minisblack", "metadata": {"axes": "TZCYX"}}, "TZCYX"),
        (
            (2, 3, 40, 50),
            {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CZYX"}},
            "CZYX",
        ),
    ],
)
def test_axes_of_tiffs(tmp_path, shape, options, axes):
    data = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    with open_image(tmp_path / "a.tif") as image:
        assert image.axes == axes
        assert np.array_equal(image.data[...], data)


def test_packed_12_bit_tiffs_are_whole(tmp_path):
    pytest.importorskip("imagecodecs", "2026.3.6")  # older ones read packed bits, and write none
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], bitspersample=12, metadata=None)
    assert np.array_equal(pixels(tmp_path / "a.tif"), STACK[0])


def test_the_largest_image_of_a_tiff_is_opened(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(STACK[0, :9, :9], photometric="minisblack")
        writer.write(STACK, photometric="minisblack", subifds=1)
        writer.write(STACK[:, ::2, ::2], photometric="minisblack")
    assert np.array_equal(pixels(tmp_path / "a.tif"), STACK)


@pytest.mark.parametrize(
    ("options", "size", "unit"),
    [
        (
            {
                "imagej": True,
                "resolution": (4, 2),
                "metadata": {"axes": "ZYX", "unit": "um", "spacing": 3},
            },
            {"Z": 3, "Y": 0.5, "X": 0.25},
            "micrometer",
        ),
        (
            {
                "ome": True,
                "metadata": {"axes": "ZYX", "PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm"}
                | {"PhysicalSizeY": 500, "PhysicalSizeYUnit": "nm"},
            },
            {"Y": 500, "X": 250},
            "nanometer",
        ),
        (
            {"resolution": (20, 10), "resolutionunit": "centimeter"},
            {"Y": 0.1, "X": 0.05},
            "centimeter",
        ),
        ({"resolution": (300, 300), "resolutionunit": "inch"}, {}, None),  # a size in print
        ({"resolution": (0, 0), "resolutionunit": "centimeter"}, {}, None),
    ],
)
def test_pixel_sizes_of_tiffs(tmp_path, options, size, unit):
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", **options)
    with open_image(tmp_path / "a.tif") as image:
        assert image.pixel_size == pytest.approx(size)
        assert set(image.unit.values()) == ({unit} if unit else set())


def test_a_size_that_is_no_number_gets_a_sentence(tmp_path):
    metadata = {"axes": "ZYX", "PhysicalSizeX": "wide"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, ome=True, metadata=metadata)
    with pytest.raises(FileError, match=r"a\.tif is a damaged or truncated TIFF file .*wide"):
        open_image(tmp_path / "a.tif")


def test_an_ome_tiff_without_all_its_pages_is_refused(tmp_path):
    path = tmp_path / "a.ome.tif"
    xml = tifffile.OmeXml()
    xml.addimage("uint16", (5, 40, 50), (5, 1, 1, 40, 50, 1), axes="ZYX")
    with tifffile.TiffWriter(path, ome=False) as writer:
        for plane in STACK[:4]:
            writer.write(plane, description=xml.tostring(), metadata=None, contiguous=False)
    with pytest.raises(FileError, match=r"a\.ome\.tif"):
        pixels(path)


def test_a_disk_that_goes_while_a_compressed_file_is_read(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", STACK, compression="zlib", photometric="minisblack")

    def gone(*_, **__):
        raise OSError(errno.ESTALE, "Stale file handle")

    with open_image(tmp_path / "a.tif") as image:
        monkeypatch.setattr(tifffile.FileHandle, "read", gone)
        with pytest.raises(
            FileError, match=r"a\.tif cannot be read any more \(Stale file handle\)"
        ):
            image.data[0]


def test_damaged_pixels_are_told_when_they_are_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK, compression="zlib", photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[2].dataoffsets[0]
    encoded = bytearray(path.read_bytes())
    encoded[offset + 5 : offset + 40] = bytes(35)
    path.write_bytes(encoded)
    with open_image(path) as image:
        assert np.array_equal(image.data[0], STACK[0])
        with pytest.raises(FileError, match="is a damaged or truncated TIFF file"):
            image.data[2]


@pytest.mark.parametrize(
    ("tag", "value"), [(256, 10**9), (257, 10**9), (278, 2**31), (277, 60000), (258, 4096)]
)
def test_tiffs_that_claim_too_much_are_refused(tmp_path, tag, value):
    path = tmp_path / "a.tif"
    for compression in (None, "zlib"):
        tifffile.imwrite(path, STACK[0], compression=compression, metadata=None)
        with tifffile.TiffFile(path, mode="r+") as tiff:
            tiff.pages[0].tags[tag].overwrite(value, dtype=4 if tag in (256, 257, 278) else None)
        outcome = pixels_or_refusal(path)
        if isinstance(outcome, str):
            assert "a.tif" in outcome or "data type" in outcome
        else:
            assert tag == 278  # rows per strip may exceed the rows
            assert np.array_equal(outcome, STACK[0])


def test_palette_and_mask_tiffs_get_a_sentence(tmp_path):
    indices = STACK[0].astype(np.uint8)
    colours = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colours)
    with pytest.raises(FileError, match="convert it to RGB"):
        open_image(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", STACK[0] > 99)
    with pytest.raises(ImageError, match="mask"):
        open_image(tmp_path / "b.tif")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr_arrays(tmp_path, zarr_format):
    zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(1, 16, 16), zarr_format=zarr_format)
    with open_image(tmp_path / "a.zarr") as image:
        assert image.axes == "ZYX"
        assert np.array_equal(image.data[2, 3:9], STACK[2, 3:9])


def ome_zarr(path, version, **changes):
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("full", data=STACK[:, np.newaxis])
    names = [("z", "space"), ("c", "channel"), ("y", "space"), ("x", "space")]
    axes = [{"name": n, "type": t} | ({"unit": "micrometer"} if n != "c" else {}) for n, t in names]
    scale = {"type": "scale", "scale": [0.5, 1, 0.25, 0.25]}
    multiscale = {
        "axes": axes,
        "datasets": [{"path": "full", "coordinateTransformations": [scale]}],
        "coordinateTransformations": [{"type": "scale", "scale": [2, 1, 1, 1]}],
    } | changes
    described = {"multiscales": [multiscale]}
    group.attrs.update(described if version == "0.4" else {"ome": described | {"version": "0.5"}})


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_images(tmp_path, version):
    ome_zarr(tmp_path / "a.ome.zarr", version)
    with open_image(tmp_path / "a.ome.zarr") as image:
        assert (image.axes, image.name) == ("ZCYX", "a")
        assert image.pixel_size == {"Z": 1.0, "Y": 0.25, "X": 0.25}
        assert image.unit == dict.fromkeys("ZYX", "micrometer")
        assert np.array_equal(image.data[1, 0], STACK[1])


def test_the_first_image_of_a_collection_is_opened(tmp_path):
    ome_zarr(tmp_path / "a.zarr" / "0", "0.5")
    collection = zarr.open_group(tmp_path / "a.zarr", mode="a")
    collection.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    assert np.array_equal(pixels(tmp_path / "a.zarr"), STACK[:, np.newaxis])


@pytest.mark.parametrize(
    "changes",
    [{"datasets": []}, {"datasets": [{"path": "none"}]}, {"axes": 3}, {"axes": [{"name": "y"}]}],
)
def test_damaged_ome_zarr_gets_a_sentence(tmp_path, changes):
    ome_zarr(tmp_path / "a.zarr", "0.5", **changes)
    with pytest.raises(FileError, match="no OME-Zarr image of version"):
        open_image(tmp_path / "a.zarr")


@pytest.mark.parametrize("compressor", ["zstd", "blosc", "gzip", None])
def test_a_damaged_chunk_gets_a_sentence(tmp_path, compressor):
    path = tmp_path / "a.zarr"
    codec = compressor and {"name": compressor, "configuration": {}}
    zarr.create_array(path, data=STACK, chunks=STACK.shape, compressors=codec)
    (chunk,) = (file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")
    chunk.write_bytes(chunk.read_bytes()[:20])
    with open_image(path) as image, pytest.raises(FileError, match=r"a\.zarr has a damaged chunk"):
        image.data[0]


def test_folders_without_zarr_are_refused(tmp_path):
    with pytest.raises(FileError, match="folder without a Zarr array"):
        open_image(tmp_path)


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files(tmp_path, order):
    np.save(tmp_path / "a.npy", np.asarray(STACK, order=order))
    with open_image(tmp_path / "a.npy") as image:
        assert image.axes == "ZYX"
        assert np.array_equal(image.data[2, 4:9, ::2], STACK[2, 4:9, ::2])


def test_npy_files_hold_numbers_only(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "b.npy", STACK)
    encoded = (tmp_path / "b.npy").read_bytes()
    (tmp_path / "b.npy").write_bytes(encoded[:-1])
    for name in ("a.npy", "b.npy"):
        with pytest.raises(FileError, match=name):
            open_image(tmp_path / name)


def test_five_axes_are_not_guessed_but_may_be_given(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 2, 2, 8, 9), np.uint8))
    with pytest.raises(ImageError, match="axes='TCZYX'"):
        open_image(tmp_path / "a.npy")
    with open_image(tmp_path / "a.npy", axes="CTZYX") as image:
        assert image.axes == "CTZYX"


@pytest.mark.parametrize("shape", [(30, 40), (30, 40, 2), (30, 40, 3), (30, 40, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_keeps_its_bits(tmp_path, shape, dtype):
    top = np.iinfo(dtype).max
    picture = np.random.default_rng(0).integers(0, top, shape, endpoint=True).astype(dtype)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(picture))
    with open_image(tmp_path / "a.png") as image:
        assert image.axes == ("YX" if picture.ndim == 2 else "YXS")
        assert image.data.dtype == dtype
        assert np.array_equal(image.data, picture)


def test_jpeg_stands_upright(tmp_path):
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, :8] = 255
    turned = Picture.Exif()
    turned[0x0112] = 6  # turn clockwise to view
    Picture.fromarray(picture).save(tmp_path / "a.jpg", exif=turned, quality=95)
    upright = pixels(tmp_path / "a.jpg")
    assert upright.shape == (30, 20, 3)
    assert upright[:7].min() > 200
    assert upright[9:].max() < 50


def chunk(kind, content):
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def test_pictures_cut_off_or_claiming_too_much_are_refused(tmp_path):
    Picture.fromarray((COLOUR >> 8).astype(np.uint8)).save(tmp_path / "a.jpg")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(COLOUR))
    for name in ("a.jpg", "a.png"):
        encoded = (tmp_path / name).read_bytes()
        for length in (12, 20, len(encoded) // 2, len(encoded) - 20):
            (tmp_path / name).write_bytes(encoded[:length])
            with pytest.raises(FileError, match=name):
                open_image(tmp_path / name)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 10**6, 10**6, 16, 6, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(10**6)))
    (tmp_path / "b.png").write_bytes(bomb + chunk(b"IEND", b""))
    with pytest.raises(FileError, match="1000000 x 1000000"):
        open_image(tmp_path / "b.png")


def test_a_jpeg_larger_than_memory_is_refused(tmp_path, monkeypatch):
    Picture.fromarray(np.zeros((500, 500), np.uint8)).save(tmp_path / "a.jpg")
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 400_000}))
    with pytest.raises(FileError, match=r"a\.jpg would take .* convert it to a tiled TIFF"):
        open_image(tmp_path / "a.jpg")


def test_the_content_decides_and_not_the_suffix(tmp_path):
    (tmp_path / "a.tif").write_bytes(imagecodecs.png_encode(COLOUR))
    assert np.array_equal(pixels(tmp_path / "a.tif"), COLOUR)
    for content, words in ((b"", "is empty"), (b"hello, world", "unknown format; TIFF, ")):
        (tmp_path / "b.tif").write_bytes(content)
        with pytest.raises(FileError, match=words):
            open_image(tmp_path / "b.tif")
    with pytest.raises(FileError, match="does not exist"):
        open_image(tmp_path / "c.tif")
