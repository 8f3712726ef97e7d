"""Names of hidden work files and folders beside a result."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_NAME_BYTES = 255  # on nearly every file system


def hidden_beside(destination: Path, word: str) -> Path:
    """Name a hidden file or folder beside a result, such as ``.image.tif.partial``.

    The name fits wherever the name of the result fits: a long one is cut, and a checksum of the
    whole name keeps it apart from others.
    """
    name = f".{destination.name}.{word}"
    limit = name_bytes(destination.parent)
    if _length(name) > limit:
        from hashlib import sha256

        end = f"-{sha256(os.fsencode(destination.name)).hexdigest()[:12]}.{word}"
        start = destination.name
        while start and _length(f".{start}{end}") > limit:
            start = start[:-1]
        name = f".{start}{end}"
    return destination.with_name(name)


def name_bytes(folder: Path) -> int:
    """Return how many bytes the name of a file in a folder may have."""
    if sys.platform == "win32":
        return _NAME_BYTES
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError):  # the folder is missing, or the system does not tell
        return _NAME_BYTES


def _length(name: str) -> int:
    return len(os.fsencode(name))
