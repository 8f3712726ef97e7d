"""PNG pictures of 1 to 16 bits."""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats import exif as exif_block
from napari_swintormer.imaging.formats.format import WORDS
from napari_swintormer.imaging.formats.picture import (
    Decoded,
    PictureFormat,
    check_memory,
    check_number,
    read_info,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.imaging.carried import Carried

_DEFLATE_RATIO = 1032  # the most that Deflate can compress
_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type
_PALETTE = 3
_AFTER_HEADER = 33  # bytes: signature and the chunk IHDR
_TOLD = (b"iCCP", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"acTL")  # chunks that Pillow reads
# What tells colours where no profile and no sRGB chunk does.
_COLOURS = (b"gAMA", b"cHRM", b"cICP")
_NATIVE = "gamma and primaries of PNG"
_METRES_PER_INCH = 0.0254
_XMP_KEY, _EXIF_KEY, _DESCRIPTION = "XML:com.adobe.xmp", "Raw profile type exif", "Description"


class Png(PictureFormat):
    """PNG: lossless pictures. Fewer bits, palettes and a transparent colour become samples."""

    name = "PNG"
    suffixes = (".png",)
    read_suffixes = (".apng",)
    signatures = (b"\x89PNG\r\n\x1a\n",)
    dtypes = ("uint8", "uint16")
    holds = frozenset(WORDS) - {"no_data", "name", "channels"} | {_NATIVE}

    def decode(self, path: Path, number: int) -> Decoded:
        """Decode a file whose header promises no more pixels than its bytes can hold."""
        import imagecodecs

        encoded = path.read_bytes()
        try:
            width, height, bits, colour = struct.unpack(">IIBB", encoded[16:26])
        except struct.error as error:
            raise FileError(f"{path} is a truncated PNG file.") from error
        samples = _SAMPLES.get(colour, 4)
        stored_bits = height * width * bits * (1 if colour == _PALETTE else samples)
        if stored_bits / 8 > _DEFLATE_RATIO * len(encoded):
            raise FileError(
                f"{path} is damaged: {len(encoded)} bytes cannot be {width} x {height} pixels."
            )
        check_memory(path, height * width * samples * max(1, bits // 8))
        carried, n_frames = _read_chunks(encoded)
        check_number(path, number, n_frames)
        if number > 1:
            pixels = _decode_frame(path, encoded, number, bits)
        else:
            pixels = imagecodecs.png_decode(encoded)
        return Decoded(pixels, carried, n_frames)

    def encode(self, pixels: NDArray[Any], carried: Carried) -> bytes:
        """Encode a picture, with the chunks of its metadata after the header."""
        import imagecodecs

        encoded = bytes(imagecodecs.png_encode(pixels))
        return encoded[:_AFTER_HEADER] + _chunks(carried) + encoded[_AFTER_HEADER:]


def _decode_frame(path: Path, encoded: bytes, number: int, bits: int) -> NDArray[Any]:
    from PIL.PngImagePlugin import PngImageFile

    if bits == 16:
        raise FileError(
            f"{path} is an animation of 16 bits, and only its first frame can be read; save the "
            "other frames as pictures first."
        )
    with PngImageFile(BytesIO(encoded)) as picture:
        picture.seek(number - 1)
        return np.asarray(picture.convert("RGBA" if picture.mode == "P" else picture.mode))


def _read_chunks(encoded: bytes) -> tuple[Carried, int]:
    """Read the metadata, and the number of frames; damaged chunks are left out."""
    from PIL.PngImagePlugin import PngStream

    file, native = BytesIO(encoded), {}
    stream = PngStream(file)
    file.seek(8)
    with suppress(Exception):  # a file may end early, which its pixels then tell
        while (chunk := stream.read())[0] != b"IEND":
            kind, _, length = chunk
            start = file.tell()
            if kind in _TOLD:
                with suppress(Exception):
                    stream.call(*chunk)
            elif kind in (*_COLOURS, b"sRGB"):
                native[kind] = encoded[start : start + length]
            file.seek(start + length + 4)
    info, texts = stream.im_info, dict(stream.im_text)
    texts.pop(_XMP_KEY, None)
    if (profile := texts.pop(_EXIF_KEY, None)) and "exif" not in info:
        with suppress(ValueError):  # as ImageMagick writes it: three lines, then hexadecimal
            info["exif"] = bytes.fromhex("".join(profile.split("\n")[3:]))
    carried = read_info(info, texts.pop(_DESCRIPTION, ""))
    if "dpi" in info:
        x, y = map(_whole, info["dpi"])
        carried = replace(carried, resolution=(x, y), resolution_unit="inch")
    elif "aspect" in info and min(info["aspect"]) > 0 and len(set(info["aspect"])) == 2:
        x, y = map(float, info["aspect"])
        carried = replace(carried, resolution=(x, y), resolution_unit="none")
    if native and b"sRGB" not in native and not carried.icc_profile:
        carried = replace(carried, native={_NATIVE: native})
    return replace(carried, texts=texts), stream.im_n_frames or 1


def _whole(dpi: float) -> float:
    """Undo the rounding to whole pixels per metre."""
    return round(dpi) if abs(dpi - round(dpi)) <= _METRES_PER_INCH / 2 else dpi


def _chunks(carried: Carried) -> bytes:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo, getchunks, putchunk

    written, texts = BytesIO(), PngInfo()
    described = exif_block.description_of(carried.exif)
    if carried.description and carried.description != described:
        texts.add_text(_DESCRIPTION, carried.description)
    for key, text in carried.texts.items():
        texts.add_text(key, text)
    if carried.xmp:
        texts.add_itxt(_XMP_KEY, carried.xmp.decode("utf-8", "replace"))
    for kind, content in carried.native.get(_NATIVE, {}).items():
        putchunk(written, kind, content)
    options: dict[str, Any] = {"pnginfo": texts}
    if carried.icc_profile:
        options["icc_profile"] = carried.icc_profile
    if carried.exif:
        options["exif"] = carried.exif
    for kind, content, _ in getchunks(Image.new("L", (1, 1)), **options):
        if kind not in (b"IHDR", b"IDAT", b"IEND"):
            putchunk(written, kind, content)
    if carried.resolution is not None:
        dpi = exif_block.dots_per_inch(carried)
        per_metre = [n / _METRES_PER_INCH for n in dpi] if dpi else carried.resolution
        x, y = (min(round(n), 2**31 - 1) for n in per_metre)
        putchunk(written, b"pHYs", struct.pack(">IIB", x, y, dpi is not None))
    return written.getvalue()
