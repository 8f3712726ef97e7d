"""Writing TIFF files band by band: OME-TIFF, ImageJ hyperstacks and plain pictures.

Planes too large for a viewer to load whole are tiled and get a pyramid: every page has the same
page of the coarser levels as its SubIFDs. The image is read once; while a level is written, the
next one is made band by band and waits in a temporary file that has no name, so that even a killed
process leaves nothing behind.
"""

from __future__ import annotations

from contextlib import ExitStack
from math import prod
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from napari_swintormer.imaging.image import unit_symbol
from napari_swintormer.imaging.store.pyramid import coarser_shapes, halve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

    from napari_swintormer.imaging.ordered import Ordered

_TILE = 512
# Larger planes are written in tiles; ImageJ wants them whole.
_WHOLE_PLANE_BYTES = 64 * 2**20
# Beyond this the offsets of classic TIFF (4 GiB) might not suffice for tables and pixels.
_CLASSIC_BYTES = 3_900_000_000


def write_tiff(
    path: Path,
    data: Ordered,
    axes: str,
    pixel_size: dict[str, float],
    unit: dict[str, str],
    *,
    compression: str | None,
    ome: bool,
) -> None:
    """Write an image whose axes end in ``YX`` or ``YXS``, see `writing.write_image`.

    Pixel sizes whose unit is not known cannot be told in these formats and are left out.
    """
    import tifffile

    dtype = np.dtype(data.dtype).newbyteorder("=")
    colour = axes[-1] == "S" and data.shape[-1] in (3, 4)
    page_shape = data.shape[axes.index("Y") :]
    page_bytes = prod(page_shape) * dtype.itemsize
    nbytes = prod(data.shape) * dtype.itemsize
    known = {a: size for a, size in pixel_size.items() if a in axes and a in unit}

    whole = page_bytes <= _WHOLE_PLANE_BYTES
    says_something = bool(known) or len(page_shape) < data.ndim
    fits_imagej = (
        whole
        and nbytes < _CLASSIC_BYTES
        and compression is None
        and axes == "".join(a for a in "TZCYXS" if a in axes)
        and (dtype in (np.uint8, np.uint16, np.float32) if "S" not in axes else dtype == np.uint8)
        and ("S" not in axes or data.shape[-1] == 3)
    )
    imagej = not ome and says_something and fits_imagej
    options: dict[str, Any] = {}
    if imagej:
        metadata, options = _imagej_metadata(axes, known, unit)
    elif ome or (says_something and dtype.name not in ("int64", "uint64", "float16")):
        ome, metadata = True, _ome_metadata(axes, known, unit)
        # Equal results are equal bytes; the default is made of the time and this machine.
        about = f"{path.name} {axes} {data.shape} {dtype} {metadata}"
        metadata["UUID"] = f"urn:uuid:{uuid5(NAMESPACE_URL, about)}"
    else:
        metadata = {"axes": axes}
    if axes[-1] == "S":
        options["photometric"] = "rgb" if colour else "minisblack"
        options["planarconfig"] = "contig"
        options["extrasamples"] = ["unassalpha"] if data.shape[-1] in (2, 4) else None
    else:
        options["photometric"] = "minisblack"
    if compression is not None:
        options |= {"compression": compression, "predictor": dtype.itemsize <= 4}
    stored_bytes = nbytes if whole else nbytes * 4 // 3
    with tifffile.TiffWriter(
        path,
        bigtiff=stored_bytes > _CLASSIC_BYTES,
        ome=ome,
        imagej=imagej,
        shaped=not ome and not imagej,
    ) as writer:
        if whole:
            pages = _pages(data, axes, dtype)
            writer.write(pages, shape=data.shape, dtype=dtype, metadata=metadata, **options)
        else:
            shapes: list[tuple[int, ...]] = [data.shape]
            if ome or data.ndim == len(page_shape):  # else no reader would find the levels
                shapes += coarser_shapes(data.shape, [a in "YX" for a in axes])
            _write_levels(writer, data, axes, shapes, metadata, options, path.parent)


def _write_levels(
    writer: Any,
    data: Ordered,
    axes: str,
    shapes: list[tuple[int, ...]],
    metadata: dict[str, Any],
    options: dict[str, Any],
    folder: Path,
) -> None:
    """Write the image in tiles, and coarser levels of these shapes as SubIFDs of its pages."""
    dtype = np.dtype(data.dtype).newbyteorder("=")
    bands = _bands(data, axes, dtype)
    with ExitStack() as files:
        for level, shape in enumerate(shapes):
            coarser = level + 1 < len(shapes)
            file = files.enter_context(TemporaryFile(dir=folder)) if coarser else None
            if level == 0:
                role: dict[str, Any] = {"metadata": metadata, "subifds": len(shapes) - 1}
            else:
                # A reduced image; in OME-XML only the full one has a word.
                role = {"metadata": {"axes": axes}, "subfiletype": 1}
            if shape[axes.index("X")] == 1:  # tifffile does not apply what it says it did
                options = options | {"predictor": False}
            tiles = _tiles(bands, file)
            tile = (_TILE, _TILE)
            writer.write(tiles, shape=shape, dtype=dtype, tile=tile, **role, **options)
            if file is not None:
                file.seek(0)
                bands = _stored_bands(file, shapes[level + 1], axes, dtype)


def _imagej_metadata(
    axes: str, pixel_size: dict[str, float], unit: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata and resolution: one unit of length for all axes, seconds for time."""
    length = unit.get("X") or unit.get("Y") or unit.get("Z")
    metadata: dict[str, Any] = {"axes": axes}
    options: dict[str, Any] = {}
    if length:
        same = {a: size for a, size in pixel_size.items() if unit[a] == length}
        metadata["unit"] = unit_symbol(length).replace("µ", "u")
        if "Z" in same:
            metadata["spacing"] = same["Z"]
        if "X" in same and "Y" in same:
            options["resolution"] = (1 / same["X"], 1 / same["Y"])
    if unit.get("T") == "second" and "T" in pixel_size:
        metadata["finterval"] = pixel_size["T"]
    return metadata, options


def _ome_metadata(axes: str, pixel_size: dict[str, float], unit: dict[str, str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    for axis, size in pixel_size.items():
        key = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        metadata |= {key: size, f"{key}Unit": unit_symbol(unit[axis])}
    return metadata


def _pages(data: Ordered, axes: str, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    for place in np.ndindex(*data.shape[: axes.index("Y")]):
        yield np.asarray(data[place], dtype)


def _bands(data: Ordered, axes: str, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Read rows of tiles, ``(h, Width)`` or ``(h, Width, S)``, plane by plane."""
    y = axes.index("Y")
    for place in np.ndindex(*data.shape[:y]):
        for top in range(0, data.shape[y], _TILE):
            yield np.asarray(data[(*place, slice(top, top + _TILE))], dtype)


def _stored_bands(
    file: IO[bytes], shape: tuple[int, ...], axes: str, dtype: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """Read rows of tiles as `_bands` does, from a file that has row after row of every plane."""
    y = axes.index("Y")
    row = shape[y + 1 :]
    for _ in range(prod(shape[:y])):
        for top in range(0, shape[y], _TILE):
            rows = min(_TILE, shape[y] - top)
            stored = file.read(rows * prod(row) * dtype.itemsize)
            yield np.frombuffer(stored, dtype).reshape(rows, *row)


def _tiles(bands: Iterator[NDArray[Any]], coarser: IO[bytes] | None) -> Iterator[NDArray[Any]]:
    """Cut bands into tiles, in reading order, and append half of each to a file."""
    for band in bands:
        tiles = [band[:, left : left + _TILE] for left in range(0, band.shape[1], _TILE)]
        if coarser is not None:  # before the tiles: nobody asks for what comes after the last
            halves = [halve(tile, "YXS"[: tile.ndim]) for tile in tiles]
            coarser.write(np.concatenate(halves, axis=1).data)
        yield from tiles
