"""JPEG pictures."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.carried import JpegStyle
from napari_swintormer.imaging.formats import exif as exif_block
from napari_swintormer.imaging.formats.format import WORDS
from napari_swintormer.imaging.formats.picture import (
    Decoded,
    PictureFormat,
    check_memory,
    choose_frame,
    read_info,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.imaging.carried import Carried

_QUALITY = 95
_SUBSAMPLING: dict[int, Literal["4:4:4", "4:2:2", "4:2:0"]] = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
# Bytes of one block in a file; a profile may take several.
_LARGEST = {"exif": 65533 - 6, "xmp": 65533 - 29, "comment": 65533}
_COMMENT = "Comment"
_PHOTOSHOP = "captions and paths of Photoshop and IPTC"  # in a segment APP13
_GAIN_MAP = "gain map of Ultra HDR"


class Jpeg(PictureFormat):
    """JPEG: pictures of 8 bits, with losses.

    Results of a JPEG have its quantization tables and its subsampling, others quality 95 and full
    colour resolution.
    """

    name = "JPEG"
    suffixes = (".jpg", ".jpeg")
    read_suffixes = (".jpe", ".jfif", ".mpo")
    signatures = (b"\xff\xd8\xff",)
    result_suffix = ".png"
    dtypes = ("uint8",)
    holds_alpha = False
    largest_side = 65500
    holds = frozenset(WORDS) - {"texts", "no_data", "name", "channels"} | {_PHOTOSHOP}

    def decode(self, path: Path, number: int) -> Decoded:
        """Decode a file; CMYK colours are refused."""
        from PIL.JpegImagePlugin import get_sampling, jpeg_factory

        # The class itself does not limit the number of pixels; `check_memory` does.
        with path.open("rb") as file, jpeg_factory(file, str(path)) as picture:
            carried = _carried(picture)
            n_images = choose_frame(path, picture, number)
            if picture.mode not in ("L", "RGB"):
                raise FileError(
                    f"{path} has {picture.mode} colours; convert it to RGB or grey first."
                )
            check_memory(path, picture.width * picture.height * len(picture.getbands()))
            tables = {n: tuple(table) for n, table in picture.quantization.items()}
            style = JpegStyle(tables, _SUBSAMPLING.get(get_sampling(picture), "4:4:4"))
            return Decoded(np.asarray(picture), replace(carried, jpeg=style), n_images)

    def cannot_hold(self, carried: Carried, path: Path) -> list[str]:
        """Name what has no place, and what is too long."""
        long = [WORDS[name] for name in _too_long(carried)]
        texts = {key: text for key, text in carried.texts.items() if key != _COMMENT}
        if carried.resolution_unit == "none":
            long.append(WORDS["resolution"])
        kept = replace(carried, texts=texts).without(*_too_long(carried))
        return super().cannot_hold(kept, path) + long

    def encode(self, pixels: NDArray[Any], carried: Carried) -> bytes:
        """Encode a picture."""
        from PIL import Image

        carried = carried.without(*_too_long(carried))
        options: dict[str, Any] = {"quality": _QUALITY, "subsampling": "4:4:4"}
        style = carried.jpeg
        if style is not None and len(style.quantization) >= (1 if pixels.ndim == 2 else 2):
            options = {"qtables": dict(style.quantization), "subsampling": style.subsampling}
        if carried.exif:
            options["exif"] = b"Exif\0\0" + carried.exif
        if carried.xmp:
            options["xmp"] = carried.xmp
        if carried.icc_profile:
            options["icc_profile"] = carried.icc_profile
        if dpi := exif_block.dots_per_inch(carried):
            options["dpi"] = tuple(min(n, 65535) for n in dpi)
        comment = carried.texts.get(_COMMENT, "")
        if not comment and carried.description != exif_block.description_of(carried.exif):
            comment = carried.description
        for segment in carried.native.get(_PHOTOSHOP, ()):
            length = (len(segment) + 2).to_bytes(2, "big")
            options["extra"] = options.get("extra", b"") + b"\xff\xed" + length + segment
        if comment:
            options["comment"] = comment.encode()[: _LARGEST["comment"]]
        file = BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", **options)
        return file.getvalue()


def _carried(picture: Any) -> Carried:
    info, native = picture.info, dict[str, Any]()
    if segments := tuple(content for kind, content in picture.applist if kind == "APP13"):
        native[_PHOTOSHOP] = segments
    if any(b' hdrgm:Version="' in content for kind, content in picture.applist if kind == "APP1"):
        native[_GAIN_MAP] = True
    comment = info.get("comment", b"").decode("utf-8", "replace").rstrip("\0")
    carried = replace(read_info(info), native=native)
    if comment and carried.description not in ("", comment):
        carried = replace(carried, texts={_COMMENT: comment})
    elif comment:
        carried = replace(carried, description=comment)
    # Pillow tells 72 dots per inch where a file with EXIF tells none.
    if info.get("jfif_unit") in (1, 2) and min(info.get("dpi", (0, 0))) > 0:
        x, y = info["dpi"]
        return replace(carried, resolution=(float(x), float(y)), resolution_unit="inch")
    return carried


def _too_long(carried: Carried) -> list[str]:
    """Name the fields that are longer than a block of a JPEG."""
    lengths = {"exif": len(carried.exif), "xmp": len(carried.xmp)}
    return [name for name, length in lengths.items() if length > _LARGEST[name]]
