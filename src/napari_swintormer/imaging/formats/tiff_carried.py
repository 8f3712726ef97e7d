"""What a TIFF carries beside its pixels, gathered from tags, OME-XML and ImageJ."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import one_line
from napari_swintormer.imaging.carried import Carried
from napari_swintormer.imaging.formats import tiff_tags
from napari_swintormer.imaging.formats.imagej import IMAGEJ, read_imagej
from napari_swintormer.imaging.formats.ome_xml import OME, OmeXml, read_ome
from napari_swintormer.imaging.formats.tiff_samples import bits_per_sample, extra_samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UNITS = {1: "none", 2: "inch", 3: "centimeter"}


def read_orientation(page: Any) -> int:
    """Read the orientation, 1 to 8; a map keeps its own, for its coordinates belong to it."""
    tag = page.tags.get(274)
    number = 1 if tag is None or not isinstance(tag.value, int) else int(tag.value)
    is_map = any(code in page.tags for code in (33550, 33922, 34264))
    return 1 if is_map or not 1 <= number <= 8 else number


def read_carried(path: Path, tiff: Any, series: Any, axes: str) -> tuple[Carried, tuple[str, ...]]:
    """Gather everything, and say in sentences what is left out.

    Metadata that are damaged are left out, for the pixels are not damaged.
    """
    page = series.keyframe
    found: dict[str, Any] = {
        "extra_samples": extra_samples(path, page),
        "samples_are_channels": page.samplesperpixel > 1 and "S" not in axes and "C" in axes,
        "white_is_zero": getattr(page.photometric, "name", "") == "MINISWHITE",
        "bits_per_sample": bits_per_sample(page, series.dtype),
        "no_data": tiff_tags.read_no_data(page),
        "icc_profile": tiff_tags.read_icc(page),
        "xmp": tiff_tags.read_xmp(page),
    }
    native: dict[str, Any] = {}
    left_out = _Losses(path)
    with left_out.if_damaged("EXIF data"):
        found["exif"] = tiff_tags.read_exif(page)
    with left_out.if_damaged("further TIFF tags"):
        if tags := tiff_tags.read_private_tags(page):
            native[tiff_tags.TAGS] = tags
    is_ome = tiff.is_ome and series.kind == "ome"
    imagej = (tiff.imagej_metadata or {}) if not is_ome else {}
    with left_out.if_damaged("OME-XML" if is_ome else "ImageJ metadata"):
        if is_ome:
            number = tiff.series.index(series)
            found |= read_ome(tiff.ome_metadata, number)
            native[OME] = OmeXml(tiff.ome_metadata, number)
        elif imagej:
            told, found["channels"] = read_imagej(imagej)
            if told is not None:
                native[IMAGEJ] = told
    text = page.description
    if text and not (is_ome or imagej or tiff.is_ome or text.startswith('{"shape"')):
        found["description"] = text
    if "unit" not in imagej:
        found |= _print_resolution(page)
    if names := tiff_tags.photoshop_names(page):
        left_out.add(f"{path.name} holds {' and '.join(names)}, which are not carried.")
    with left_out.if_damaged("tags on its second page"):
        if names := _told_by_second_page(series):
            left_out.add(
                f"{path.name} describes its pages one by one (its second page differs in "
                f"{', '.join(names)}); the tags of the first page are carried."
            )
    return Carried(**found, native=native), tuple(left_out.sentences)


class _Losses:
    """Collects sentences on what is left out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sentences: list[str] = []
        self.add = self.sentences.append

    @contextmanager
    def if_damaged(self, what: str) -> Iterator[None]:
        """Go on when metadata cannot be read, which may raise anything."""
        try:
            yield
        except Exception as error:
            self.add(f"{self.path.name} has damaged {what}, left out here ({one_line(error)}).")


def _told_by_second_page(series: Any) -> list[str]:
    """Name the tags that describe the second page otherwise than the first one."""
    if len(series.pages) < 2 or series.kind in ("imagej", "shaped") or series.pages[1] is None:
        return []
    first, second = series.keyframe, series.pages[1].aspage()
    mine, other = tiff_tags.described(first), tiff_tags.described(second)
    if series.kind == "ome":  # every file begins with OME-XML
        other.pop("ImageDescription", None)
    return [name for name, value in other.items() if value and mine.get(name) != value]


def _print_resolution(page: Any) -> dict[str, Any]:
    """Read the print size, unless it says nothing."""
    if 282 not in page.tags or 283 not in page.tags:
        return {}
    resolution, unit = tuple(map(float, page.resolution)), int(page.resolutionunit)
    if min(resolution) <= 0 or unit not in _UNITS or (unit == 1 and resolution == (1, 1)):
        return {}
    return {"resolution": resolution, "resolution_unit": _UNITS[unit]}
