"""An opened image file: a lazy array with axes, pixel sizes and units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.carried import NOTHING, Carried
from napari_swintormer.imaging.web_path import WebPath

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Names as OME-Zarr and pint write them, with the symbols that files use.
_SYMBOLS = {
    "angstrom": ("Å", "\u212b"),
    "nanometer": ("nm",),
    "micrometer": ("µm", "\u03bcm", "um", "micron", "microns", "\\u00B5m"),
    "millimeter": ("mm",),
    "centimeter": ("cm",),
    "meter": ("m",),
    "millisecond": ("ms", "msec"),
    "second": ("s", "sec", "seconds"),
    "minute": ("min",),
    "hour": ("h",),
}
_NAMED = 20  # images of a file, at most, that a message names
_DOUBLE_SUFFIXES = (".ome.zarr", ".ome.tif", ".ome.tiff")


@dataclass
class Image:
    """An image on its way from or to a file; a context manager that closes the file.

    `data` is an array-like with `shape`, `dtype`, `ndim` and slicing by integers and slices. Its
    pixels are read when it is indexed, except from pictures such as PNG and JPEG, which are decoded
    when they are opened. Threads may read at the same time.
    """

    data: Any
    axes: str  # one letter of ``TCZYXS`` per dimension
    path: Path  # file or folder that the image comes from, or goes to
    pixel_size: dict[str, float] = field(default_factory=dict)  # by axis, where it is known
    unit: dict[str, str] = field(default_factory=dict)  # by axis, such as "micrometer"
    levels: tuple[Any, ...] = ()  # coarser levels of a pyramid, finest first, like `data`
    _close: Callable[[], None] | None = None
    carried: Carried = NOTHING  # all that is not pixels
    images: tuple[str, ...] = ()  # names of all images in the file, where there are several
    number: int = 1  # of this image among them, from 1
    left_out: tuple[str, ...] = ()  # sentences on what of the file is neither read nor carried

    @property
    def name(self) -> str:
        """Name of the file without folder and suffixes."""
        return split_suffix(self.path)[0]

    def listed(self) -> str:
        """Name the images of a file that holds several; the last ones of many are only counted."""
        named = [f"{n} {name}" for n, name in enumerate(self.images, start=1)][:_NAMED]
        if more := len(self.images) - len(named):
            named.append(f"and {more} more")
        return f"{self.path.name} holds {len(self.images)} images ({', '.join(named)})."

    def close(self) -> None:
        """Close the file; `data` must not be used after that."""
        if self._close is not None:
            self._close()
            self._close = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def split_suffix(path: Path) -> tuple[str, str]:
    """Split the name of a file into stem and suffix; ``.ome.tif`` and the like are one suffix."""
    for suffix in _DOUBLE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)], path.name[-len(suffix) :]
    return path.stem, path.suffix


def unit_name(text: str) -> str | None:
    """Name a unit of length or time, given by name or symbol; None for an unknown unit.

    >>> unit_name("um")
    'micrometer'
    """
    text = text.strip()
    for name, symbols in _SYMBOLS.items():
        if text == name or text in symbols:
            return name
    return None


def unit_symbol(name: str) -> str:
    """Return the symbol of a unit, as OME-XML writes it."""
    return _SYMBOLS[name][0]


def unreadable(path: Path, reason: object) -> FileError:
    """Make the error for an opened file that can no longer be read."""
    what_helps = "Check the connection" if isinstance(path, WebPath) else "Connect its disk again"
    return FileError(
        f"{path} cannot be read any more ({reason}). {what_helps}: a run into a file then goes on "
        "where it stopped."
    )
