"""The single tests of the pair check, and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import TrainingError
from napari_swintormer.imaging.intensity import no_data_pixels
from napari_swintormer.training.data.annotations import check_mask, read_marks
from napari_swintormer.training.data.sources import open_planes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.training.data.comparison import Comparison
    from napari_swintormer.training.data.pairs import ImagePair, PlanePair

# The limits lie between the values of 31 real pairs from five instruments and those of the same
# pairs swapped or moved: docs/training.md has the numbers.
_SHIFTED, _SLIGHTLY_SHIFTED = 1.0, 0.5  # pixels
_SHARPER, _HARDLY_SHARPER = 0.95, 1.03  # `Comparison.detail`
_OTHER_GAIN, _DIFFERENT_GAIN = 2.5, 1.25
_UNRELATED = 0.3  # `Comparison.correlation`
_SATURATED, _MANY_SATURATED = 0.5, 0.05  # share of the pixels
_SIDE = 384  # side of a region that is compared, in pixels
_REGIONS_ALONG = 3  # regions along each axis
_THUMBNAIL = 64  # longer side of one image, in pixels
_SEARCHED = 2**26  # a plane of up to this many pixels is searched whole for NaN


@dataclass(frozen=True)
class Finding:
    """One problem of a pair.

    Attributes
    ----------
    kind
        ``"unmatched"``, ``"unreadable"``, ``"size"``, ``"annotations"``, ``"not finite"``,
        ``"constant"``, ``"identical"``, ``"data type"``, ``"unrelated"``, ``"shifted"``,
        ``"swapped"``, ``"intensity"``, ``"saturated"`` or ``"duplicate"``.
    message
        One sentence: what is wrong, what was measured, what would work.
    bad
        Whether the pair must not be trained on.
    """

    kind: str
    message: str
    bad: bool = True


def find_other_size(pair: ImagePair, views: Sequence[Planes], sharp: Planes) -> Finding | None:
    """Find a view that differs in size from the sharp image."""
    for view, source in zip(views, (pair.blurred, pair.second), strict=False):
        if (size := _size(view)) != _size(sharp):
            return Finding(
                "size",
                f"The images of a pair must have the same size: {source} has {size}, "
                f"{pair.sharp} has {_size(sharp)}. Crop both to the same field of view.",
            )
    return None


def find_in_annotations(pair: PlanePair, sharp: Planes) -> Iterator[Finding]:
    """Find annotations that do not fit the image, or that leave out all of it."""
    if pair.annotations is None:
        return
    with open_planes(pair.annotations, 1) as mask:
        try:
            check_mask(pair.annotations.name, mask, len(sharp), pair.shape)
        except TrainingError as error:
            yield Finding("annotations", str(error))
            return
    if not read_marks(pair, sharp.channels).total:
        message = f"The annotations {pair.annotations.name} leave out the whole image."
        yield Finding("annotations", message)


def find_in_content(name: str, planes: Planes, plane: int) -> Iterator[Finding]:
    """Find what makes one image useless: NaN, no contrast, saturation."""
    height, width = planes.shape
    regions = compared_regions(planes.shape)
    no_data = planes.meaning.no_data
    if (planes.dtype.kind == "f" or no_data is not None) and height * width <= _SEARCHED:
        regions = [(slice(0, height), slice(0, width))]
    pixels = np.concatenate([planes.read(plane, y, x).ravel() for y, x in regions])
    if wrong := int(np.count_nonzero(~np.isfinite(pixels))):
        yield Finding(
            "not finite",
            f"{name} has {wrong:,} pixel(s) that are NaN or infinite; fill them or leave them out.",
        )
    elif no_data is not None and (wrong := int(no_data_pixels(pixels, no_data).sum())):
        yield Finding(
            "no data",
            f"{name} has {wrong:,} pixel(s) without data, by a mask or as its file says; fill them "
            "or leave them out.",
        )
    elif pixels.min() == pixels.max():
        yield Finding(
            "constant",
            f"{name} is constant (every pixel is {pixels.flat[0]}); there is nothing to learn.",
        )
    elif planes.dtype.kind != "f":
        share = float(np.mean(pixels == np.iinfo(planes.dtype).max))
        if share > _MANY_SATURATED:
            yield Finding(
                "saturated",
                f"{name} is saturated in {share:.0%} of its pixels; expose less.",
                bad=share > _SATURATED,
            )


def find_in_comparison(
    name: str,
    found: Comparison,
    dtypes: tuple[np.dtype[np.generic], np.dtype[np.generic]],
    *,
    register: bool,
    match: bool,
) -> Iterator[Finding]:
    """Find what is wrong between the images; `dtypes` are those of the blurred and sharp image."""
    other_type = dtypes[0] != dtypes[1]
    if other_type and not match:
        yield Finding(
            "data type",
            f"{name}: the blurred image is {dtypes[0]}, the sharp one {dtypes[1]}; save both "
            "in one data type, or match intensities.",
        )
    if found.correlation < _UNRELATED:
        yield Finding(
            "unrelated",
            f"{name}: the two images do not show the same thing (correlation "
            f"{found.correlation:.2f} at the best shift); pair each image with its partner.",
        )
        return
    distance = float(np.hypot(*found.shift))
    if distance > _SLIGHTLY_SHIFTED:
        done = "; it is moved back." if register else "; register the pairs."
        yield Finding(
            "shifted",
            f"{name}: the sharp image is moved {_direction(found.shift)} against the blurred "
            f"one{done}",
            bad=distance > _SHIFTED and not register,
        )
    if found.detail < _HARDLY_SHARPER:
        swapped = found.detail < _SHARPER
        says = "less sharp than" if swapped else "hardly sharper than"
        yield Finding(
            "swapped",
            f"{name}: the sharp image is {says} the blurred one (details {found.detail:.2f} times "
            "as strong); are they swapped?",
            bad=swapped,
        )
    change = max(found.gain, 1 / found.gain)
    if change > _DIFFERENT_GAIN and not other_type:
        done = "; it is matched." if match else "; match intensities."
        yield Finding(
            "intensity",
            f"{name}: the contrast of the sharp image is {found.gain:.2f} times that of the "
            f"blurred one{done}",
            bad=change > _OTHER_GAIN and not match,
        )


def compared_regions(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Spread up to nine squares evenly over a plane, or take all of a small one."""
    along = []
    for n in shape:
        count = min(_REGIONS_ALONG, -(-n // _SIDE))
        side = min(n, _SIDE)
        starts = [0] if count == 1 else [k * (n - side) // (count - 1) for k in range(count)]
        along.append([slice(start, start + side) for start in starts])
    return [(y, x) for y in along[0] for x in along[1]]


def draw_thumbnail(blurred: NDArray[np.float64], sharp: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Draw two regions ``(Y, X)`` of equal shape side by side, small and in grey levels."""
    step = max(1, -(-max(blurred.shape) // _THUMBNAIL))
    scaled = []
    for half in (blurred, sharp):
        height, width = (n // step * step for n in half.shape)
        small = half[:height, :width].reshape(height // step, step, -1, step).mean(axis=(1, 3))
        low, high = np.percentile(small, (1, 99))
        scaled.append(np.clip((small - low) / max(high - low, np.finfo(float).tiny), 0, 1))
    return np.round(255 * np.concatenate(scaled, axis=1)).astype(np.uint8)


def _direction(shift: tuple[float, float]) -> str:
    """Return a shift in words."""
    (dy, dx), parts = shift, []
    for distance, words in ((dy, ("down", "up")), (dx, ("right", "left"))):
        if abs(distance) >= 0.05:
            parts.append(f"{abs(distance):.1f} px {words[distance < 0]}")
    return " and ".join(parts)


def _size(planes: Planes) -> str:
    height, width = planes.shape
    return f"{len(planes)} plane(s) of {height} x {width} pixels and {planes.channels} channel(s)"
