"""What a file format is to the rest of the package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from napari_swintormer.imaging.carried import NOTHING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import numpy as np

    from napari_swintormer.imaging.carried import Carried
    from napari_swintormer.imaging.image import Image


class Format(ABC):
    """One file format: a subclass in a module of its own, and a line in `registry`."""

    name: ClassVar[str]  # in messages
    suffixes: ClassVar[tuple[str, ...]]  # of its files, in lower case
    signatures: ClassVar[tuple[bytes, ...]] = ()  # first bytes of its files, at most 8
    read_suffixes: ClassVar[tuple[str, ...]] = ()  # more, which it reads and does not write
    result_suffix: ClassVar[str | None] = None  # for results, of a format that loses nothing
    holds_floats: ClassVar[bool] = True
    compressions: ClassVar[tuple[str, ...]] = ()  # to choose from when it is written
    # Whether files tell that 0 is white. Else `write` gets the pixels inverted.
    holds_white_is_zero: ClassVar[bool] = False
    # Whether viewers show the largest value of the data type as white. Then `write` gets images of
    # fewer bits stretched to all bits.
    shows_all_bits: ClassVar[bool] = False
    # What of `Carried` a file holds: names of fields, which `write` must write.
    holds: ClassVar[frozenset[str]] = frozenset()

    def detect(self, path: Path, start: bytes) -> bool:
        """Say whether a file that starts with these 8 bytes, or a folder, has this format."""
        return start.startswith(self.signatures)

    @abstractmethod
    def open(self, path: Path, axes: str | None, image: int | None = None) -> Image:
        """Open an image.

        `axes` overrules the axes that the file tells. `image` chooses one of several images in the
        file, from 1; None takes the largest.
        """

    def limit(self, path: Path, axes: str, shape: Sequence[int], dtype: np.dtype) -> str | None:
        """Say why a file of this name cannot hold an image, or None: "holds …", "has no …"."""
        return None

    def cannot_hold(self, carried: Carried, path: Path) -> list[str]:
        """Name what a file of this name loses of the carried data, in words for people."""
        return lost_words(carried, self.holds, white_is_zero=self.holds_white_is_zero)

    def cannot_store(self, image: Image, compression: str | None) -> list[str]:
        """Name what is lost because of the size of an image or its compression."""
        return []

    @abstractmethod
    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Write an image that `limit` allows into `file`, a working name beside ``image.path``."""


# Fields of `Carried` that a person would miss, with the words for them.
WORDS = {
    "icc_profile": "colour profile",
    "exif": "EXIF data",
    "xmp": "XMP data",
    "resolution": "print resolution",
    "description": "description",
    "texts": "texts",
    "no_data": "no-data value",
    "name": "image name",
    "channels": "channel names and colours",
}

NATIVE_WORDS = {
    "OME-XML": "instrument and acquisition data (OME-XML)",
    "ImageJ": "ImageJ's information and overlays",
    "TIFF tags": "other TIFF tags (such as GeoTIFF)",
    "OME-Zarr": "labels and rendering of OME-Zarr",
}


def lost_words(
    carried: Carried, held: Collection[str], *, white_is_zero: bool = False
) -> list[str]:
    """Name the fields of the carried data that are set and not among `held`."""
    lost = [
        words
        for name, words in WORDS.items()
        if name not in held and getattr(carried, name) != getattr(NOTHING, name)
    ]
    if carried.white_is_zero and not white_is_zero:
        lost.append("the meaning of 0 as white")
    return lost + [NATIVE_WORDS.get(name, name) for name in carried.native if name not in held]
