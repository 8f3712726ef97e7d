"""PNG pictures of 8 or 16 bits."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.picture import PictureFormat, check_memory

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_DEFLATE_RATIO = 1032  # the most that Deflate can compress
_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}  # by colour type
_PALETTE = 3


class Png(PictureFormat):
    """PNG: lossless pictures."""

    name = "PNG"
    suffixes = (".png",)
    signatures = (b"\x89PNG\r\n\x1a\n",)
    dtypes = ("uint8", "uint16")

    def decode(self, path: Path) -> NDArray[Any]:
        """Decode a file whose header promises no more pixels than its bytes can hold."""
        import imagecodecs

        encoded = path.read_bytes()
        try:
            width, height, bits, colour = struct.unpack(">IIBB", encoded[16:26])
        except struct.error as error:
            raise FileError(f"{path} is a truncated PNG file.") from error
        samples = _SAMPLES.get(colour, 4)
        stored_bits = height * width * bits * (1 if colour == _PALETTE else samples)
        if stored_bits / 8 > _DEFLATE_RATIO * len(encoded):
            raise FileError(
                f"{path} is damaged: {len(encoded)} bytes cannot be {width} x {height} pixels."
            )
        check_memory(path, height * width * samples * max(1, bits // 8))
        try:
            data: NDArray[Any] = imagecodecs.png_decode(encoded)
        except (imagecodecs.PngError, ValueError) as error:
            raise FileError(f"{path} is a damaged or truncated PNG file ({error}).") from error
        return data

    def encode(self, pixels: NDArray[Any]) -> bytes:
        """Encode a picture."""
        import imagecodecs

        return bytes(imagecodecs.png_encode(pixels))
