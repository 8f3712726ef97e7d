"""All of a file that is not pixels, on its way from the reader to the writer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_swintormer.imaging.spans import Spans

ExtraSample = Literal["unspecified", "associated", "unassociated"]
"""What a sample beyond the colours is: unspecified, premultiplied alpha, or plain alpha."""


@dataclass(frozen=True)
class Channel:
    """What a file tells about one index of C; empty or None where it tells nothing."""

    name: str = ""
    colour: tuple[int, int, int] | None = None  # red, green, blue, 0 to 255
    lut: NDArray[np.uint8] | None = None  # (3, 256): red, green and blue
    display_range: tuple[float, float] | None = None  # intensities that are shown black and full
    emission: float | None = None  # wavelength in nanometres
    excitation: float | None = None  # wavelength in nanometres


@dataclass(frozen=True)
class JpegStyle:
    """How a JPEG was encoded, to encode its result alike."""

    quantization: Mapping[int, tuple[int, ...]]  # tables as Pillow reads them
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0"]


@dataclass(frozen=True)
class SampleMeaning:
    """What the numbers of an image mean beyond more and less light."""

    no_data: float | None = None  # the value of pixels without a measurement
    bits: int | None = None  # of an unsigned integer, where they are fewer than its data type has
    premultiplied: bool = False  # colours are multiplied by alpha, and no larger than it


@dataclass(frozen=True)
class Carried:
    """What a reader found in a file beside pixels, axes and pixel sizes.

    A writer writes what its format can hold; `Format.cannot_hold` names the rest. Pixels of an
    `Image` are upright already, so nothing here tells an orientation.
    """

    icc_profile: bytes = b""
    # A TIFF structure without the prefix "Exif\0\0", as `PIL.Image.Exif.tobytes` makes it.
    # It includes the words of plain TIFF tags: camera, artist, date, copyright, software.
    exif: bytes = b""
    xmp: bytes = b""
    resolution: tuple[float, float] | None = None  # print size: pixels per unit along X and Y
    resolution_unit: Literal["inch", "centimeter", "none"] = "inch"
    description: str = ""  # words of a person or a camera about the image
    texts: Mapping[str, str] = field(default_factory=dict)  # other words by key, as in PNG
    jpeg: JpegStyle | None = None

    white_is_zero: bool = False  # 0 is white and the largest value black
    extra_samples: tuple[ExtraSample, ...] = ()  # kinds of the samples beyond the colours
    samples_are_channels: bool = False  # the axis C was the samples of a pixel
    bits_per_sample: int | None = None  # where they are fewer than those of the data type
    no_data: float | None = None  # the value of pixels without a measurement

    name: str = ""  # of the image inside its file
    channels: tuple[Channel, ...] = ()  # one for each index of C, or none

    # What one format understands, by its name; other formats leave it out. A value may have a
    # method `cut` like that of this class.
    native: Mapping[str, Any] = field(default_factory=dict)

    @property
    def meaning(self) -> SampleMeaning:
        """What a run has to know of the numbers."""
        premultiplied = "associated" in self.extra_samples
        return SampleMeaning(self.no_data, self.bits_per_sample, premultiplied)

    def describe(self) -> dict[str, str]:
        """Tell people what a file holds beside pixels, by the name of each thing."""
        width, height = self.resolution or (0, 0)
        facts = {
            "image name": self.name,
            "channels": ", ".join(channel.name for channel in self.channels if channel.name),
            "description": " ".join(self.description.split())[:80],
            "resolution": self.resolution and f"{width:g} x {height:g} per {self.resolution_unit}",
            "bits per sample": self.bits_per_sample,
            "no data": self.no_data,
            "0 is": "white" if self.white_is_zero else "",
            "extra samples": ", ".join(self.extra_samples),
            "colour profile": self.icc_profile and f"{len(self.icc_profile)} bytes",
            "EXIF": self.exif and f"{len(self.exif)} bytes",
            "XMP": self.xmp and f"{len(self.xmp)} bytes",
            "other metadata": ", ".join(self.native),
        }
        return {name: str(fact) for name, fact in facts.items() if fact not in (None, "", b"")}

    def without(self, *names: str) -> Carried:
        """Return a copy in which these fields are empty."""
        empty = Carried()
        return replace(self, **{name: getattr(empty, name) for name in names})

    def cut(self, axes: str, shape: tuple[int, ...], spans: Spans) -> Carried:
        """Return what is told about some planes of an image of these axes and this shape."""
        if not spans:
            return self
        native = {
            name: told.cut(axes, shape, spans) if hasattr(told, "cut") else told
            for name, told in self.native.items()
        }
        start, stop = spans.get("C", (0, len(self.channels)))
        return replace(self, native=native, channels=self.channels[start:stop])


NOTHING = Carried()
