"""Pairs of images, their planes, and the split into training and validation."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_swintormer.errors import ImageError, TrainingError
from napari_swintormer.imaging.array_likes import as_array_like
from napari_swintormer.imaging.carried import SampleMeaning
from napari_swintormer.imaging.sample import identify
from napari_swintormer.training.data.annotations import check_mask
from napari_swintormer.training.data.sources import ArrayImage, Source, open_planes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.settings.deblur_settings import ImageKind

_CROP = re.compile(r"_t\d+$")

Region = tuple[tuple[int, int], tuple[int, int]]
"""``(start, stop)`` along Y and X, in pixels."""


@dataclass(frozen=True)
class ImagePair:
    """A sharp image, and its blurred partner unless the blur is synthesized.

    The images have equal size; every plane of a stack is a pair.
    """

    sharp: Source
    blurred: Source | None = None
    annotations: Source | None = None
    kind: ImageKind | Literal["auto"] = "auto"  # for synthetic blur; auto: photo if 8-bit RGB
    folder: str = "arrays"  # training draws from each folder equally often
    second: Source | None = None  # left view of a dual-pixel camera; `blurred` is the right one

    @property
    def name(self) -> str:
        """Name for people: that of the blurred image."""
        return (self.sharp if self.blurred is None else self.blurred).name


@dataclass(frozen=True)
class PlanePair:
    """One plane of an `ImagePair`, with everything that drawing patches needs."""

    sharp: Source
    blurred: Source | None
    plane: int  # number of the plane in each image
    shape: tuple[int, int]
    kind: ImageKind
    # Folder and beginning of the name, up to the first "_" or digit. A group is drawn from in
    # proportion to the square root of its size, so that a long series does not dominate.
    group: str
    # Folder and name, without a last "_t0", "_t1"… of crops from one image. Pairs of one source are
    # held out together.
    source: str
    annotations: Source | None = None
    region: Region | None = None  # part of the plane that patches come from; None for all of it
    shift: tuple[float, float] = (0.0, 0.0)  # (dy, dx) by which the sharp image is moved back
    gain: float = 1.0  # the sharp image has ``gain * blurred + offset``, which is undone
    offset: float = 0.0
    second: Source | None = None

    @property
    def bounds(self) -> Region:
        """Part of the plane that patches come from."""
        return self.region or ((0, self.shape[0]), (0, self.shape[1]))


def are_arrays(images: Any) -> bool:
    """Tell an array, or a list of arrays, from folders."""
    first = images[0] if isinstance(images, (list, tuple)) and images else images
    return first is not None and not isinstance(first, (str, Path, list, tuple))


def array_pairs(
    blurred: Any, sharp: Any, annotations: Any = None, axes: str | None = None
) -> list[ImagePair]:
    """Make pairs of arrays: one of each, or lists of equal length; stacks are pairs plane by plane.

    None for `blurred`, or in its list, means synthetic blur. None for `axes` guesses them.
    """
    sharps = _listed(sharp)
    blurreds = [None] * len(sharps) if blurred is None else _listed(blurred)
    masks = [None] * len(sharps) if annotations is None else _listed(annotations)
    if not len(sharps) == len(blurreds) == len(masks):
        raise TrainingError(
            f"Every sharp image needs its partner (got {len(blurreds)} blurred and {len(sharps)} "
            f"sharp images, {len(masks)} annotations). Give lists of equal length."
        )
    return [
        ImagePair(
            _array_image(f"sharp {k}", s, axes),
            None if b is None else _array_image(f"image {k}", b, axes),
            None if m is None else _array_image(f"annotations {k}", m, None),
        )
        for k, (b, s, m) in enumerate(zip(blurreds, sharps, masks, strict=True))
    ]


def _array_image(name: str, given: Any, axes: str | None) -> ArrayImage:
    """Take an array of any library; pixels under a mask are no data."""
    try:
        taken = as_array_like(given)
    except ImageError as error:
        raise TrainingError(f"Training cannot use {name}: {error}") from error
    meaning = taken.meaning or SampleMeaning()
    return ArrayImage(name, taken.data, axes or taken.axes, meaning)


def sharp_planes(pair: ImagePair, channels: int) -> list[PlanePair]:
    """List the planes of an image whose blur is synthesized."""
    with open_planes(pair.sharp, channels) as planes:
        if pair.annotations is not None:
            with open_planes(pair.annotations, 1) as mask:
                check_mask(pair.annotations.name, mask, len(planes), planes.shape)
        return plane_pairs(pair, planes)


def plane_pairs(pair: ImagePair, planes: Planes) -> list[PlanePair]:
    """List the planes of a pair; `planes` are those of the sharp image."""
    kind = pair.kind
    if kind == "auto":
        kind = "photo" if planes.channels == 3 and planes.dtype.itemsize == 1 else "microscopy"
    file = pair.sharp
    stem = _CROP.sub("", file.stem if isinstance(file, Path) else file.name)
    return [
        PlanePair(
            pair.sharp,
            pair.blurred,
            plane,
            planes.shape,
            kind,
            group=f"{pair.folder}/{re.split(r'[_0-9]', stem, maxsplit=1)[0]}",
            source=f"{pair.folder}/{stem}",
            annotations=pair.annotations,
            second=pair.second,
        )
        for plane in range(len(planes))
    ]


def split_validation(
    pairs: Sequence[PlanePair], held_out: float, patch_size: int
) -> tuple[list[PlanePair], list[PlanePair]]:
    """Split pairs into those to train on and those to validate with.

    `held_out` is the share of the sources to validate with, rounded up. The split depends on the
    names alone, so that a repeated or resumed training has the same split. Where one source would
    be more than twice the share, the end of every plane is held out instead: along its longer side,
    at least as wide as a patch. No patch crosses the border.
    """
    sources = sorted({p.source for p in pairs}, key=_name_hash)
    if 0 < 2 * held_out * len(sources) < 1 or (len(sources) == 1 and held_out > 0):
        return _split_planes(pairs, held_out, patch_size)
    count = min(-int(-held_out * len(sources) // 1), len(sources) - 1)
    chosen = set(sources[:count])
    train = [p for p in pairs if p.source not in chosen]
    return train, [p for p in pairs if p.source in chosen]


def _split_planes(
    pairs: Sequence[PlanePair], held_out: float, patch_size: int
) -> tuple[list[PlanePair], list[PlanePair]]:
    train, validation = list[PlanePair](), list[PlanePair]()
    for pair in pairs:
        (top, bottom), (left, right) = pair.bounds
        upright = bottom - top > right - left
        start, stop = (top, bottom) if upright else (left, right)
        side = min(max(patch_size, round(held_out * (stop - start))), stop - start - patch_size)
        if side < patch_size:  # too small to split
            train.append(pair)
            continue
        parts = (start, stop - side), (stop - side, stop)
        for part, half in zip(parts, (train, validation), strict=True):
            region = (part, (left, right)) if upright else ((top, bottom), part)
            half.append(dataclasses.replace(pair, region=region))
    return train, validation


def drawing_weights(pairs: Sequence[PlanePair], pair_share: float | None = None) -> list[float]:
    """Probability of drawing each pair: equal for folders, root of the size for groups.

    `pair_share` is the probability of all pairs with a blurred image together, where there are
    others too; None keeps what folders and groups give them.
    """
    sizes = Counter(p.group for p in pairs)
    folders = [p.group.rpartition("/")[0] for p in pairs]
    raw = [sizes[p.group] ** -0.5 for p in pairs]
    totals: defaultdict[str, float] = defaultdict(float)
    for folder, weight in zip(folders, raw, strict=True):
        totals[folder] += weight
    weights = [w / totals[f] / len(totals) for f, w in zip(folders, raw, strict=True)]
    paired = sum(w for w, p in zip(weights, pairs, strict=True) if p.blurred is not None)
    if pair_share is None or not 0 < paired < 1:
        return weights
    factors = (1 - pair_share) / (1 - paired), pair_share / paired
    return [w * factors[p.blurred is not None] for w, p in zip(weights, pairs, strict=True)]


def fingerprint(pairs: Iterable[PlanePair]) -> str:
    """Hash a list of pairs, so that a resumed training can tell whether it is the same.

    A file counts by its path, an array by a sample of its content.
    """

    def identity(source: Source | None) -> str:
        if not isinstance(source, ArrayImage):
            return str(source)
        with open_planes(source, 3) as planes:
            return identify(planes)

    lines = (
        f"{identity(p.sharp)}|{identity(p.blurred)}|{identity(p.annotations)}|{p.plane}|{p.shape}|"
        f"{p.kind}|{p.region}|{p.shift}|{p.gain}|{p.offset}"
        + ("" if p.second is None else f"|{identity(p.second)}")
        for p in pairs
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _listed(images: Any) -> list[Any]:
    return list(images) if isinstance(images, (list, tuple)) else [images]


def _name_hash(source: str) -> str:
    return hashlib.sha256(source.rpartition("/")[2].encode()).hexdigest()
