"""Writing TIFF files band by band: OME-TIFF, ImageJ hyperstacks and plain pictures.

Planes too large for a viewer to load whole are tiled and get a pyramid: every page has the same
page of the coarser levels as its SubIFDs. The image is read once. While a level is written, the
next one is made band by band. It waits in a temporary file without a name: even a killed process
leaves nothing behind.
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
from napari_swintormer.imaging.views import Ordered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO

    from numpy.typing import NDArray

    from napari_swintormer.imaging.image import Image

NOT_IN_OME = ("int64", "uint64", "float16")
_TILE = 512
# Larger planes are written in tiles; ImageJ wants them whole.
_WHOLE_PLANE_BYTES = 64 * 2**20
# The 4 GiB offsets of classic TIFF might not suffice for more pixels than this, and their tables.
_CLASSIC_BYTES = 3_900_000_000


def is_ome(path: Path) -> bool:
    """Say whether a file is an OME-TIFF by its name."""
    return path.name.lower().endswith((".ome.tif", ".ome.tiff"))


def write_tiff(file: Path, image: Image, compression: str | None) -> None:
    """Write an image; Y, X and S come last in the file.

    Pixel sizes of unknown unit cannot be written in these formats and are left out.
    """
    import tifffile

    axes = "".join(a for a in image.axes if a not in "YXS") + "YX" + "S" * ("S" in image.axes)
    data = Ordered(image.data, image.axes, axes)
    dtype = np.dtype(data.dtype).newbyteorder("=")
    nbytes = prod(data.shape) * dtype.itemsize
    n_pages = prod(data.shape[: axes.index("Y")])
    whole = nbytes // n_pages <= _WHOLE_PLANE_BYTES
    kind, metadata, options = _describe(file, image, axes, data.shape, dtype, compression, whole)
    stored_bytes = nbytes if whole else nbytes * 4 // 3
    with tifffile.TiffWriter(
        file,
        bigtiff=stored_bytes > _CLASSIC_BYTES,
        ome=kind == "ome",
        imagej=kind == "imagej",
        shaped=kind == "plain",
    ) as writer:
        if whole:
            pages = (np.asarray(data[i], dtype) for i in np.ndindex(*data.shape[: axes.index("Y")]))
            writer.write(pages, shape=data.shape, dtype=dtype, metadata=metadata, **options)
        else:
            shapes: list[tuple[int, ...]] = [data.shape]
            if kind == "ome" or axes[0] == "Y":  # else no reader would find the levels
                shapes += coarser_shapes(data.shape, axes)
            _write_levels(writer, data, axes, shapes, metadata, options, file.parent)


def _describe(
    file: Path,
    image: Image,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    compression: str | None,
    whole: bool,
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Choose how axes and pixel sizes are written: "ome", "imagej" or "plain".

    Returns the choice, its metadata, and the options of all pages.
    """
    unit = image.unit
    known = {a: size for a, size in image.pixel_size.items() if a in axes and a in unit}
    colour = axes[-1] == "S"
    fits_imagej = (
        whole
        and prod(shape) * dtype.itemsize < _CLASSIC_BYTES
        and compression is None
        and axes == "".join(a for a in "TZCYXS" if a in axes)
        and (dtype == np.uint8 if colour else dtype in (np.uint8, np.uint16, np.float32))
        and (not colour or shape[-1] == 3)
    )
    says_something = bool(known) or axes[0] != "Y"
    options: dict[str, Any] = {"photometric": "minisblack"}
    if is_ome(image.path) or (says_something and not fits_imagej and dtype.name not in NOT_IN_OME):
        kind, metadata = "ome", _ome_metadata(axes, known, unit)
        # Equal results are equal bytes; by default the UUID comes from the time and the machine.
        about = f"{file.name} {axes} {shape} {dtype} {metadata}"
        metadata["UUID"] = f"urn:uuid:{uuid5(NAMESPACE_URL, about)}"
    elif says_something and fits_imagej:
        kind, metadata = "imagej", _imagej_metadata(axes, known, unit)
        if "X" in known and "Y" in known and unit["X"] == unit["Y"]:
            options["resolution"] = (1 / known["X"], 1 / known["Y"])
    else:
        kind, metadata = "plain", {"axes": axes}
    if colour:
        options["photometric"] = "rgb" if shape[-1] in (3, 4) else "minisblack"
        options["planarconfig"] = "contig"
        options["extrasamples"] = ["unassalpha"] if shape[-1] in (2, 4) else None
    if compression is not None:
        options |= {"compression": compression, "predictor": dtype.itemsize <= 4}
    return kind, metadata, options


def _ome_metadata(axes: str, pixel_size: dict[str, float], unit: dict[str, str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    for axis, size in pixel_size.items():
        key = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        metadata |= {key: size, f"{key}Unit": unit_symbol(unit[axis])}
    return metadata


def _imagej_metadata(
    axes: str, pixel_size: dict[str, float], unit: dict[str, str]
) -> dict[str, Any]:
    """ImageJ has one unit of length for all axes, and seconds for time."""
    metadata: dict[str, Any] = {"axes": axes}
    if length := unit.get("X") or unit.get("Y") or unit.get("Z"):
        metadata["unit"] = unit_symbol(length).replace("µ", "u")
        if "Z" in pixel_size and unit["Z"] == length:
            metadata["spacing"] = pixel_size["Z"]
    if "T" in pixel_size and unit["T"] == "second":
        metadata["finterval"] = pixel_size["T"]
    return metadata


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
            else:  # a reduced image, which OME-XML does not describe
                role = {"metadata": {"axes": axes}, "subfiletype": 1}
            if shape[axes.index("X")] == 1:  # tifffile notes a predictor that it does not apply
                options = options | {"predictor": False}
            tiles, tile = _tiles(bands, file), (_TILE, _TILE)
            writer.write(tiles, shape=shape, dtype=dtype, tile=tile, **role, **options)
            if file is not None:
                file.seek(0)
                bands = _stored_bands(file, shapes[level + 1], axes, dtype)


def _bands(data: Ordered, axes: str, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Read rows of tiles, ``(h, Width)`` or ``(h, Width, S)``, plane by plane."""
    y = axes.index("Y")
    for position in np.ndindex(*data.shape[:y]):
        for top in range(0, data.shape[y], _TILE):
            yield np.asarray(data[(*position, slice(top, top + _TILE))], dtype)


def _stored_bands(
    file: IO[bytes], shape: tuple[int, ...], axes: str, dtype: np.dtype[Any]
) -> Iterator[NDArray[Any]]:
    """Read the same bands from a file that stores row after row of every plane."""
    y = axes.index("Y")
    row = shape[y + 1 :]
    for _ in range(prod(shape[:y])):
        for top in range(0, shape[y], _TILE):
            rows = min(_TILE, shape[y] - top)
            stored = file.read(rows * prod(row) * dtype.itemsize)
            yield np.frombuffer(stored, dtype).reshape(rows, *row)


def _tiles(bands: Iterator[NDArray[Any]], coarser: IO[bytes] | None) -> Iterator[NDArray[Any]]:
    """Cut bands into tiles in reading order, and append each band at half size to a file."""
    for band in bands:
        tiles = [band[:, left : left + _TILE] for left in range(0, band.shape[1], _TILE)]
        if coarser is not None:  # before the tiles: nobody asks for more after the last tile
            halves = [halve(tile, "YXS"[: tile.ndim]) for tile in tiles]
            coarser.write(np.concatenate(halves, axis=1).data)
        yield from tiles
