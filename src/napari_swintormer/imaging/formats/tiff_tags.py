"""Tags of a TIFF that describe the image and not its storage: read, and written again."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_swintormer.imaging.carried import Carried

TagTuple = tuple[int, int, int, Any, bool]
"""Code, data type, count, value, and True for the first page only: as tifffile takes it."""

TAGS = "TIFF tags"
"""Key of the private tags in ``Carried.native``."""
NO_DATA, EXIF_IFD, GPS_IFD = 42113, 34665, 34853
_INTEROPERABILITY = 40965
# tifffile does not write these tags: neighbours hold their places until the tables are appended.
_PLACEHOLDERS = {EXIF_IFD: 34664, GPS_IFD: 34854}
_ICC, _XMP, _SOFTWARE, _DATE = 34675, 700, 305, 306
_MAX_SAMPLE = 281
_PHOTOSHOP = {34377: "image resources of Photoshop", 37724: "layers of Photoshop"}
# Words about the picture: camera, artist, date and so on. EXIF has the same tags.
_WORDS = (269, 271, 272, 285, _SOFTWARE, _DATE, 315, 316, 33432)
# Everything about storage and the meaning of samples, which the writer decides anew; what other
# parts of the code carry; and what would be wrong in a new file, such as offsets and layers.
_OWN = {
    *range(254, 270), 270, *range(273, 285), 286, 287, *range(288, 294), 296, 297, 300,
    317, 320, *range(322, 331), 332, 333, 334, 336, 337, 338, 339, 340, 341, 347, 512, 513, 514,
    515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 559, *range(32995, 32999),
    33421, 33422, 34412, *range(33628, 33632), 34377, 37724, 40965, 50838, 50839,
    *range(50706, 51042), *range(51081, 51123), *range(52525, 52600), *range(65420, 65480),
}  # fmt: skip
_IFD_TYPES, _BYTE_TYPES, _LONG8_TYPES = (13, 18), (1, 2, 6, 7), (16, 17)
_LARGEST = 64 * 2**20  # bytes of one tag


def read_exif(page: Any) -> bytes:
    """Make an EXIF block of the words and the EXIF and GPS tables of a page; empty for none."""
    found = {code: page.tags[code].value for code in _WORDS if code in page.tags}
    words = {
        code: text
        for code, text in found.items()
        if isinstance(text, str) and text and not text.startswith("tifffile.py")
    }
    if not words and EXIF_IFD not in page.tags and GPS_IFD not in page.tags:
        return b""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    block = ImageFileDirectory_v2(b"II*\0\0\0\0\0")
    for code, text in words.items():
        block[code] = text
    parent = page.parent
    for code in (EXIF_IFD, GPS_IFD):
        tag = page.tags.get(code)
        if tag is None:
            continue
        handle, order = parent.filehandle, parent.byteorder
        big = (b"II+\0" if order == "<" else b"MM\0+") + b"\0" * 12
        small = (b"II*\0" if order == "<" else b"MM\0*") + b"\0" * 4
        table = ImageFileDirectory_v2(big if parent.is_bigtiff else small)
        handle.seek(tag.valueoffset)  # where the table begins
        table.load(handle)
        found = {key: table[key] for key in table if key != _INTEROPERABILITY}
        if found:
            block[code] = found
    return exif_block(block) if len(block) else b""


def exif_block(table: Any) -> bytes:
    """Encode a directory of Pillow as a block of its own, as PNG and JPEG hold it."""
    return b"II*\0\x08\0\0\0" + bytes(table.tobytes(8))


def read_private_tags(page: Any) -> tuple[TagTuple, ...]:
    """Read all other tags that describe the image: GeoTIFF, IPTC, those of instruments."""
    known: list[TagTuple] = []
    handled = {*_OWN, *_WORDS, _ICC, _XMP, EXIF_IFD, GPS_IFD}
    for tag in page.tags:
        dtype = int(tag.dtype)
        if tag.code in handled or dtype in _IFD_TYPES or tag.valuebytecount > _LARGEST:
            continue
        value: Any = tag.value
        if dtype in _BYTE_TYPES:  # tifffile may have made something else of them
            page.parent.filehandle.seek(tag.valueoffset)
            value = page.parent.filehandle.read(tag.valuebytecount)
        elif dtype in _LONG8_TYPES:
            dtype -= 12  # as 32 bits, which every TIFF has
            numbers = value if isinstance(value, tuple) else (value,)
            if any(not -(2**31) <= n < 2**31 for n in numbers):
                continue
        elif not isinstance(value, (int, float, tuple)):
            continue
        known.append((int(tag.code), dtype, int(tag.count), value, True))
    return tuple(known)


def concerns_pixels(code: int) -> bool:
    """Say whether a tag decides where the pixels are and what they mean."""
    return code in _OWN and code not in (270, *_PHOTOSHOP)


def photoshop_names(page: Any) -> list[str]:
    """Name the blocks of Photoshop that a page has; they would describe other pixels."""
    return [name for code, name in _PHOTOSHOP.items() if code in page.tags]


def described(page: Any) -> dict[str, Any]:
    """Read what differs between pages that are described one by one, by the names of tags."""
    words = {page.tags[c].name: page.tags[c].value for c in (270, *_WORDS) if c in page.tags}
    private = {page.tags[tag[0]].name: tag[3] for tag in read_private_tags(page)}
    return words | private


def read_bytes(page: Any, code: int) -> bytes:
    """Read the bytes of a tag, or none."""
    tag = page.tags.get(code)
    if tag is None or tag.valuebytecount > _LARGEST:
        return b""
    page.parent.filehandle.seek(tag.valueoffset)
    return bytes(page.parent.filehandle.read(tag.valuebytecount))


def read_icc(page: Any) -> bytes:
    """Read the colour profile of a page."""
    return read_bytes(page, _ICC)


def read_xmp(page: Any) -> bytes:
    """Read the XMP packet of a page."""
    return read_bytes(page, _XMP)


def read_no_data(page: Any) -> float | None:
    """Read the value of pixels without a measurement, as GDAL writes it."""
    text = read_bytes(page, NO_DATA).split(b"\0")[0].strip()
    try:
        return float(text) if text else None
    except ValueError:
        return None


@dataclass(frozen=True)
class ExifTables:
    """The EXIF and GPS tables that are appended to a written file, by the code of their tag."""

    tables: Mapping[int, Any]

    def append_to(self, file: Path) -> None:
        """Append the tables, and point the tags of the first page to them."""
        import tifffile
        from PIL.TiffImagePlugin import ImageFileDirectory_v2

        for code, table in self.tables.items():
            with file.open("r+b") as raw, tifffile.TiffFile(raw, mode="r+") as tiff:
                prefix = b"II+\0" + b"\0" * 12 if tiff.is_bigtiff else b"II*\0\0\0\0\0"
                copied = ImageFileDirectory_v2(prefix)
                for key in table:
                    if key != _INTEROPERABILITY:
                        copied.tagtype[key] = table.tagtype[key]
                        copied[key] = table[key]
                raw.seek(0, 2)
                raw.write(b"\0" * (raw.tell() % 2))
                start = raw.tell()
                raw.write(copied.tobytes(start))
                raw.flush()
                tag = tiff.pages.first.tags[_PLACEHOLDERS[code]]
                raw.seek(tag.offset)
                entry = "<HHQQ" if tiff.is_bigtiff else "<HHII"
                raw.write(struct.pack(entry, code, 16 if tiff.is_bigtiff else 4, 1, start))


def write_options(carried: Carried, private: tuple[TagTuple, ...]) -> dict[str, Any]:
    """Make options of `tifffile.TiffWriter.write` for what is carried; none for nothing."""
    options: dict[str, Any] = {}
    tags = list(private)
    words, tables = split_exif(carried.exif)
    if _SOFTWARE in words:
        options["software"] = words.pop(_SOFTWARE).encode()
    for code, text in words.items():
        encoded = text.encode() + b"\0"
        tags.append((code, 2, len(encoded), encoded, True))
    if carried.icc_profile:
        options["iccprofile"] = carried.icc_profile
    if carried.xmp:
        tags.append((_XMP, 1, len(carried.xmp), carried.xmp, True))
    if carried.no_data is not None and NO_DATA not in [tag[0] for tag in tags]:
        number = repr(carried.no_data).removesuffix(".0").encode() + b"\0"
        tags.append((NO_DATA, 2, len(number), number, True))
    if carried.bits_per_sample is not None:
        tags.append((_MAX_SAMPLE, 3, 1, 2**carried.bits_per_sample - 1, True))
    tags += [(_PLACEHOLDERS[code], 4, 1, 0, True) for code in tables.tables]
    if carried.resolution is not None:
        units = {"none": 1, "inch": 2, "centimeter": 3}
        options["resolution"] = carried.resolution
        options["resolutionunit"] = units[carried.resolution_unit]
    if tags:
        options["extratags"] = tags
    return options


def split_exif(exif: bytes) -> tuple[dict[int, str], ExifTables]:
    """Split an EXIF block into the words of TIFF tags and the tables that tags point to."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    if not exif:
        return {}, ExifTables({})
    block = BytesIO(exif.removeprefix(b"Exif\0\0"))
    directory = ImageFileDirectory_v2(block.read(8))
    block.seek(directory.next)
    directory.load(block)
    words = {code: directory[code] for code in _WORDS if isinstance(directory.get(code), str)}
    tables = {}
    for code in (EXIF_IFD, GPS_IFD):
        pointer = directory.get(code)
        if isinstance(pointer, int):
            table = ImageFileDirectory_v2(block.getvalue()[:8])
            block.seek(pointer)
            table.load(block)
            if len(table):
                tables[code] = table
    return words, ExifTables(tables)
