"""Forms of image files that people have: the table behind the tests and ``docs/formats.md``.

``python tests/helpers/file_forms.py`` writes the page anew.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import tifffile
import zarr
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = "kept"
_FIRST_FRAME = "the first frame is opened, the others are named; `--image` or a combo box chooses"
PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


@dataclass(frozen=True)
class Form:
    """A form of file: `make` writes one under a name; `refused` are words of the message."""

    format: str
    holds: str
    name: str  # of the file
    make: Callable[[Path], object]
    outcome: str = KEPT
    refused: str = ""
    result: str = ""  # name of the result, where it is not that of the input
    tolerance: int = 0  # largest difference, where the result is a JPEG
    needs: str = ""  # a library that only some people install


def grey(dtype: str = "uint16", low: float = 90, high: float = 4000, seed: int = 0) -> Any:
    """Draw smooth noise of 32 x 40 pixels between two intensities."""
    noise = gaussian_filter(np.random.default_rng(seed).random((32, 40)), 3)
    scaled = low + (noise - noise.min()) / np.ptp(noise) * (high - low)
    return scaled.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(scaled).astype(dtype)


def rgb(samples: int = 3) -> Any:
    """Draw an 8-bit picture of smooth noise."""
    return np.stack([grey("uint8", 10, 240, seed) for seed in range(samples)], -1)


def profile() -> bytes:
    """Make a colour profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exif() -> Image.Exif:
    """Make EXIF data with a table of the camera and one of the position."""
    block = Image.Exif()
    block[0x010F], block[0x0110], block[0x8298] = "Maker", "Camera", "Somebody"
    block[0x0132] = "2024:01:02 03:04:05"
    block.get_ifd(0x8769)[0x9003] = "2024:01:02 03:04:05"
    block.get_ifd(0x8825)[1] = "N"
    return block


def _tiff(path: Path, pixels: Any, **options: Any) -> None:
    tifffile.imwrite(path, pixels, **({"metadata": None} | options))


def _picture(path: Path, **options: Any) -> None:
    Image.fromarray(rgb()).save(path, **options)


def _packed(path: Path, bits: int) -> None:
    pixels = grey("uint8" if bits <= 8 else "uint16", 0, 2**bits - 1)
    _tiff(path, pixels, bitspersample=bits, photometric="minisblack")


def _ome(path: Path, **options: Any) -> None:
    stack = np.stack([[grey(seed=2 * c + z) for z in range(2)] for c in range(3)])
    metadata = {
        "axes": "CZYX",
        "Name": "embryo",
        "Description": "a fish",
        "Channel": {"Name": ["DAPI", "GFP", "Cy5"], "Color": [65535, 16711935, -1]},
        "Plane": {"PositionX": [1.5] * 6, "ExposureTime": [0.1] * 6},
        "PhysicalSizeX": 0.1,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.1,
        "PhysicalSizeYUnit": "µm",
    }
    tifffile.imwrite(path, stack, metadata=metadata, **options)


def _ome_instrument(path: Path) -> None:
    _ome(path)
    with tifffile.TiffFile(path) as tiff:
        xml = tiff.ome_metadata
    assert xml is not None
    instrument = (
        '<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="1.4" '
        'NominalMagnification="63.0" Immersion="Oil"/></Instrument><Image ID="Image:0"'
    )
    xml = xml.replace('<Image ID="Image:0"', instrument, 1)
    tifffile.tiffcomment(path, xml.encode())


def _ome_files(path: Path, compression: str | None = None) -> None:
    ids = [f"urn:uuid:{UUID(int=number + 1)}" for number in range(3)]
    names = [path.name, "second.ome.tif", "third.ome.tif"]
    where = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{names[z]}">{ids[z]}'
        "</UUID></TiffData>"
        for z in range(3)
    )
    for z in range(3):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME '
            'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{ids[z]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint16" SizeX="40" SizeY="32" SizeZ="3" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{where}</Pixels></Image></OME>'
        )
        _tiff(path.with_name(names[z]), grey(seed=z), description=xml, compression=compression)


def _imagej(path: Path) -> None:
    stack = np.stack([[grey(seed=2 * z + c) for c in range(2)] for z in range(3)])
    ramp = np.arange(256, dtype=np.uint8)
    luts = [np.stack([ramp * (i == c) for i in range(3)]).astype(np.uint8) for c in range(2)]
    metadata = {
        "axes": "ZCYX", "unit": "um", "spacing": 0.5, "mode": "composite", "LUTs": luts,
        "Ranges": (100.0, 2000.0, 50.0, 900.0), "Labels": [f"s{i}" for i in range(6)],
        "Info": "Objective = 63x", "Overlays": [b"Iout" + b"\0" * 60],
    }  # fmt: skip
    tifffile.imwrite(path, stack, imagej=True, resolution=(5, 5), metadata=metadata)


def _several(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        for number in range(3):
            writer.write(grey(seed=number), metadata={"axes": "YX", "Name": f"pos {number}"})


def _geo(path: Path, pixels: Any, **options: Any) -> None:
    tags = [
        (42113, "s", 0, "-9999", True),
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0, 0, 0, 4.5e5, 5.0e6, 0), True),
        (34735, "H", 4, (1, 1, 0, 0), True),
        (42112, "s", 0, "<GDALMetadata/>", True),
    ]
    _tiff(path, pixels, extratags=tags, **options)


def _no_data(path: Path) -> None:
    pixels = grey("float32", 280, 310)
    pixels[:, :8] = -9999
    _geo(path, pixels)


def _zarr(path: Path, version: int) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    group.create_array("0", data=np.stack([grey(seed=s) for s in range(2)]), chunks=(1, 16, 16))
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    steps = [
        {"type": "scale", "scale": [1.0, 0.2, 0.2]},
        {"type": "translation", "translation": [0.0, 5.0, 7.0]},
    ]
    window = {"min": 0, "max": 65535, "start": 100, "end": 2000}
    channels = [
        {"label": label, "color": colour, "active": True, "window": window}
        for label, colour in (("DAPI", "0000FF"), ("GFP", "00FF00"))
    ]
    labels = group.create_group("labels")
    cells = labels.create_group("cells")
    cells.create_array("0", data=(grey()[None] > 2000).astype(np.int32), chunks=(1, 16, 16))
    about = _zarr_about("cells", axes, steps[:1]) | {"image-label": {"colors": []}}
    described = _zarr_about("embryo", axes, steps) | {"omero": {"channels": channels}}
    if version == 2:
        described["multiscales"][0]["version"] = about["multiscales"][0]["version"] = "0.4"
        group.attrs.update(described)
        labels.attrs["labels"] = ["cells"]
        cells.attrs.update(about)
    else:
        group.attrs["ome"] = {"version": "0.5", **described}
        labels.attrs["ome"] = {"version": "0.5", "labels": ["cells"]}
        cells.attrs["ome"] = {"version": "0.5", **about}


def _zarr_about(name: str, axes: list[Any], steps: list[Any]) -> dict[str, Any]:
    datasets = [{"path": "0", "coordinateTransformations": steps}]
    return {"multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}


def _animation(path: Path) -> None:
    frames = [Image.fromarray(rgb()[..., ::step]) for step in (1, -1)]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


def turned(path: Path, **options: Any) -> None:
    """Save a picture that viewers turn clockwise."""
    block = exif()
    block[0x0112] = 6
    _picture(path, exif=block, **options)


def _turned_jpeg(path: Path) -> None:
    turned(path, quality=95, subsampling=0)


def _deep(path: Path) -> None:
    import imagecodecs

    pixels = np.stack([grey(high=60000, seed=seed) for seed in range(3)], -1)
    path.write_bytes(imagecodecs.png_encode(pixels))


def _few_colours(path: Path) -> None:
    picture = Image.fromarray(rgb()).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
    picture.save(path, bits=4, transparency=bytes(range(0, 255, 16)))


def _full_jpeg(path: Path) -> None:
    block, options = exif(), {"quality": 95, "subsampling": 0, "icc_profile": profile()}
    _picture(path, exif=block, xmp=b"<x/>", dpi=(300, 300), comment="hello", **options)


def _stereo(path: Path) -> None:
    frames = [Image.fromarray(rgb()[..., ::step]) for step in (1, -1)]
    options = {"format": "MPO", "quality": 95, "subsampling": 0}
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


def _heic(path: Path) -> None:
    import pillow_heif

    picture = pillow_heif.from_pillow(Image.fromarray(rgb()))
    picture.save(path, quality=-1, chroma=444, exif=exif().tobytes())


def dng(path: Path) -> None:
    """Write a raw file of a camera: a ramp of 96 x 128 pixels under a mosaic of colours."""
    to_camera = (32405, -15371, -4985, -9693, 18760, 416, 556, -2040, 10572)
    tags = [
        (50706, "B", 4, b"\1\4\0\0", True),  # version of DNG
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, b"\0\1\1\2", True),  # red, green; green, blue
        (272, "s", 0, "Camera", True),
        (50708, "s", 0, "Camera", True),
        (50721, "2i", 9, sum(((n, 10000) for n in to_camera), ()), True),
        (50728, "2I", 3, (1, 1) * 3, True),
        (50717, "H", 1, 40000, True),  # white
    ]
    mosaic = np.add.outer(np.arange(96) * 100, np.arange(128) * 100).astype(np.uint16)
    _tiff(path, mosaic, photometric="cfa", extratags=tags)


def _thunderscan(path: Path) -> None:
    _tiff(path, grey())
    content = bytearray(path.read_bytes())
    (at,) = struct.unpack_from("<I", content, 4)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", content, at)[0], 12):
        if struct.unpack_from("<H", content, entry)[0] == 259:
            struct.pack_into("<I", content, entry + 8, 32809)
    path.write_bytes(content)


def _palette(path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16) * 257
    _tiff(path, grey("uint8", 0, 255), photometric="palette", colormap=np.stack([ramp] * 3))


def _turned(path: Path) -> None:
    _tiff(path, rgb(), photometric="rgb", extratags=[(274, "H", 1, 6, True)])


def _separate(path: Path) -> None:
    pixels = np.moveaxis(rgb(), -1, 0)
    _tiff(path, pixels, photometric="rgb", planarconfig="separate", compression="zlib")


_TIFF = [
    Form("TIFF", "grey, 0 is black (MinIsBlack)", "a.tif", lambda p: _tiff(p, grey())),
    Form(
        "TIFF",
        "grey, 0 is white (MinIsWhite)",
        "a.tif",
        lambda p: _tiff(p, grey("uint8", 0, 255), photometric="miniswhite"),
        "kept, with its tag; inverted for a format without one",
    ),
    *(
        Form("TIFF", f"integers of {bits} bits, packed", "a.tif", lambda p, b=bits: _packed(p, b))
        for bits in (4, 10, 12, 14)
    ),
    *(
        Form("TIFF", f"{dtype} pixels", "a.tif", lambda p, d=dtype: _tiff(p, grey(d)))
        for dtype in ("int16", "int64", "uint64", "float16", "float64")
    ),
    Form("TIFF", "big-endian pixels", "a.tif", lambda p: _tiff(p, grey(">u2"), byteorder=">")),
    Form("TIFF", "RGB in separate planes", "a.tif", _separate),
    Form(
        "TIFF",
        "RGB with alpha",
        "a.tif",
        lambda p: _tiff(p, rgb(4), photometric="rgb", extrasamples=["unassalpha"]),
        "kept; alpha is copied",
    ),
    Form(
        "TIFF",
        "RGB multiplied by alpha",
        "a.tif",
        lambda p: _tiff(p, rgb(4), photometric="rgb", extrasamples=["assocalpha"]),
        "kept; no colour gets larger than alpha",
    ),
    Form(
        "TIFF",
        "RGB and near-infrared (unspecified sample)",
        "a.tif",
        lambda p: _tiff(p, rgb(4), photometric="rgb", extrasamples=["unspecified"]),
        "kept; every sample is deblurred as a channel",
    ),
    Form(
        "TIFF",
        "seven bands",
        "a.tif",
        lambda p: _geo(p, rgb(7), photometric="minisblack", planarconfig="contig"),
        "kept; every sample is deblurred as a channel",
    ),
    Form("TIFF", "orientation", "a.tif", _turned, "applied, and the tag reset"),
    Form("TIFF", "no-data value and GeoTIFF tags", "a.tif", _no_data, "kept, and never deblurred"),
    Form(
        "TIFF",
        "colour profile, EXIF, print resolution",
        "a.tif",
        lambda p: _picture(p, icc_profile=profile(), exif=exif(), dpi=(300, 300)),
    ),
    Form(
        "TIFF",
        "XMP, description, software",
        "a.tif",
        lambda p: _tiff(
            p, grey(), description="about", software="Scope 3", extratags=[(700, 1, 4, b"<x/>", 1)]
        ),
    ),
    Form("TIFF", "OME-XML: names, colours, positions", "a.ome.tif", _ome),
    Form("TIFF", "OME-XML: instrument", "a.ome.tif", _ome_instrument),
    Form("TIFF", "OME-TIFF in several files", "a.ome.tif", _ome_files, "opened whole"),
    Form(
        "TIFF",
        "OME-TIFF in several files, compressed",
        "a.ome.tif",
        lambda p: _ome_files(p, "zlib"),
        "opened whole",
    ),
    Form(
        "TIFF",
        "several images or positions",
        "a.ome.tif",
        _several,
        "the largest is opened, the others are named; `--image` or a combo box chooses",
    ),
    Form("TIFF", "ImageJ: tables, ranges, labels, Info, overlays", "a.tif", _imagej),
]
_REFUSED = [
    Form("TIFF", "palette colours", "a.tif", _palette, "refused", "palette"),
    Form(
        "TIFF",
        "CMYK",
        "a.tif",
        lambda p: Image.fromarray(rgb()).convert("CMYK").save(p),
        "refused",
        "CMYK",
    ),
    Form(
        "TIFF",
        "CIELAB",
        "a.tif",
        lambda p: _tiff(p, rgb(), photometric="cielab"),
        "refused",
        "CIELAB",
    ),
    Form(
        "TIFF",
        "YCbCr without JPEG",
        "a.tif",
        lambda p: Image.fromarray(rgb()).convert("YCbCr").save(p),
        "refused",
        "YCbCr",
    ),
    Form(
        "TIFF",
        "raw mosaic of a camera",
        "a.tif",
        lambda p: _tiff(
            p,
            grey(),
            photometric="cfa",
            extratags=[(33421, "H", 2, (2, 2), True), (33422, "B", 4, b"\0\1\1\2", True)],
        ),
        "refused, with advice",
        "raw mosaic",
    ),
    Form("TIFF", "an unknown compression", "a.tif", _thunderscan, "refused by name", "THUNDERSCAN"),
    Form(
        "JPEG",
        "CMYK",
        "a.jpg",
        lambda p: Image.fromarray(rgb()).convert("CMYK").save(p),
        "refused",
        "CMYK",
    ),
]


def _words(path: Path) -> None:
    words = PngInfo()
    words.add_text("Comment", "hello")
    _picture(path, icc_profile=profile(), exif=exif(), dpi=(300, 300), pnginfo=words)


_OTHERS = [
    Form("PNG", "colour profile, EXIF, resolution, texts", "a.png", _words),
    Form("PNG", "colours of 16 bits", "a.png", _deep),
    Form(
        "PNG",
        "1, 2 or 4 bits, palette, transparent colour",
        "a.png",
        _few_colours,
        "become grey or RGB of 8 bits, with alpha where something is transparent",
    ),
    Form("PNG", "orientation", "a.png", turned, "applied, and the tag reset"),
    Form("PNG", "animation (APNG)", "a.png", _animation, _FIRST_FRAME),
    Form(
        "JPEG",
        "colour profile, EXIF, XMP, resolution, comment",
        "a.jpg",
        _full_jpeg,
        "kept; the result has the quality and the subsampling of the input",
        tolerance=4,
    ),
    Form("JPEG", "orientation", "a.jpg", _turned_jpeg, "applied, and the tag reset", tolerance=4),
    Form("JPEG", "several pictures (MPO)", "a.jpg", _stereo, _FIRST_FRAME, tolerance=4),
    Form(
        "AVIF",
        "colour profile, EXIF, orientation",
        "a.avif",
        lambda p: turned(p, icc_profile=profile(), quality=100),
        "read; the result is another format",
        result="a.png",
    ),
    Form(
        "HEIC",
        "8 to 12 bits, EXIF, orientation",
        "a.heic",
        _heic,
        "read with the extra `heif`; the result is another format",
        result="a.png",
        needs="pillow_heif",
    ),
    Form(
        "camera raw",
        "mosaic of a camera (DNG, NEF, CR3, ARW, …)",
        "a.dng",
        dng,
        "developed with the extra `raw` to sRGB of 16 bits, with the camera's white balance",
        result="a.tif",
        needs="rawpy",
    ),
    Form(
        "WebP",
        "colour profile, EXIF, XMP",
        "a.webp",
        lambda p: _picture(p, lossless=True, icc_profile=profile(), exif=exif(), xmp=b"<x/>"),
    ),
    Form("WebP", "animation", "a.webp", _animation, _FIRST_FRAME),
    Form("NPY", "numbers", "a.npy", lambda p: np.save(p, grey("float32"))),
    Form("OME-Zarr", "0.4: rendering, position, labels", "a.ome.zarr", lambda p: _zarr(p, 2)),
    Form("OME-Zarr", "0.5: rendering, position, labels", "a.ome.zarr", lambda p: _zarr(p, 3)),
]
FORMS = _TIFF + _OTHERS + _REFUSED


def page() -> str:
    """Write the page of the documentation."""
    from napari_swintormer.imaging.formats.format import NATIVE_WORDS, WORDS
    from napari_swintormer.imaging.formats.registry import FORMATS, READ_ONLY
    from napari_swintormer.imaging.formats.tiff_samples import REFUSED

    lines = [
        "# File formats",
        "",
        "This page is made from the table that the tests run through "
        "(`tests/helpers/file_forms.py`).",
        "Every form below is opened, deblurred at strength 0, and compared with its input: in "
        "pixels, and in everything carried.",
        "A run says in one sentence what the format of the result cannot hold.",
        "",
        "## What each format carries",
        "",
        "| format | suffixes | written | carried to a result of this format |",
        "|---|---|---|---|",
    ]
    for form in (*FORMATS, *READ_ONLY):
        words = [WORDS[name] for name in WORDS if name in form.holds]
        words += [NATIVE_WORDS[name] for name in NATIVE_WORDS if name in form.holds]
        if form.name == "TIFF":
            words += [*list(NATIVE_WORDS.values())[:3], "0 as white", "bits per sample"]
        words += sorted(form.holds - WORDS.keys() - NATIVE_WORDS.keys())
        told = ", ".join(words) or ("pixels" if form.suffixes else "")
        suffixes = ", ".join(f"`{suffix}`" for suffix in form.suffixes + form.read_suffixes)
        written = "yes" if form.suffixes else f"no; results are `{form.result_suffix}`"
        lines.append(f"| {form.name} | {suffixes} | {written} | {told} |")
    lines += [
        "",
        "## Forms of files, and what each gets",
        "",
        "| format | form | what happens |",
        "|---|---|---|",
        *(f"| {form.format} | {form.holds} | {form.outcome} |" for form in FORMS),
        "",
        "## Meanings of samples that are refused",
        "",
        "| photometric interpretation | the file has | what to do |",
        "|---|---|---|",
        *(f"| {kind} | {what} | {advice} |" for kind, (what, advice) in REFUSED.items()),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
