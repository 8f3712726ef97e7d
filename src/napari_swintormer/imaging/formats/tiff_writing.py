"""Writing TIFF files band by band: OME-TIFF, ImageJ hyperstacks and plain pictures.

Planes too large for a viewer to load whole are tiled and get a pyramid: every page has the same
page of the coarser levels as its SubIFDs. The image is read once. While a level is written, the
next one is made band by band. It waits in a temporary file without a name: even a killed process
leaves nothing behind.
"""

from __future__ import annotations

from contextlib import ExitStack
from math import prod
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from napari_swintormer.imaging.formats.imagej import IMAGEJ
from napari_swintormer.imaging.formats.ome_xml import OME, colour_number, rewritten
from napari_swintormer.imaging.formats.tiff_tags import TAGS, split_exif, write_options
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
_OF_ALL_LEVELS = ("photometric", "planarconfig", "extrasamples", "compression", "predictor")
# Larger planes are written in tiles; ImageJ wants them whole.
_WHOLE_PLANE_BYTES = 64 * 2**20
# The 4 GiB offsets of classic TIFF might not suffice for more pixels than this, and their tables.
_CLASSIC_BYTES = 3_900_000_000


def is_ome(path: Path) -> bool:
    """Say whether a file is an OME-TIFF by its name."""
    return path.name.lower().endswith((".ome.tif", ".ome.tiff"))


def packs_bits(image: Image, compression: str | None) -> bool:
    """Say whether samples of fewer bits than their data type are stored without gaps."""
    axes, sizes = _file_order(image), dict(zip(image.axes, image.data.shape, strict=True))
    plane_bytes = prod(sizes[a] for a in axes[axes.index("Y") :]) * image.data.dtype.itemsize
    return compression is None and plane_bytes <= _WHOLE_PLANE_BYTES


def write_tiff(file: Path, image: Image, compression: str | None) -> None:
    """Write an image; Y, X and S come last in the file.

    Pixel sizes of unknown unit cannot be written in these formats and are left out.
    """
    import tifffile

    axes = _file_order(image)
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
            if kind != "plain" or axes[0] == "Y":  # else no reader would find the levels
                shapes += coarser_shapes(data.shape, axes)
            _write_levels(writer, data, axes, shapes, metadata, options, file.parent)
    split_exif(image.carried.exif)[1].append_to(file)


def _file_order(image: Image) -> str:
    """Order axes as in the file; channels that were samples of a pixel are so again."""
    axes, carried = image.axes, image.carried
    n_channels = dict(zip(axes, image.data.shape, strict=True)).get("C", 0)
    if carried.samples_are_channels and set(axes) == set("YXC"):
        n_extra = len(carried.extra_samples)
        if n_channels - n_extra in (1, 3) and n_channels > 1:
            return "YXC"
    return "".join(a for a in axes if a not in "YXS") + "YX" + "S" * ("S" in axes)


def _describe(
    file: Path,
    image: Image,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    compression: str | None,
    whole: bool,
) -> tuple[str, dict[str, Any] | None, dict[str, Any]]:
    """Choose how axes and pixel sizes are written: "ome", "xml", "imagej" or "plain".

    Returns the choice, its metadata, and the options of all pages. With "xml" the options hold the
    OME-XML of the input, rewritten.
    """
    unit, carried = image.unit, image.carried
    known = {a: size for a, size in image.pixel_size.items() if a in axes and a in unit}
    has_samples = axes[-1] != "X"
    fits_imagej = (
        whole
        and prod(shape) * dtype.itemsize < _CLASSIC_BYTES
        and compression is None
        and axes == "".join(a for a in "TZCYXS" if a in axes)
        and (dtype == np.uint8 if has_samples else dtype in (np.uint8, np.uint16, np.float32))
        and (not has_samples or shape[-1] == 3)
        and carried.bits_per_sample is None
    )
    needs_ome = OME in carried.native or any(channel.name for channel in carried.channels)
    says_something = (
        not _is_print_size(known, image)
        or axes[0] != "Y"
        or needs_ome
        or bool(carried.channels)
        or IMAGEJ in carried.native
    )
    options: dict[str, Any] = {"photometric": "minisblack"}
    options |= write_options(carried, carried.native.get(TAGS, ()))
    ome_fits = dtype.name not in NOT_IN_OME
    kind, metadata = "plain", cast("dict[str, Any] | None", {"axes": axes.replace("YXC", "YXS")})
    if is_ome(image.path) or (says_something and ome_fits and (needs_ome or not fits_imagej)):
        kind, metadata = "ome", _ome_metadata(axes, known, image)
        # Equal results are equal bytes; by default the UUID comes from the time and the machine.
        from uuid import NAMESPACE_URL, uuid5

        about = f"{file.name} {axes} {shape} {dtype} {metadata}"
        metadata["UUID"] = f"urn:uuid:{uuid5(NAMESPACE_URL, about)}"
        if OME in carried.native:
            xml = rewritten(image, axes.replace("YXC", "YXS"), shape, metadata["UUID"])
            if xml is not None:
                kind, metadata, options["description"] = "xml", None, xml.encode()
    elif says_something and fits_imagej:
        kind, metadata = "imagej", _imagej_metadata(axes, known, image)
        if "X" in known and "Y" in known and unit["X"] == unit["Y"]:
            options |= {"resolution": (1 / known["X"], 1 / known["Y"]), "resolutionunit": None}
    elif carried.description:
        options["description"] = carried.description.encode()
        metadata = None if axes[0] == "Y" else metadata
    return kind, metadata, options | _sample_options(image, axes, shape, dtype, compression, whole)


def _is_print_size(known: dict[str, float], image: Image) -> bool:
    """Say whether pixel sizes say no more than the print resolution, or nothing at all."""
    resolution = image.carried.resolution
    if not known:
        return True
    if resolution is None or image.carried.resolution_unit != "centimeter" or set(known) - {*"YX"}:
        return False
    told = dict(zip("XY", resolution, strict=True))
    return all(
        image.unit[a] == "centimeter" and abs(size * told[a] - 1) < 1e-6
        for a, size in known.items()
    )


def _sample_options(
    image: Image,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    compression: str | None,
    whole: bool,
) -> dict[str, Any]:
    """Tell what samples mean, how many bits they have, and how they are compressed."""
    carried, options = image.carried, dict[str, Any]()
    n_samples = shape[-1] if axes[-1] in "SC" else 1
    n_colours = 3 if n_samples >= 3 and axes[-1] in "SC" else 1
    if axes[-1] == "C":
        n_colours = n_samples - len(carried.extra_samples)
    if carried.white_is_zero and n_colours == 1:
        options["photometric"] = "miniswhite"
    if axes[-1] != "X":
        names = {"associated": "assocalpha", "unassociated": "unassalpha"}
        kinds = carried.extra_samples or ("unassociated",)
        extra = [names.get(kind, "unspecified") for kind in kinds][: n_samples - n_colours]
        if n_colours == 3:
            options["photometric"] = "rgb"
        options |= {"planarconfig": "contig", "extrasamples": extra or None}
    if compression is not None:
        options |= {"compression": compression, "predictor": dtype.itemsize <= 4}
    elif carried.bits_per_sample is not None and whole:
        options["bitspersample"] = carried.bits_per_sample
    return options


def _ome_metadata(axes: str, pixel_size: dict[str, float], image: Image) -> dict[str, Any]:
    """Tell axes, pixel sizes, names, colours and words, as tifffile writes OME-XML."""
    carried, metadata = image.carried, dict[str, Any](axes=axes.replace("YXC", "YXS"))
    for axis, size in pixel_size.items():
        key = "TimeIncrement" if axis == "T" else f"PhysicalSize{axis}"
        metadata |= {key: size, f"{key}Unit": unit_symbol(image.unit[axis])}
    if carried.name:
        metadata["Name"] = carried.name
    about = carried.description
    if IMAGEJ in carried.native:
        about = about or str(carried.native[IMAGEJ].metadata.get("Info", ""))
    if about:
        metadata["Description"] = about
    if carried.channels and axes[-1] == "X":
        colours = [channel.colour for channel in carried.channels]
        metadata["Channel"] = {"Name": [channel.name for channel in carried.channels]}
        if all(colours):
            numbers = [colour_number(colour) for colour in colours if colour is not None]
            metadata["Channel"]["Color"] = numbers
    return metadata


def _imagej_metadata(axes: str, pixel_size: dict[str, float], image: Image) -> dict[str, Any]:
    """Tell what ImageJ knows: it has one unit of length for all axes, and seconds for time."""
    carried, unit = image.carried, image.unit
    metadata: dict[str, Any] = {}
    if IMAGEJ in carried.native:
        metadata |= carried.native[IMAGEJ].metadata
    elif carried.channels:
        luts = [channel.lut for channel in carried.channels if channel.lut is not None]
        ranges = [channel.display_range for channel in carried.channels]
        if len(luts) == len(carried.channels):
            metadata["LUTs"] = luts
        if all(ranges):
            metadata["Ranges"] = tuple(end for limits in ranges if limits for end in limits)
    if carried.description:
        metadata.setdefault("Info", carried.description)
    metadata["axes"] = axes
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
    metadata: dict[str, Any] | None,
    options: dict[str, Any],
    folder: Path,
) -> None:
    """Write the image in tiles, and coarser levels of these shapes as SubIFDs of its pages."""
    from tempfile import TemporaryFile

    dtype = np.dtype(data.dtype).newbyteorder("=")
    bands = _bands(data, axes, dtype)
    with ExitStack() as files:
        for level, shape in enumerate(shapes):
            coarser = level + 1 < len(shapes)
            file = files.enter_context(TemporaryFile(dir=folder)) if coarser else None
            if level == 0:
                role: dict[str, Any] = {"metadata": metadata, "subifds": len(shapes) - 1}
            else:  # a reduced image, which no metadata describe
                role = {"metadata": {"axes": axes.replace("YXC", "YXS")}, "subfiletype": 1}
                options = {name: options[name] for name in _OF_ALL_LEVELS if name in options}
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
