"""TIFF files: plain, BigTIFF, OME-TIFF, ImageJ; flat, tiled, compressed."""

from __future__ import annotations

import logging
import struct
import sys
from collections import OrderedDict
from contextlib import ExitStack, contextmanager
from logging.handlers import BufferingHandler
from math import prod
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from napari_swintormer.errors import FileError, SwintormerError
from napari_swintormer.imaging.axes import AXES, check_image, resolve_axes
from napari_swintormer.imaging.formats.flat import FlatArray
from napari_swintormer.imaging.formats.format import Format
from napari_swintormer.imaging.formats.tiff_writing import NOT_IN_OME, is_ome, write_tiff
from napari_swintormer.imaging.image import Image, unit_name, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from zarr.abc.store import Store

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

    def open(self, path: Path, axes: str | None, image: int | None = None) -> Image:
        """Open the largest image of a file."""
        import tifffile

        with ExitStack() as opened:
            with _complaints_are_errors(path):
                tiff = opened.enter_context(tifffile.TiffFile(path))
                series = max(tiff.series, key=lambda s: s.size)
                check_image(series.shape, series.dtype or object)
                _check_complete(path, tiff, series)
                axes = resolve_axes(series.shape, series.dtype, axes or _axes(series))
                pixel_size, unit = _pixel_size(tiff, series, axes)
                flat = _flat_array(path, tiff, series)
                data = _segmented(path, series) if flat is None else flat
                levels = tuple(_coarser_levels(path, tiff, series))
            close = opened.pop_all().close if flat is None or levels else None
            return Image(data, axes, path, pixel_size, unit, levels, close)

    def limit(self, path: Path, axes: str, shape: Sequence[int], dtype: np.dtype) -> str | None:
        """Refuse data types that OME-XML has no word for, in an OME-TIFF."""
        return (
            f"has no data type {dtype.name}" if is_ome(path) and dtype.name in NOT_IN_OME else None
        )

    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Write an image band by band."""
        write_tiff(file, image, compression)


@contextmanager
def _complaints_are_errors(path: Path) -> Iterator[None]:
    """Turn what tifffile raises or merely logs about damaged tables into a `FileError`."""
    import tifffile

    logger, collector = logging.getLogger("tifffile"), BufferingHandler(sys.maxsize)
    collector.setLevel(logging.ERROR)
    logger.addHandler(collector)
    try:
        yield
    except SwintormerError:
        raise
    except (tifffile.TiffFileError, struct.error, ValueError, IndexError, MemoryError) as error:
        raise FileError(f"{path} is a damaged TIFF file ({error}).") from error
    finally:
        logger.removeHandler(collector)
    for complaint in (record.getMessage() for record in collector.buffer):
        if "invalid" in complaint or "corrupted" in complaint:
            raise FileError(f"{path} is a damaged or truncated TIFF file ({complaint}).")


def _check_complete(path: Path, tiff: Any, series: Any) -> None:
    """Refuse files that lack pixels: zeros would take their place later."""
    from tifffile import PHOTOMETRIC

    page = series.keyframe
    if page.photometric in (PHOTOMETRIC.PALETTE, PHOTOMETRIC.SEPARATED):
        kind = page.photometric.name.lower()
        raise FileError(f"{path} has {kind} colours; convert it to RGB or grey first.")
    size = tiff.filehandle.size
    if series.dataoffset is not None:
        missing = series.dataoffset + series.nbytes - size
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
        if any(o + n > size for o, n in zip(offsets, counts, strict=False)):
            raise FileError(f"{path} is truncated: pixels of page {number} are missing.")
    chunk_bytes = prod(page.chunks) * series.dtype.itemsize
    if chunk_bytes > _BOMB_BYTES and chunk_bytes > _BOMB_RATIO * max(page.databytecounts):
        raise FileError(f"{path} is damaged: a few bytes claim to hold {chunk_bytes} of pixels.")


def _axes(series: Any) -> str:
    """Letters of ``TCZYXS`` for the axes that tifffile found."""
    from tifffile import EXTRASAMPLE, PHOTOMETRIC

    page = series.keyframe
    extra = page.extrasamples
    grey_alpha = len(extra) == 1 and extra[0] != EXTRASAMPLE.UNSPECIFIED
    colour = page.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) or grey_alpha
    axes = list(series.axes)
    if "S" in axes and "C" not in axes and not (colour and page.samplesperpixel <= 4):
        axes[axes.index("S")] = "C"
    # Pages without a name are slices of a stack, as `resolve_axes` guesses.
    free = [a for a in "CTZ" if a not in axes]
    for i in reversed(range(len(axes))):
        if axes[i] not in AXES and free:
            axes[i] = free.pop()
    return "".join(axes)


def _flat_array(path: Path, tiff: Any, series: Any) -> FlatArray | None:
    """Give the pixels in place, if they lie uncompressed and page by page in the file."""
    page = series.keyframe
    page_shape = tuple(page.shape)
    leading = series.shape[: series.ndim - len(page_shape)]
    if not page.is_final or series.shape[len(leading) :] != page_shape:
        return None
    if series.dataoffset is not None:
        page_bytes = prod(page_shape) * series.dtype.itemsize
        offsets = series.dataoffset + page_bytes * np.arange(prod(leading), dtype=np.int64)
    else:
        if any(not frame.is_final or not all(frame.dataoffsets) for frame in series.pages):
            return None
        offsets = np.array([frame.dataoffsets[0] for frame in series.pages], np.int64)
    dtype = np.dtype(series.dtype).newbyteorder(tiff.byteorder)
    return FlatArray(path, dtype, offsets.reshape(leading), page_shape)


def _segmented(path: Path, series: Any) -> Any:
    """Give the pixels as a zarr array that decodes strips and tiles when they are read."""
    import zarr

    return zarr.open_array(_decoded_segments(path, series.aszarr(level=0)), mode="r", zarr_format=2)


def _coarser_levels(path: Path, tiff: Any, series: Any) -> Iterator[Any]:
    """Give the coarser levels of a pyramid, up to the first that is damaged or makes no sense."""
    finer = series
    for level in series.levels[1:]:
        smaller = all(n <= finer_n for n, finer_n in zip(level.shape, finer.shape, strict=False))
        if level.ndim != series.ndim or level.dtype != series.dtype or not smaller:
            return
        try:
            _check_complete(path, tiff, level)
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
            try:
                segment = await super().get(key, prototype, byte_range)
            except (RuntimeError, ValueError, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise unreadable(path, error.strerror) from error
                raise FileError(
                    f"{path} is damaged: its pixels do not decode ({error})."
                ) from error
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
