"""What the samples of a TIFF mean, and what each kind gets: kept, converted or refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.axes import AXES

if TYPE_CHECKING:
    from pathlib import Path

    from napari_swintormer.imaging.carried import ExtraSample

_TO_RGB = "convert it to RGB or grey first"
_DEVELOP = "develop it to RGB in a raw converter first, or open the camera's own raw file"
REFUSED = {
    "PALETTE": ("palette colours", _TO_RGB),
    "SEPARATED": ("CMYK colours", _TO_RGB),
    "YCBCR": ("YCbCr colours that are not JPEG-compressed", _TO_RGB),
    "CIELAB": ("CIELAB colours", _TO_RGB),
    "ICCLAB": ("ICC L*a*b* colours", _TO_RGB),
    "ITULAB": ("ITU L*a*b* colours", _TO_RGB),
    "LOGL": ("LogL luminances", _TO_RGB),
    "LOGLUV": ("LogLuv colours", _TO_RGB),
    "CFA": ("the raw mosaic of a camera", _DEVELOP),
    "LINEAR_RAW": ("the linear raw data of a camera", _DEVELOP),
    "MASK": ("a transparency mask", "open the image that it belongs to"),
    "SEMANTIC_MASK": ("a semantic mask", "open the image that it belongs to"),
}
"""Photometric interpretations that are refused: what they are called, and what to do.

MINISBLACK, MINISWHITE, RGB and DEPTH_MAP are kept. YCBCR is kept where the codec gives RGB.
"""
# Codecs that know colours, and decode YCbCr to RGB.
_PICTURE_CODECS = ("JPEG", "JPEG2000", "JP2000", "WEBP", "JPEGXL", "JXL", "JPEGXR", "JETRAW")
_ALPHA: dict[int, ExtraSample] = {1: "associated", 2: "unassociated"}


def check_photometric(path: Path, page: Any) -> None:
    """Refuse samples that are no intensities, with a `FileError`."""
    kind = getattr(page.photometric, "name", str(page.photometric))
    codec = getattr(page.compression, "name", "")
    if kind == "YCBCR" and any(known in codec for known in _PICTURE_CODECS):
        return
    if kind in REFUSED:
        what, advice = REFUSED[kind]
        raise FileError(f"{path} has {what}; {advice}.")


def extra_samples(path: Path, page: Any) -> tuple[ExtraSample, ...]:
    """Name the kinds of the samples beyond the colours.

    A fourth sample of RGB that the file says nothing about is plain alpha. An alpha sample among
    others is refused.
    """
    colours = _n_colours(page)
    n_extra = page.samplesperpixel - colours
    if n_extra <= 0:
        return ()
    codes = list(page.extrasamples)[:n_extra]
    if not codes and (colours, n_extra) == (3, 1):
        return ("unassociated",)
    codes += [0] * (n_extra - len(codes))
    kinds: tuple[ExtraSample, ...] = tuple(_ALPHA.get(int(c), "unspecified") for c in codes)
    if n_extra > 1 and set(kinds) != {"unspecified"}:
        raise FileError(
            f"{path} has {n_extra} samples beyond its colours, one of them alpha "
            f"({', '.join(kinds)}); store alpha in a file of its own first."
        )
    return kinds


def bits_per_sample(page: Any, dtype: Any) -> int | None:
    """Bits of a sample, where an unsigned integer has fewer than its data type; else None."""
    bits = page.bitspersample
    if not isinstance(bits, int) or dtype.kind != "u" or bits >= 8 * dtype.itemsize:
        return None
    return bits


def letters(series: Any) -> str:
    """Letters of ``TCZYXS`` for the axes that tifffile found."""
    page = series.keyframe
    codes = [int(code) for code in page.extrasamples]
    colours = _n_colours(page)
    grey_alpha = colours == 1 and len(codes) == 1 and codes[0] != 0
    alpha_or_none = not codes or codes[0] != 0
    picture = (colours == 3 and page.samplesperpixel <= 4 and alpha_or_none) or grey_alpha
    axes = list(series.axes)
    if "S" in axes and "C" not in axes and not picture:
        axes[axes.index("S")] = "C"
    # Pages without a name are slices of a stack, as `resolve_axes` guesses.
    free = [a for a in "CTZ" if a not in axes]
    for i in reversed(range(len(axes))):
        if axes[i] not in AXES and free:
            axes[i] = free.pop()
    return "".join(axes)


def _n_colours(page: Any) -> int:
    return 3 if getattr(page.photometric, "name", "") in ("RGB", "YCBCR") else 1
