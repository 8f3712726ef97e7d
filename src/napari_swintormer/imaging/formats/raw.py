"""Raw files of cameras, developed to RGB of 16 bits."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from napari_swintormer.imaging.carried import Carried
from napari_swintormer.imaging.formats import tiff_tags
from napari_swintormer.imaging.formats.exif import reset_orientation
from napari_swintormer.imaging.formats.extra import import_extra
from napari_swintormer.imaging.formats.picture import Decoded, PictureReader, check_number

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2",
    ".pef", ".srw", ".3fr", ".fff", ".iiq", ".mos", ".mrw", ".erf", ".kdc", ".dcr", ".rwl", ".x3f",
)  # fmt: skip
_SRGB_GAMMA = (2.4, 12.92)


class Raw(PictureReader):
    """A camera's raw file, developed with its white balance to sRGB, and not brightened.

    Many of these files are TIFFs inside, so that their suffix tells them.
    """

    name = "camera raw"
    suffixes = ()
    read_suffixes = _SUFFIXES
    result_suffix: ClassVar[str | None] = ".tif"

    def detect(self, path: Path, start: bytes) -> bool:
        """Say whether a file has the suffix of a camera's raw files."""
        return path.suffix.lower() in self.read_suffixes and path.is_file()

    def decode(self, path: Path, number: int) -> Decoded:
        """Develop the file; it comes upright."""
        rawpy = import_extra("rawpy", "raw", path, "a camera's raw file")
        check_number(path, number, 1)
        with rawpy.imread(str(path)) as raw:
            pixels = raw.postprocess(
                output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=_SRGB_GAMMA
            )
        return Decoded(pixels, _read_carried(path))


def _read_carried(path: Path) -> Carried:
    """Read EXIF where the file is a TIFF inside, and name the colours that it is developed to."""
    import tifffile
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    srgb = srgb[:24] + bytes(12) + srgb[36:]  # without the time at which it was made
    carried = Carried(icc_profile=srgb)
    with suppress(Exception), tifffile.TiffFile(path) as tiff:
        block, _ = reset_orientation(tiff_tags.read_exif(tiff.pages[0]), b"")
        carried = replace(carried, exif=block)
    return carried
