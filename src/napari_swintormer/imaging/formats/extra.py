"""Libraries that only some users install, as extras of the package."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path


def import_extra(module: str, extra: str, path: Path, what: str) -> Any:
    """Import the library that reads a file, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise FileError(
            f'{path} is {what}. To read it: pip install "napari-swintormer[{extra}]"'
        ) from error


def brands(path: Path) -> set[bytes]:
    """Read the four-letter brands of a file of the HEIF family; none of another file."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[4:8] != b"ftyp":
        return set()
    end = min(int.from_bytes(start[:4], "big"), len(start))
    return {start[8:12]} | {start[i : i + 4] for i in range(16, end - 3, 4)}
