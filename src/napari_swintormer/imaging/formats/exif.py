"""EXIF and XMP blocks: what they tell about orientation, resolution and description."""

from __future__ import annotations

import re
import struct
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Exif

    from napari_swintormer.imaging.carried import Carried

DESCRIPTION, ORIENTATION, X_RESOLUTION, Y_RESOLUTION, UNIT = 270, 274, 282, 283, 296
_PREFIX = b"Exif\0\0"
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:=[\"']|>))([1-8])(?=[\"'<])")
_CM_PER_INCH = 2.54


def plain(exif: bytes) -> bytes:
    """Take the prefix of JPEG from an EXIF block."""
    return exif.removeprefix(_PREFIX)


def table_of(exif: bytes) -> Exif:
    """Read the first table of an EXIF block; a damaged block counts as empty."""
    from PIL import Image

    table = Image.Exif()
    with suppress(Exception), warnings.catch_warnings(action="ignore"):  # it may hold anything
        table.load(exif)
    return table


def orientation_of(exif: bytes, xmp: bytes) -> int:
    """Read the orientation, 1 to 8, from EXIF or else from XMP; 1 where none is told."""
    told: Any = table_of(exif).get(ORIENTATION)
    if told is None and (match := _XMP_ORIENTATION.search(xmp)):
        told = int(match[2])
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def upright_xmp(xmp: bytes) -> bytes:
    """Tell in an XMP packet that pixels are upright, if it says otherwise."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def reset_orientation(exif: bytes, xmp: bytes) -> tuple[bytes, bytes]:
    """Tell that pixels are upright.

    The thumbnail of EXIF goes, for it is not upright. All else keeps its place in the block, on
    which the notes of camera makers rely.
    """
    xmp = upright_xmp(xmp)
    if ORIENTATION not in table_of(exif):
        return exif, xmp
    order = "<" if exif.startswith(b"II") else ">"
    patched = bytearray(exif)
    (start,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, start)
    end = start + 2 + 12 * count
    for entry in range(start + 2, end, 12):
        if struct.unpack_from(order + "H", exif, entry)[0] == ORIENTATION:
            struct.pack_into(order + "HHIHH", patched, entry, ORIENTATION, 3, 1, 1, 0)
    if end + 4 <= len(exif):
        struct.pack_into(order + "I", patched, end, 0)  # no table of a thumbnail follows
    return bytes(patched), xmp


def description_of(exif: bytes) -> str:
    """Read the description of an EXIF block."""
    text = table_of(exif).get(DESCRIPTION)
    return text.strip("\0 ") if isinstance(text, str) else ""


def resolution_of(exif: bytes) -> dict[str, Any]:
    """Read the print resolution as fields of `Carried`; none where it says nothing."""
    table = table_of(exif)
    try:
        found = float(table[X_RESOLUTION]), float(table[Y_RESOLUTION])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}
    unit = {1: "none", 3: "centimeter"}.get(table.get(UNIT, 2), "inch")
    if not all(0 < n < float("inf") for n in found) or (unit == "none" and found == (1, 1)):
        return {}
    return {"resolution": found, "resolution_unit": unit}


def dots_per_inch(carried: Carried) -> tuple[float, float] | None:
    """Return the print resolution along X and Y in dots per inch, if it has a unit of length."""
    if carried.resolution is None or carried.resolution_unit == "none":
        return None
    factor = _CM_PER_INCH if carried.resolution_unit == "centimeter" else 1
    x, y = carried.resolution
    return x * factor, y * factor


def completed(carried: Carried) -> bytes:
    """Add description and resolution to the EXIF block, for formats without a place for them."""
    table, changed = table_of(carried.exif), False
    if carried.description and DESCRIPTION not in table:
        table[DESCRIPTION], changed = carried.description, True
    if carried.resolution is not None and X_RESOLUTION not in table:
        table[X_RESOLUTION], table[Y_RESOLUTION] = carried.resolution
        table[UNIT] = {"none": 1, "inch": 2, "centimeter": 3}[carried.resolution_unit]
        changed = True
    return plain(table.tobytes()) if changed else carried.exif
