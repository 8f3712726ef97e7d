"""What PNG, JPEG and the like share: one picture, decoded and encoded as a whole."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.formats.format import Format
from napari_swintormer.imaging.image import Image
from napari_swintormer.imaging.views import Ordered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray


class PictureFormat(Format):
    """A format of one picture of some data types, with or without transparency."""

    holds_floats = False
    shows_all_bits = True
    dtypes: ClassVar[tuple[str, ...]]
    holds_alpha: ClassVar[bool] = True

    @abstractmethod
    def decode(self, path: Path) -> NDArray[Any]:
        """Decode a file to ``(Y, X)`` or ``(Y, X, S)``."""

    @abstractmethod
    def encode(self, pixels: NDArray[Any]) -> bytes:
        """Encode ``(Y, X)`` or ``(Y, X, S)`` pixels of native byte order."""

    def open(self, path: Path, axes: str | None, image: int | None = None) -> Image:
        """Decode a picture."""
        data = self.decode(path)
        known = "YX" if data.ndim == 2 else "YXS"
        return Image(data, resolve_axes(data.shape, data.dtype, axes or known), path)

    def limit(self, path: Path, axes: str, shape: Sequence[int], dtype: np.dtype) -> str | None:
        """Refuse stacks, other data types, and transparency where there is none."""
        stack = [a for a, n in zip(axes, shape, strict=True) if a in "TCZ" and n > 1]
        if stack:
            return f"holds one picture, not a stack along {', '.join(stack)}"
        if dtype.name not in self.dtypes:
            return f"holds {' or '.join(self.dtypes)}, not {dtype.name}"
        if not self.holds_alpha and "S" in axes and shape[axes.index("S")] in (2, 4):
            return "has no transparency"
        return None

    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Encode the picture; leading axes of size 1 are left out."""
        order = "".join(a for a in "TCZYXS" if a in image.axes)
        data = Ordered(image.data, image.axes, order)
        pixels = np.ascontiguousarray(data[(0,) * order.index("Y")])
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        file.write_bytes(self.encode(pixels))


def check_memory(path: Path, nbytes: int) -> None:
    """Refuse a picture that does not fit in memory, where it is decoded as a whole."""
    import psutil

    available = psutil.virtual_memory().available
    if nbytes > available // 2:
        raise FileError(
            f"{path} would take {nbytes / 1e9:.1f} GB of memory to decode, and "
            f"{available / 1e9:.1f} GB are free; convert it to a tiled TIFF or OME-Zarr first."
        )
