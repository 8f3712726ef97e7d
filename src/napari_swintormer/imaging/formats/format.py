"""What a file format is to the rest of the package."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

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

    def detect(self, path: Path, start: bytes) -> bool:
        """Say whether a file that starts with these 8 bytes, or a folder, has this format."""
        return start.startswith(self.signatures)

    @abstractmethod
    def open(self, path: Path, axes: str | None) -> Image:
        """Open an image; `axes` overrules the axes that the file tells."""

    def limit(self, path: Path, axes: str, shape: Sequence[int], dtype: np.dtype) -> str | None:
        """Say why a file of this name cannot hold an image, or None: "holds …", "has no …"."""
        return None

    @abstractmethod
    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Write an image that `limit` allows into `file`, a working name beside ``image.path``."""
