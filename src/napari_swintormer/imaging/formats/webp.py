"""WebP pictures."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.formats.exif import completed
from napari_swintormer.imaging.formats.format import WORDS
from napari_swintormer.imaging.formats.picture import (
    Decoded,
    PictureFormat,
    check_memory,
    choose_frame,
    read_info,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.imaging.carried import Carried


class WebP(PictureFormat):
    """WebP: pictures of 8 bits in colour, written without losses. Grey becomes colour."""

    name = "WebP"
    suffixes = (".webp",)
    dtypes = ("uint8",)
    largest_side = 16383
    holds = frozenset(WORDS) - {"texts", "no_data", "name", "channels"}

    def detect(self, path: Path, start: bytes) -> bool:
        """Say whether a RIFF file holds a WebP picture."""
        if not start.startswith(b"RIFF"):
            return False
        with path.open("rb") as file:
            return file.read(12)[8:] == b"WEBP"

    def decode(self, path: Path, number: int) -> Decoded:
        """Decode a picture, or a frame of an animation."""
        from PIL.WebPImagePlugin import WebPImageFile

        with WebPImageFile(path) as picture:
            n_frames = choose_frame(path, picture, number)
            check_memory(path, picture.width * picture.height * len(picture.getbands()))
            pixels = np.asarray(picture)
            if n_frames > 1 and pixels.shape[-1] == 4 and np.all(pixels[..., 3] == 255):
                pixels = pixels[..., :3]  # frames of an animation always have alpha
            return Decoded(pixels, read_info(picture.info), n_frames)

    def encode(self, pixels: NDArray[Any], carried: Carried) -> bytes:
        """Encode a picture without losses; description and resolution become EXIF data."""
        from PIL import Image

        options: dict[str, Any] = {"lossless": True, "exact": True}
        block = completed(carried)
        if block:
            options["exif"] = block
        for name in ("icc_profile", "xmp"):
            if content := getattr(carried, name):
                options[name] = content
        file = BytesIO()
        Image.fromarray(pixels).save(file, "WEBP", **options)
        return file.getvalue()
