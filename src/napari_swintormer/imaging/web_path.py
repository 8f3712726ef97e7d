"""Addresses of images on the web, where the rest of the package has paths."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path, PosixPath, WindowsPath
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.platform != "win32":
    _SystemPath = PosixPath
else:
    _SystemPath = WindowsPath

_ADDRESS = re.compile(r"(https?|s3|gs|az|abfs):/+(?=[^/])")


class WebPath(_SystemPath):
    """The address of an image on the web; as text it is the address again.

    A path has one slash where an address has two: `as_path` finds both forms.
    """

    def __str__(self) -> str:
        return _address(super().__str__()) or super().__str__()


def as_path(path: str | os.PathLike[str]) -> Path:
    """Make a path, or a `WebPath` of what begins as an address.

    Examples
    --------
    >>> str(as_path(Path("https://example.org/cells.ome.zarr")))
    'https://example.org/cells.ome.zarr'
    """
    text = os.fspath(path)
    return Path(text) if _address(text) is None else WebPath(text)


def _address(text: str) -> str | None:
    """Return the address that a path was made of; None for other paths."""
    text = text.replace("\\", "/") if sys.platform == "win32" else text
    found = _ADDRESS.match(text)
    return f"{found[1]}://{text[found.end() :]}" if found else None
