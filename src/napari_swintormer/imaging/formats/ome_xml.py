"""OME-XML of an OME-TIFF: what it tells about channels, and the same for the result."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.carried import Channel
from napari_swintormer.imaging.image import unit_name, unit_symbol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from napari_swintormer.imaging.image import Image
    from napari_swintormer.imaging.spans import Spans

OME = "OME-XML"
"""Key of `OmeXml` in ``Carried.native``."""
_TYPES = {"float32": "float", "float64": "double"}  # others have numpy's names


@dataclass(frozen=True)
class OmeXml:
    """The OME-XML that an image comes from."""

    xml: str
    number: int  # of the image in it, from 0
    spans: Spans = field(default_factory=dict)  # the planes of it that are left

    def cut(self, axes: str, shape: tuple[int, ...], spans: Spans) -> OmeXml:
        """Return the description of some planes."""
        return OmeXml(self.xml, self.number, spans)


def read_description(path: Path) -> str | None:
    """Read the OME-XML of a TIFF; that of another file, where this one only refers to it."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        xml: str | None = tiff.ome_metadata
    found = None if xml is None else ElementTree.fromstring(xml).find("{*}BinaryOnly")
    if found is None:
        return xml
    main = path.parent / found.get("MetadataFile", "")
    if not main.is_file():
        raise FileError(
            f"{path} is part of an image in several files, and {main.name} with its description "
            "is missing; put all files into one folder."
        )
    if main.suffix.lower() in (".ome", ".xml"):
        return main.read_text(encoding="utf-8")
    with tifffile.TiffFile(main) as tiff:
        described: str | None = tiff.ome_metadata
    return described


def files_of(xml: str) -> list[set[str]]:
    """Name the files of every image; an empty set stands for the file with the XML."""
    return [
        {uuid.get("FileName", "") for uuid in image.findall("{*}Pixels/{*}TiffData/{*}UUID")}
        for image in ElementTree.fromstring(xml).findall("{*}Image")
    ]


def read_ome(xml: str, number: int) -> dict[str, Any]:
    """Read name, description and channels of an image, as far as the XML tells them.

    The keys are fields of `Carried`.
    """
    images = ElementTree.fromstring(xml).findall("{*}Image")
    if not images:
        return {}
    image = images[number if number < len(images) else 0]
    channels = tuple(_channel(found.attrib) for found in image.findall("{*}Pixels/{*}Channel"))
    told = any(channel != Channel() for channel in channels)
    name = image.get("Name", "")
    default = re.fullmatch(r"Image:?\d*", name)  # of libraries, where nobody gave a name
    return {
        "name": "" if default else name,
        "description": (image.findtext("{*}Description") or "").strip(),
        "channels": channels if told else (),
    }


def _channel(attributes: Mapping[str, str]) -> Channel:
    colour = attributes.get("Color")
    rgba = None if colour is None else int(colour) & 0xFFFFFFFF  # signed 32 bits
    waves = [attributes.get(f"{kind}Wavelength") for kind in ("Emission", "Excitation")]
    emission, excitation = (None if wave is None else float(wave) for wave in waves)
    return Channel(
        name=attributes.get("Name", ""),
        colour=None if rgba is None else (rgba >> 24 & 255, rgba >> 16 & 255, rgba >> 8 & 255),
        emission=emission if attributes.get("EmissionWavelengthUnit", "nm") == "nm" else None,
        excitation=excitation if attributes.get("ExcitationWavelengthUnit", "nm") == "nm" else None,
    )


def colour_number(colour: tuple[int, int, int]) -> int:
    """Write a colour as OME-XML does: RGBA in a signed integer of 32 bits."""
    red, green, blue = colour
    number = red << 24 | green << 16 | blue << 8 | 255
    return number - 2**32 if number >= 2**31 else number


def follows_schema(xml: str) -> bool:
    """Say whether OME-XML can be read, so that it can be written anew."""
    from ome_types import from_xml

    try:
        return bool(from_xml(xml, validate=False).images)
    except Exception:  # of any parser in the library
        return False


def rewritten(image: Image, axes: str, shape: tuple[int, ...], uuid: str) -> str | None:
    """Write the carried OME-XML anew for an image of these axes and sizes.

    Instrument, channels, planes, regions and annotations stay. The description of the pixels is
    that of the new file. None says that the XML does not follow its schema.
    """
    from ome_types import from_xml, to_xml

    source: OmeXml = image.carried.native[OME]
    try:
        ome = from_xml(source.xml, validate=False)
        _fit(ome, source, image, dict(zip(axes, shape, strict=True)), axes)
        ome.uuid = uuid
        text: str = to_xml(ome, indent=0)
    except Exception:  # of any parser in the library; the caller writes what it knows otherwise
        return None
    return '<?xml version="1.0" encoding="UTF-8"?>' + text.strip()


def _fit(ome: Any, source: OmeXml, image: Image, sizes: dict[str, int], axes: str) -> None:
    """Change the description of the pixels to that of the new file."""
    from ome_types.model import Channel as OmeChannel
    from ome_types.model import Pixels_DimensionOrder, PixelType, TiffData

    kept = ome.images[source.number if source.number < len(ome.images) else 0]
    if len(ome.images) > 1:
        ome.images, ome.plates, ome.datasets = [kept], [], []
    pixels = kept.pixels
    n_t, n_c, n_z, n_s = (sizes.get(axis, 1) for axis in "TCZS")
    first = {a: source.spans.get(a, (0, 0))[0] for a in "TCZ"}
    channels = list(pixels.channels)[first["C"] :][:n_c]
    for channel in channels:
        channel.samples_per_pixel = n_s
    numbers = range(len(channels), n_c)
    channels += [OmeChannel(id=f"Channel:0:{n}", samples_per_pixel=n_s) for n in numbers]
    planes = []
    for plane in pixels.planes:
        plane.the_t, plane.the_c, plane.the_z = (
            plane.the_t - first["T"],
            plane.the_c - first["C"],
            plane.the_z - first["Z"],
        )
        if 0 <= plane.the_t < n_t and 0 <= plane.the_c < n_c and 0 <= plane.the_z < n_z:
            planes.append(plane)
    stack = "".join(a for a in reversed(axes) if a in "TCZ")
    stack += "".join(a for a in "ZCT" if a not in stack)
    pixels.channels, pixels.planes = channels, planes
    pixels.dimension_order = Pixels_DimensionOrder(f"XY{stack}")
    pixels.type = PixelType(_TYPES.get(image.data.dtype.name, image.data.dtype.name))
    pixels.significant_bits = image.carried.bits_per_sample or pixels.significant_bits
    pixels.size_x, pixels.size_y = sizes["X"], sizes["Y"]
    pixels.size_z, pixels.size_t, pixels.size_c = n_z, n_t, n_c * n_s
    pixels.big_endian, pixels.interleaved = False, n_s > 1 or None
    pixels.bin_data_blocks, pixels.metadata_only = [], None
    pixels.tiff_data_blocks = [TiffData(ifd=0, plane_count=n_t * n_c * n_z)]
    _fit_sizes(pixels, image)


def _fit_sizes(pixels: Any, image: Image) -> None:
    """Write the pixel sizes of the image where they differ from those of the XML."""
    from ome_types.model import UnitsLength, UnitsTime

    for axis, size in image.pixel_size.items():
        if axis not in image.unit:
            continue
        name = "time_increment" if axis == "T" else f"physical_size_{axis.lower()}"
        unit = getattr(pixels, f"{name}_unit")
        if getattr(pixels, name) == size and unit_name(unit.value) == image.unit[axis]:
            continue
        units: Any = UnitsTime if axis == "T" else UnitsLength
        setattr(pixels, name, size)
        setattr(pixels, f"{name}_unit", units(unit_symbol(image.unit[axis])))
