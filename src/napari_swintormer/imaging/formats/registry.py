"""The list of all file formats. A new format joins here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.bioio import BioIo
from napari_swintormer.imaging.formats.heif import Avif, Heif
from napari_swintormer.imaging.formats.jpeg import Jpeg
from napari_swintormer.imaging.formats.npy import Npy
from napari_swintormer.imaging.formats.ome_zarr import OmeZarr
from napari_swintormer.imaging.formats.png import Png
from napari_swintormer.imaging.formats.raw import Raw
from napari_swintormer.imaging.formats.tiff import Tiff
from napari_swintormer.imaging.formats.webp import WebP
from napari_swintormer.imaging.web_path import WebPath

if TYPE_CHECKING:
    from pathlib import Path

    from napari_swintormer.imaging.formats.format import Format
    from napari_swintormer.imaging.image import Image

FORMATS: tuple[Format, ...] = (Tiff(), Png(), Jpeg(), WebP(), Npy(), OmeZarr())
READ_ONLY: tuple[Format, ...] = (Avif(), Heif(), Raw(), BioIo())
SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)
RESULT_SUFFIXES = {
    suffix: form.result_suffix or (suffix if suffix in form.suffixes else form.suffixes[0])
    for form in (*FORMATS, *READ_ONLY)
    for suffix in form.suffixes + form.read_suffixes
}
"""Suffix of an image, and of its result in a folder run."""


def format_of(path: Path) -> Format | None:
    """Return the format that is written under a name, or None for an unknown suffix."""
    suffix = path.suffix.lower()
    return next((form for form in FORMATS if suffix in form.suffixes), None)


def loss_notice(path: Path, image: Image, compression: str | None = None) -> str | None:
    """Say in one sentence what a file of this name loses of what an image carries, if anything."""
    form = format_of(path)
    if form is None:
        return None
    lost = form.cannot_hold(image.carried, path) + form.cannot_store(image, compression)
    if not lost:
        return None
    return (
        f"{path.name} cannot hold all of the input: {form.name} has no room for {', '.join(lost)}."
    )


def detect_format(path: Path) -> Format:
    """Return the format of a file by its content, whatever its suffix."""
    if isinstance(path, WebPath):
        if any(part.lower().endswith(OmeZarr.suffixes) for part in path.parts):
            return next(form for form in FORMATS if isinstance(form, OmeZarr))
        raise FileError(
            f"{path} is on the web, where only OME-Zarr images can be read, whose names end in "
            ".zarr. Download the file first."
        )
    start = b""
    if not path.is_dir():
        with path.open("rb") as file:
            start = file.read(8)
    for form in (*READ_ONLY, *FORMATS):  # raw files of cameras are TIFFs inside
        if form.detect(path, start):
            return form
    *names, last = (form.name for form in (*FORMATS, *READ_ONLY))
    problem = "is of an unknown format" if start else "is empty"
    raise FileError(f"{path} {problem}; {', '.join(names)} and {last} can be opened.")
