"""Pairs of images, their planes, and the split into training and validation."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_swintormer.errors import TrainingError
from napari_swintormer.imaging.sample import identify
from napari_swintormer.training.data.annotations import check_mask
from napari_swintormer.training.data.sources import ArrayImage, Source, open_planes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.models.catalogue import ImageKind

_CROP = re.compile(r"_t\d+$")

Region = tuple[tuple[int, int], tuple[int, int]]
"""``(start, stop)`` along Y and X, in pixels."""


@dataclass(frozen=True)
class ImagePair:
    """A sharp image, and its blurred partner unless the blur is synthesized.

    Attributes
    ----------
    sharp, blurred
        Files or arrays of equal size; every plane of a stack is a pair.
    annotations
        Mask of the same size, with the labels of `annotations.TAKE` and `annotations.LEAVE_OUT`.
    kind
        Kind of image, for synthetic blur; ``"auto"`` takes 8-bit RGB images for photos.
    folder
        Folder of the sharp image; training draws from each folder equally often.
    second
        The left view of a dual-pixel camera; `blurred` is then the right view.
    """

    sharp: Source
    blurred: Source | None = None
    annotations: Source | None = None
    kind: ImageKind | Literal["auto"] = "auto"
    folder: str = "arrays"
    second: Source | None = None

    @property
    def name(self) -> str:
        """Name for people: that of the blurred image."""
        return (self.sharp if self.blurred is None else self.blurred).name


@dataclass(frozen=True)
class PlanePair:
    """One plane of an `ImagePair`, with everything that drawing patches needs.

    Attributes
    ----------
    sharp, blurred, annotations, second
        The images of the pair.
    plane
        Number of the plane in each image.
    shape
        ``(Y, X)``.
    kind
        Kind of image, for synthetic blur.
    group
        Folder and beginning of the name, up to the first ``_`` or digit. A group is drawn from in
        proportion to the square root of its size, so that a long series does not dominate.
    source
        Folder and name, without a last ``_t0``, ``_t1``… of crops from one image. Pairs of one
        source are held out together.
    region
        Part of the plane that patches come from; None for all of it.
    shift
        ``(dy, dx)`` in pixels by which the sharp image is moved back.
    gain, offset
        The sharp image has ``gain * blurred + offset``, and is brought back to the blurred one's
        intensities.
    """

    sharp: Source
    blurred: Source | None
    plane: int
    shape: tuple[int, int]
    kind: ImageKind
    group: str
    source: str
    annotations: Source | None = None
    region: Region | None = None
    shift: tuple[float, float] = (0.0, 0.0)
    gain: float = 1.0
    offset: float = 0.0
    second: Source | None = None

    @property
    def bounds(self) -> Region:
        """Part of the plane that patches come from."""
        return self.region or ((0, self.shape[0]), (0, self.shape[1]))


def are_arrays(images: Any) -> bool:
    """Tell an array, or a list of arrays, from folders."""
    first = images[0] if isinstance(images, (list, tuple)) and images else images
    return hasattr(first, "dtype")


def array_pairs(
    blurred: Any, sharp: Any, annotations: Any = None, axes: str | None = None
) -> list[ImagePair]:
    """Make pairs of arrays.

    Parameters
    ----------
    blurred, sharp
        An array-like each, or lists of equal length. None for `blurred` means synthetic blur.
    annotations
        None, a mask, or a list with a mask or None for each image.
    axes
        One letter of ``TCZYXS`` per dimension of every image; None guesses them.

    Raises
    ------
    TrainingError
        The lists differ in length.
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
            ArrayImage(f"sharp {k}", s, axes),
            None if b is None else ArrayImage(f"image {k}", b, axes),
            None if m is None else ArrayImage(f"annotations {k}", m),
        )
        for k, (b, s, m) in enumerate(zip(blurreds, sharps, masks, strict=True))
    ]


def sharp_planes(pair: ImagePair, channels: int) -> list[PlanePair]:
    """List the planes of an image whose blur is synthesized.

    Raises
    ------
    TrainingError
        The image cannot be read, or its annotations do not fit it.
    """
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

    The split is by source and depends on the names alone, so that a repeated or resumed training
    has the same split. With few sources, the end of every plane is held out instead: along its
    longer side, at least as wide as a patch. No patch crosses the border between the two parts.

    Parameters
    ----------
    pairs
        Pairs of all folders.
    held_out
        Share of the sources to hold out, rounded up, or share of every plane. The planes are split
        where one source would be more than twice this share.
    patch_size
        Side of the patches in pixels.
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


def drawing_weights(pairs: Sequence[PlanePair]) -> list[float]:
    """Probability of drawing each pair: equal for folders, root of the size for groups."""
    sizes = Counter(p.group for p in pairs)
    folders = [p.group.rpartition("/")[0] for p in pairs]
    raw = [sizes[p.group] ** -0.5 for p in pairs]
    totals: defaultdict[str, float] = defaultdict(float)
    for folder, weight in zip(folders, raw, strict=True):
        totals[folder] += weight
    return [w / totals[f] / len(totals) for f, w in zip(folders, raw, strict=True)]


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
