"""What can be wrong with a pair, and where the limits are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import TrainingError
from napari_swintormer.training.data.annotations import Marks, check_mask, plane_of_mask
from napari_swintormer.training.data.sources import open_planes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.training.data.comparison import Comparison
    from napari_swintormer.training.data.pairs import ImagePair, PlanePair
    from napari_swintormer.training.data.sources import Source

# The limits stand between what 31 real pairs of five instruments show and what their swapped or
# moved versions show, see docs/training.md.
_SHIFTED, _MOVED_A_LITTLE = 1.0, 0.5  # pixels
_SHARPER, _HARDLY_SHARPER = 0.95, 1.03  # `Comparison.detail`
_OTHER_GAIN, _DIFFERENT_GAIN = 2.5, 1.25
_UNRELATED = 0.3  # `Comparison.correlation`
_SATURATED, _MANY_SATURATED = 0.5, 0.05  # share of the pixels
_SIDE = 384  # pixels of a region that is compared
_REGIONS = 9
_THUMBNAIL = 64  # pixels, longer side of one image
_SEARCHED = 2**26  # pixels of a plane that are looked through for NaN; of more, the sample


@dataclass(frozen=True)
class Finding:
    """One thing about a pair that its owner should know.

    Attributes
    ----------
    kind
        ``"unmatched"``, ``"unreadable"``, ``"size"``, ``"annotations"``, ``"not finite"``,
        ``"constant"``, ``"identical"``, ``"data type"``, ``"unrelated"``, ``"shifted"``,
        ``"swapped"``, ``"intensity"``, ``"saturated"`` or ``"duplicate"``.
    message
        One sentence: what is wrong, what was measured, what would work.
    bad
        Whether the pair must not be trained on as it is.
    """

    kind: str
    message: str
    bad: bool = True


def compare_sizes(pair: ImagePair, views: Sequence[Planes], sharp: Planes) -> Finding | None:
    """Say if the images of a pair differ in size."""
    for view, source in zip(views, (pair.blurred, pair.second), strict=False):
        if (problem := _compare_size(source, view, pair, sharp)) is not None:
            return problem
    return None


def _compare_size(
    source: Source | None, blurred: Planes, pair: ImagePair, sharp: Planes
) -> Finding | None:
    ours = (len(sharp), sharp.channels, *sharp.shape)
    theirs = (len(blurred), blurred.channels, *blurred.shape)
    if ours == theirs:
        return None
    return Finding(
        "size",
        f"The images of a pair must have the same size: {source} has {_size(theirs)}, "
        f"{pair.sharp} has {_size(ours)}. Crop both to the same field of view.",
    )


def annotation_findings(scene: PlanePair, n_planes: int) -> Iterator[Finding]:
    """Look whether annotations lie on the image and leave something over."""
    if scene.annotations is None:
        return
    with open_planes(scene.annotations, 1) as mask:
        try:
            check_mask(scene.annotations.name, mask, n_planes, scene.shape)
        except TrainingError as error:
            yield Finding("annotations", str(error))
            return
        plane = plane_of_mask(mask, scene.plane, n_planes)
        if not Marks(mask, plane, slice(0, scene.shape[0]), slice(0, scene.shape[1])).total:
            yield Finding(
                "annotations",
                f"The annotations {scene.annotations.name} leave out the whole image.",
            )


def content_findings(name: str, planes: Planes, plane: int) -> Iterator[Finding]:
    """Look for what makes an image useless by itself."""
    height, width = planes.shape
    regions = compared_regions(planes.shape)
    if planes.dtype.kind == "f" and height * width <= _SEARCHED:
        regions = [(slice(0, height), slice(0, width))]
    pixels = np.concatenate([planes.read(plane, y, x).ravel() for y, x in regions])
    wrong = int(np.count_nonzero(~np.isfinite(pixels)))
    if wrong:
        yield Finding(
            "not finite",
            f"{name} has {wrong:,} pixel(s) that are NaN or infinite; fill them or leave them out.",
        )
        return
    if pixels.min() == pixels.max():
        yield Finding(
            "constant",
            f"{name} is constant (every pixel is {pixels.flat[0]}); there is nothing to learn.",
        )
        return
    if planes.dtype.kind != "f":
        share = float(np.mean(pixels == np.iinfo(planes.dtype).max))
        if share > _MANY_SATURATED:
            yield Finding(
                "saturated",
                f"{name} is saturated in {share:.0%} of its pixels; expose less.",
                bad=share > _SATURATED,
            )


def relation_findings(
    name: str,
    found: Comparison,
    blurred: Planes,
    sharp: Planes,
    register: bool,
    match: bool,
) -> Iterator[Finding]:
    """Judge how the two images lie to each other."""
    other_type = blurred.dtype != sharp.dtype
    if other_type and not match:
        yield Finding(
            "data type",
            f"{name}: the blurred image is {blurred.dtype}, the sharp one {sharp.dtype}; save both "
            "alike, or match intensities.",
        )
    if found.correlation < _UNRELATED:
        yield Finding(
            "unrelated",
            f"{name}: the two images do not show the same thing (correlation "
            f"{found.correlation:.2f} even after moving them); pair each with its partner.",
        )
        return
    distance = float(np.hypot(*found.shift))
    if distance > _MOVED_A_LITTLE:
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
    """Spread squares evenly over a plane, or take all of a small one."""
    along = []
    for n in shape:
        count = min(int(_REGIONS**0.5), -(-n // _SIDE))
        side = min(n, _SIDE)
        starts = [0] if count == 1 else [k * (n - side) // (count - 1) for k in range(count)]
        along.append([slice(start, start + side) for start in starts])
    return [(y, x) for y in along[0] for x in along[1]]


def draw_thumbnail(blurred: NDArray[np.float64], sharp: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Put two regions ``(Y, X)`` of equal shape side by side in grey levels, small."""
    step = max(1, -(-max(blurred.shape) // _THUMBNAIL))
    halves = [
        half[: len(half) // step * step, : half.shape[1] // step * step]
        .reshape(half.shape[0] // step, step, -1, step)
        .mean(axis=(1, 3))
        for half in (blurred, sharp)
    ]
    scaled = []
    for half in halves:
        low, high = np.percentile(half, (1, 99))
        scaled.append(np.clip((half - low) / max(high - low, np.finfo(float).tiny), 0, 1))
    return np.round(255 * np.concatenate(scaled, axis=1)).astype(np.uint8)


def _direction(shift: tuple[float, float]) -> str:
    """Say a shift in words."""
    (dy, dx), parts = shift, []
    for distance, words in ((dy, ("down", "up")), (dx, ("right", "left"))):
        if abs(distance) >= 0.05:
            parts.append(f"{abs(distance):.1f} px {words[distance < 0]}")
    return " and ".join(parts)


def _size(size: tuple[int, ...]) -> str:
    planes, channels, height, width = size
    return f"{planes} plane(s) of {height} x {width} pixels and {channels} channel(s)"
