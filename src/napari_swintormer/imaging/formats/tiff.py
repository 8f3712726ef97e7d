"""TIFF files: plain, BigTIFF, OME-TIFF, ImageJ; flat, tiled, compressed."""

from __future__ import annotations

import logging
import re
from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from napari_swintormer.errors import FileError, ImageError
from napari_swintormer.imaging.axes import check_image, resolve_axes
from napari_swintormer.imaging.formats.boundary import read_errors, unsupported_compression
from napari_swintormer.imaging.formats.exif import upright_xmp
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.format import WORDS, Format, lost_words
from napari_swintormer.imaging.formats.imagej import IMAGEJ
from napari_swintormer.imaging.formats.ome_xml import OME, follows_schema, read_description
from napari_swintormer.imaging.formats.tiff_carried import read_carried, read_orientation
from napari_swintormer.imaging.formats.tiff_samples import check_photometric, letters
from napari_swintormer.imaging.formats.tiff_tags import TAGS, concerns_pixels
from napari_swintormer.imaging.formats.tiff_writing import (
    NOT_IN_OME,
    is_ome,
    packs_bits,
    write_tiff,
)
from napari_swintormer.imaging.image import Image, unit_name
from napari_swintormer.imaging.views import upright

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zarr.abc.store import Store

    from napari_swintormer.imaging.carried import Carried

# Decoded strips and tiles stay in memory for neighbouring reads, and always the last one.
_CACHE_BYTES = 256 * 2**20
# A strip or tile that decodes to more than this, and to this many times its size, is an attack.
_BOMB_RATIO, _BOMB_BYTES = 5000, 2**30


class Tiff(Format):
    """TIFF of any kind; reading stands here, writing in `tiff_writing`."""

    name = "TIFF"
    suffixes = (".tif", ".tiff")
    signatures = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # classic and BigTIFF
    read_suffixes = (".btf",)
    compressions = ("deflate", "zstd")
    holds_white_is_zero = True
    holds = frozenset(WORDS) - {"texts"}

    def open(self, path: Path, axes: str | None, image: int | None = None) -> Image:
        """Open an image of a file; an OME-TIFF of several files opens whole from any of them."""
        with ExitStack() as opened:
            with _complaints_are_errors(path) as left_out:
                tiff = opened.enter_context(_open_file(path))
                number, series = _choose(path, tiff, image)
                check_image(series.shape, series.dtype or object)
                check_photometric(path, series.keyframe)
                _check_complete(path, series)
                axes = resolve_axes(series.shape, series.dtype, axes or letters(series))
                pixel_size, unit = _pixel_size(tiff, series, axes)
                flat = _flat_array(series)
                data = _segmented(path, series) if flat is None else flat
                levels = tuple(_coarser_levels(path, series))
                carried, losses = read_carried(path, tiff, series, axes)
            close = opened.pop_all().close if flat is None or levels else None
            read = Image(data, axes, path, pixel_size, unit, levels, close, carried)
            read.left_out = (*left_out, *losses)
            if len(tiff.series) > 1:
                names = [s.name or f"image {n}" for n, s in enumerate(tiff.series, start=1)]
                read = replace(read, images=tuple(names), number=number)
            return _turn_upright(read, read_orientation(series.keyframe))

    def limit(self, path: Path, axes: str, shape: Sequence[int], dtype: np.dtype) -> str | None:
        """Refuse data types that OME-XML has no word for, in an OME-TIFF."""
        return (
            f"has no data type {dtype.name}" if is_ome(path) and dtype.name in NOT_IN_OME else None
        )

    def cannot_hold(self, carried: Carried, path: Path) -> list[str]:
        """Name what neither tags nor OME-XML nor ImageJ have a place for."""
        lost = lost_words(carried, {*self.holds, OME, IMAGEJ, TAGS}, white_is_zero=True)
        if OME in carried.native and not follows_schema(carried.native[OME].xml):
            lost.append("OME-XML that breaks its schema")
        return lost

    def cannot_store(self, image: Image, compression: str | None) -> list[str]:
        """Name packed bits, which compressed and tiled TIFFs do not have."""
        bits = image.carried.bits_per_sample
        if bits is None or packs_bits(image, compression):
            return []
        return [f"packed samples of {bits} bits where it is compressed or tiled (whole words)"]

    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Write an image band by band."""
        write_tiff(file, image, compression)


def _open_file(path: Path) -> Any:
    """Open a TIFF; the OME-XML of a file that only names another one comes from there."""
    import tifffile

    tiff = tifffile.TiffFile(path)
    xml = tiff.ome_metadata
    if xml is None or "BinaryOnly" not in xml:
        return tiff
    tiff.close()
    return tifffile.TiffFile(path, omexml=read_description(path))


def _choose(path: Path, tiff: Any, image: int | None) -> tuple[int, Any]:
    """Choose an image by its number, or the largest."""
    series = tiff.series
    if image is None:
        largest = max(series, key=lambda s: s.size)
        return series.index(largest) + 1, largest
    if not 1 <= image <= len(series):
        raise ImageError(
            f"{path} has no image {image}; its images are 1 to {len(series)}."
            if len(series) > 1
            else f"{path} has no image {image}; it holds one image."
        )
    return image, series[image - 1]


def _turn_upright(image: Image, orientation: int) -> Image:
    """Show an image as its orientation says; pixel sizes and print resolution turn with it."""
    if orientation == 1:
        return image
    xmp = upright_xmp(image.carried.xmp)
    image = replace(image, carried=replace(image.carried, xmp=xmp))
    data, *levels = (upright(a, image.axes, orientation) for a in (image.data, *image.levels))
    image = replace(image, data=data, levels=tuple(levels))
    if orientation < 5:
        return image
    swap = {"Y": "X", "X": "Y"}
    resolution = image.carried.resolution
    return replace(
        image,
        pixel_size={swap.get(a, a): size for a, size in image.pixel_size.items()},
        unit={swap.get(a, a): unit for a, unit in image.unit.items()},
        carried=replace(image.carried, resolution=resolution and resolution[::-1]),
    )


class _Collector(logging.Handler):
    """Keeps errors that are logged; the buffering handler of logging imports sockets."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _complaints_are_errors(path: Path) -> Iterator[list[str]]:
    """Turn what tifffile raises or merely logs about damaged tables into a `FileError`.

    Sentences about damaged tags that do not concern the pixels are added to the list, at the end.
    """
    harmless: list[str] = []
    logger, collector = logging.getLogger("tifffile"), _Collector()
    logger.addHandler(collector)
    try:
        with read_errors(path, "TIFF"):  # tags hold anything, and so do the errors of reading them
            yield harmless
    finally:
        logger.removeHandler(collector)
    for complaint in dict.fromkeys(collector.messages):
        code = re.search(r"TiffTag (\d+) @", complaint)
        if code is not None and not concerns_pixels(int(code[1])):
            harmless.append(f"{path.name} has a damaged tag {code[1]}, left out here.")
        elif "invalid" in complaint or "corrupted" in complaint:
            raise FileError(f"{path} is a damaged or truncated TIFF file ({complaint}).")


def _check_complete(path: Path, series: Any) -> None:
    """Refuse files that lack pixels, zeros would take their place, and unknown compressions."""
    from tifffile import PHOTOMETRIC, TIFF

    page = series.keyframe
    try:
        TIFF.DECOMPRESSORS[page.compression]
    except KeyError as error:
        name = getattr(page.compression, "name", page.compression)
        raise FileError(unsupported_compression(path, name)) from error
    # `dataoffset` would be taken in the file of the first page
    if series.dataoffset is not None and not series.is_multifile:
        missing = series.dataoffset + series.nbytes - page.parent.filehandle.size
        if missing > 0:
            raise FileError(f"{path} is truncated: {missing} bytes of pixels are missing.")
        return
    expected = prod(page.chunked)
    uncompressed = page.compression == 1 and page.photometric != PHOTOMETRIC.YCBCR
    for number, frame in enumerate(series.pages):
        if frame is None:
            raise FileError(
                f"{path} lacks the pixels of page {number}, or they are in other files."
            )
        offsets, counts = frame.dataoffsets, frame.databytecounts
        # Nothing stored at all means zeros, as in sparse files.
        stored_bits, all_bits = 8 * sum(counts), prod(page.shape) * page.bitspersample
        too_short = uncompressed and all(counts) and stored_bits < all_bits
        if len(offsets) < expected or len(counts) < expected or too_short:
            raise FileError(f"{path} is damaged: page {number} lacks some of its pixels.")
        size = frame.parent.filehandle.size
        if any(o + n > size for o, n in zip(offsets, counts, strict=False)):
            raise FileError(f"{path} is truncated: pixels of page {number} are missing.")
    chunk_bytes = prod(page.chunks) * series.dtype.itemsize
    if chunk_bytes > _BOMB_BYTES and chunk_bytes > _BOMB_RATIO * max(page.databytecounts):
        raise FileError(f"{path} is damaged: a few bytes claim to hold {chunk_bytes} of pixels.")


def _flat_array(series: Any) -> FlatArray | None:
    """Give the pixels in place, if they lie uncompressed and page by page in the files."""
    page = series.keyframe
    page_shape = tuple(page.shape)
    leading = series.shape[: series.ndim - len(page_shape)]
    if not page.is_final or series.shape[len(leading) :] != page_shape:
        return None
    files = np.zeros(leading, np.int32)
    paths = [Path(page.parent.filehandle.path)]
    if series.dataoffset is not None and not series.is_multifile:
        page_bytes = prod(page_shape) * series.dtype.itemsize
        offsets = series.dataoffset + page_bytes * np.arange(prod(leading), dtype=np.int64)
    else:
        if any(not frame.is_final or not all(frame.dataoffsets) for frame in series.pages):
            return None
        orders = {frame.parent.byteorder for frame in series.pages}
        if len(orders) > 1:
            return None
        offsets = np.array([frame.dataoffsets[0] for frame in series.pages], np.int64)
        if series.is_multifile:
            lie_in = [Path(frame.parent.filehandle.path) for frame in series.pages]
            paths = sorted(set(lie_in))
            numbers = {path: number for number, path in enumerate(paths)}
            files = np.array([numbers[path] for path in lie_in], np.int32).reshape(leading)
    dtype = np.dtype(series.dtype).newbyteorder(page.parent.byteorder)
    return FlatArray(tuple(paths), dtype, files, offsets.reshape(leading), page_shape)


def _segmented(path: Path, series: Any) -> Any:
    """Give the pixels as a zarr array that decodes strips and tiles when they are read."""
    import zarr

    return zarr.open_array(_decoded_segments(path, series.aszarr(level=0)), mode="r", zarr_format=2)


def _coarser_levels(path: Path, series: Any) -> Iterator[Any]:
    """Give the coarser levels of a pyramid, up to the first that is damaged or makes no sense."""
    finer = series
    for level in series.levels[1:]:
        smaller = all(n <= finer_n for n, finer_n in zip(level.shape, finer.shape, strict=False))
        if level.ndim != series.ndim or level.dtype != series.dtype or not smaller:
            return
        try:
            _check_complete(path, level)
        except FileError:
            return
        yield _segmented(path, level)
        finer = level


def _decoded_segments(path: Path, store: Any) -> Store:
    from zarr.storage import WrapperStore

    class DecodedSegments(WrapperStore[Any]):
        """Caches decoded strips and tiles for neighbouring reads; damage raises a `FileError`."""

        def __init__(self, store: Any) -> None:
            super().__init__(store)
            self._cache: OrderedDict[str, Any] = OrderedDict()
            self._cached_bytes = 0

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
            with read_errors(path, "TIFF", opened=True):
                segment = await super().get(key, prototype, byte_range)
            if segment is not None and key not in self._cache:
                self._cache[key] = segment
                self._cached_bytes += len(segment)
                while len(self._cache) > 1 and self._cached_bytes > _CACHE_BYTES:
                    self._cached_bytes -= len(self._cache.popitem(last=False)[1])
            return segment

    return DecodedSegments(store)


def _pixel_size(tiff: Any, series: Any, axes: str) -> tuple[dict[str, float], dict[str, str]]:
    """Pixel sizes and units from OME-XML, ImageJ metadata or the resolution in centimetres.

    A resolution in inches is a print size and says nothing about the object.
    """
    if tiff.is_ome and series.kind == "ome":
        sizes = _ome_pixel_sizes(tiff.ome_metadata, tiff.series.index(series))
    else:
        page, sizes = series.keyframe, {}
        metadata = tiff.imagej_metadata or {}
        pixels_per_unit = dict(zip("XY", page.resolution, strict=True))
        length = str(metadata.get("unit", "centimeter" if page.resolutionunit == 3 else ""))
        if unit_name(length):
            sizes = {a: (1 / n, length) for a, n in pixels_per_unit.items() if n > 0}
            sizes["Z"] = (metadata.get("spacing", 0), length)
        sizes["T"] = (metadata.get("finterval", 0), str(metadata.get("tunit", "s")))
    named = {a: (float(size), unit_name(unit)) for a, (size, unit) in sizes.items()}
    known = {a: named[a] for a in axes if a in named and 0 < named[a][0] < np.inf and named[a][1]}
    return {a: size for a, (size, _) in known.items()}, {a: str(u) for a, (_, u) in known.items()}


def _ome_pixel_sizes(xml: str, image: int) -> dict[str, tuple[float, str]]:
    pixels = ElementTree.fromstring(xml).findall("{*}Image/{*}Pixels")
    attributes = pixels[image if image < len(pixels) else 0].attrib
    keys = {a: f"PhysicalSize{a}" for a in "XYZ"} | {"T": "TimeIncrement"}
    return {
        axis: (float(attributes[key]), attributes.get(f"{key}Unit", "s" if axis == "T" else "µm"))
        for axis, key in keys.items()
        if key in attributes
    }
