"""JPEG pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.picture import PictureFormat, check_memory

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_QUALITY = 95


class Jpeg(PictureFormat):
    """JPEG: pictures of 8 bits, with losses."""

    name = "JPEG"
    suffixes = (".jpg", ".jpeg")
    signatures = (b"\xff\xd8\xff",)
    result_suffix = ".png"
    dtypes = ("uint8",)
    holds_alpha = False

    def decode(self, path: Path) -> NDArray[Any]:
        """Decode a file, and turn the picture upright as its EXIF orientation says."""
        from PIL import ImageOps
        from PIL.JpegImagePlugin import JpegImageFile

        try:
            # The class itself does not limit the number of pixels; `check_memory` does.
            with JpegImageFile(path) as picture:
                width, height = picture.size
                check_memory(path, width * height * len(picture.getbands()))
                upright = ImageOps.exif_transpose(picture)
                known = upright.mode in ("L", "RGB")
                return np.asarray(upright if known else upright.convert("RGB"))
        except FileError:
            raise
        except (OSError, SyntaxError, ValueError) as error:
            raise FileError(f"{path} is a damaged or truncated JPEG file ({error}).") from error

    def encode(self, pixels: NDArray[Any]) -> bytes:
        """Encode a picture."""
        import imagecodecs

        return bytes(imagecodecs.jpeg_encode(pixels, level=_QUALITY))
