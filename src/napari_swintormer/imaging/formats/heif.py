"""HEIC and AVIF pictures of phones and cameras; they are read, and results are PNG."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.exif import reset_orientation
from napari_swintormer.imaging.formats.extra import brands, import_extra
from napari_swintormer.imaging.formats.picture import (
    Decoded,
    PictureReader,
    check_memory,
    check_number,
    choose_frame,
    read_info,
)

if TYPE_CHECKING:
    from pathlib import Path

_HEVC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"}
_AV1 = {b"avif", b"avis"}
_GENERIC = {b"mif1", b"msf1"}  # HEIF of any codec


class Heif(PictureReader):
    """HEIF with HEVC, as phones take it. More than 8 bits become 16."""

    name = "HEIC"
    suffixes = ()
    read_suffixes = (".heic", ".heif", ".hif")

    def detect(self, path: Path, start: bytes) -> bool:
        """Say whether a file holds pictures that are compressed by HEVC."""
        found = brands(path) if start[4:8] == b"ftyp" else set()
        return bool(found & _HEVC) or bool(found & _GENERIC and not found & _AV1)

    def decode(self, path: Path, number: int) -> Decoded:
        """Decode a picture; the library turns it upright."""
        pillow_heif = import_extra("pillow_heif", "heif", path, "a HEIC picture")
        file = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
        check_number(path, number, len(file))
        # The main picture comes first, as users count.
        order = sorted(range(len(file)), key=lambda i: (i != file.primary_index, i))
        picture = file[order[number - 1]]
        width, height = picture.size
        check_memory(path, width * height * 8)
        carried = read_info(picture.info)
        block, xmp = reset_orientation(carried.exif, carried.xmp)
        pixels = np.asarray(picture)
        if picture.mode.startswith("RGBa"):
            raise FileError(f"{path} has premultiplied alpha; convert it to PNG first.")
        return Decoded(pixels, replace(carried, exif=block, xmp=xmp), len(file))


class Avif(PictureReader):
    """AVIF. Pictures of 10 and 12 bits keep their values."""

    name = "AVIF"
    suffixes = ()
    read_suffixes = (".avif", ".avifs")

    def detect(self, path: Path, start: bytes) -> bool:
        """Say whether a file holds pictures that are compressed by AV1."""
        return start[4:8] == b"ftyp" and bool(brands(path) & _AV1)

    def decode(self, path: Path, number: int) -> Decoded:
        """Decode a picture, or a frame of an animation."""
        import imagecodecs
        from PIL.AvifImagePlugin import AvifImageFile

        encoded = path.read_bytes()
        with AvifImageFile(BytesIO(encoded)) as picture:
            n_frames = choose_frame(path, picture, number)
            check_memory(path, picture.width * picture.height * 8)
            carried = read_info(picture.info)
        # Pillow would give 8 bits.
        pixels = imagecodecs.avif_decode(encoded, index=number - 1)
        if pixels.dtype == np.uint16:
            twelve_bits = encoded[encoded.index(b"av1C") + 6] & 0x20
            carried = replace(carried, bits_per_sample=12 if twelve_bits else 10)
        return Decoded(pixels, carried, n_frames)
