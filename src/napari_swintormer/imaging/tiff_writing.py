"""Writing TIFF files band by band: OME-TIFF, ImageJ hyperstacks and plain pictures."""

from __future__ import annotations

from math import ceil, prod
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from napari_swintormer.imaging.image import unit_symbol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    if not whole:
        options["tile"] = (_TILE, _TILE)
    if compression is not None:
        options |= {"compression": compression, "predictor": dtype.itemsize <= 4}
    with tifffile.TiffWriter(
        path, bigtiff=nbytes > _CLASSIC_BYTES, ome=ome, imagej=imagej, shaped=not ome and not imagej
    ) as writer:
        pages = _pages(data, axes, dtype) if whole else _tiles(data, axes, dtype)
        writer.write(pages, shape=data.shape, dtype=dtype, metadata=metadata, **options)


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


def _tiles(data: Ordered, axes: str, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Tiles in reading order; one band of rows is read at a time."""
    y = axes.index("Y")
    height, width = data.shape[y : y + 2]
    for place in np.ndindex(*data.shape[:y]):
        for top in range(0, height, _TILE):
            band = np.asarray(data[(*place, slice(top, top + _TILE))], dtype)
            for column in range(ceil(width / _TILE)):
                yield band[:, column * _TILE : (column + 1) * _TILE]
