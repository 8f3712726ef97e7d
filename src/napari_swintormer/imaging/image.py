"""What an opened file is to the rest: a lazy array with axes, pixel sizes and units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from napari_swintormer.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Names as OME-Zarr has them (and pint, which napari uses), with the symbols met in files.
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


def unreadable(path: Path, reason: object) -> FileError:
    """Make the error for a file that could be opened and can no longer be read."""
    return FileError(
        f"{path} cannot be read any more ({reason}). Connect its disk again: a run into a file "
        "then goes on where it stopped."
    )


def unit_name(text: str) -> str | None:
    """Give the name of a unit of length or time by name or symbol; None for an unknown one.

    >>> unit_name("um")
    'micrometer'
    """
    text = text.strip()
    for name, symbols in _SYMBOLS.items():
        if text == name or text in symbols:
            return name
    return None


def unit_symbol(name: str) -> str:
    """Give the symbol of a unit by its name, as OME-XML has it."""
    return _SYMBOLS[name][0]


@dataclass
class Image:
    """An opened image; a context manager that closes the file.

    Attributes
    ----------
    data
        Array-like with `shape`, `dtype`, `ndim` and slicing by integers and slices. Nothing is read
        before it is asked for, except from PNG and JPEG; threads may read at the same time.
    axes
        One letter of ``TCZYXS`` per dimension.
    pixel_size
        Size of a step along an axis, in `unit`; axes without a known size are absent.
    unit
        Name of the unit of an axis, such as ``"micrometer"`` or ``"second"``; where `pixel_size`
        has an axis that is absent here, the unit is unknown.
    path
        The file or folder.
    levels
        Where the file has a pyramid: arrays like `data` of its coarser levels, finest first.
    """

    data: Any
    axes: str
    path: Path
    pixel_size: dict[str, float] = field(default_factory=dict)
    unit: dict[str, str] = field(default_factory=dict)
    _close: Callable[[], None] | None = None
    levels: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """Name of the file without folder and suffixes."""
        name = self.path.name
        for suffix in (".ome.tif", ".ome.tiff", ".ome.zarr"):
            if name.lower().endswith(suffix):
                return name[: -len(suffix)]
        return self.path.stem

    def close(self) -> None:
        """Close the file; `data` is not to be used any more."""
        if self._close is not None:
            self._close()
            self._close = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
