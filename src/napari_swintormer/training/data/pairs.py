"""Which images training learns from: listed, matched by name, and split into two halves.

Whether the two images of a pair fit each other is the matter of `check`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from napari_swintormer.errors import TrainingError
from napari_swintormer.training.data.annotations import check_mask
from napari_swintormer.training.data.sources import ArrayImage, Source, content_id, open_planes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.models.catalogue import ImageKind

_CROP = re.compile(r"_t\d+$")

Region = tuple[tuple[int, int], tuple[int, int]]
"""``(start, stop)`` along Y and X, in pixels."""


@dataclass(frozen=True)
class ImagePair:
    """A sharp image, its blurred partner unless the blur is synthesized, and annotations.

    Attributes
    ----------
    sharp, blurred
        Files or arrays of equal size; every plane of a stack is a pair of its own.
    annotations
        Labels of the same size, see `napari_swintormer.training.data.annotations`.
    kind
        How intensities relate to light, where the blur is synthesized; ``"auto"`` takes 8-bit RGB
        images for photos.
    folder
        What the image comes from: each folder is drawn from equally often.
    second
        The other view of a dual-pixel camera, the left one; `blurred` is the right one then.
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
    """A sharp plane, and its blurred partner unless the blur is synthesized.

    Attributes
    ----------
    sharp, blurred
        Images of equal shape.
    plane
        Number of the plane in both, see `napari_swintormer.imaging.planes.Planes`.
    shape
        ``(Y, X)``.
    kind
        How intensities relate to light, where the blur is synthesized.
    group
        Scenes of one folder whose names begin alike, up to the first ``_`` or digit. A group is
        drawn in proportion to the square root of its size, so that one large series does not
        drown the others.
    source
        Image that the file was cut from: the name without an ending ``_t0``, ``_t1``...
        Scenes of one source are held out together.
    annotations
        Labels of the same size, or None.
    region
        Part of the plane that patches come from.
    shift
        ``(dy, dx)`` in pixels that the sharp image is moved back by, see
        `napari_swintormer.training.data.comparison.Comparison`.
    gain, offset
        ``sharp = gain · blurred + offset``: what the sharp image is brought back from.
    second
        The other view of the scene, if there is one.
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
        """`region`, or all of the plane."""
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
        An array-like each, or lists of equally many. Stacks are pairs plane by plane. With
        `blurred` None the blur is to be synthesized.
    annotations
        Labels: None, an array-like, or a list with one or None for each image.
    axes
        One letter of ``TCZYXS`` per dimension of every image; guessed if None.

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
        The image cannot be read, or its annotations do not lie on it.
    """
    with open_planes(pair.sharp, channels) as planes:
        if pair.annotations is not None:
            with open_planes(pair.annotations, 1) as mask:
                check_mask(pair.annotations.name, mask, len(planes), planes.shape)
        return list(plane_pairs(pair, planes))


def plane_pairs(pair: ImagePair, planes: Planes) -> list[PlanePair]:
    """List the planes of a pair of images as they are; `planes` are those of the sharp one."""
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
    scenes: Sequence[PlanePair], held_out: float, patch_size: int
) -> tuple[list[PlanePair], list[PlanePair]]:
    """Split scenes into those to train on and those held out for validation.

    The split is by source and depends on the names alone, so that a resumed or repeated training
    holds out the same ones. Where a whole source would be more than twice the share, the end of
    every plane is held out instead, along its longer side and at least as wide as a patch; no patch
    crosses the border.

    Parameters
    ----------
    scenes
        Scenes of all folders.
    held_out
        Share of the sources to hold out, rounded up, or of the pixels of every plane.
    patch_size
        Side of the patches in pixels.
    """
    sources = sorted({s.source for s in scenes}, key=_name_hash)
    if 0 < 2 * held_out * len(sources) < 1 or (len(sources) == 1 and held_out > 0):
        return _split_planes(scenes, held_out, patch_size)
    count = min(-int(-held_out * len(sources) // 1), len(sources) - 1)
    chosen = set(sources[:count])
    train = [s for s in scenes if s.source not in chosen]
    return train, [s for s in scenes if s.source in chosen]


def _split_planes(
    scenes: Sequence[PlanePair], held_out: float, patch_size: int
) -> tuple[list[PlanePair], list[PlanePair]]:
    train, rest = [], []
    for scene in scenes:
        (top, bottom), (left, right) = scene.bounds
        height, width = bottom - top, right - left
        longer = max(height, width)
        share = min(max(patch_size, round(held_out * longer)), longer - patch_size)
        if share < patch_size:
            train.append(scene)
        elif height > width:
            border = bottom - share
            train.append(dataclasses.replace(scene, region=((top, border), (left, right))))
            rest.append(dataclasses.replace(scene, region=((border, bottom), (left, right))))
        else:
            border = right - share
            train.append(dataclasses.replace(scene, region=((top, bottom), (left, border))))
            rest.append(dataclasses.replace(scene, region=((top, bottom), (border, right))))
    return train, rest


def drawing_weights(scenes: Sequence[PlanePair]) -> list[float]:
    """Probability of drawing each scene: folders alike, groups by the root of their size."""
    folders = [s.group.rpartition("/")[0] for s in scenes]
    sizes = {g: len(list(m)) for g, m in itertools.groupby(sorted(s.group for s in scenes))}
    raw = [sizes[s.group] ** -0.5 for s in scenes]
    totals: dict[str, float] = {}
    for folder, weight in zip(folders, raw, strict=True):
        totals[folder] = totals.get(folder, 0.0) + weight
    return [w / totals[f] / len(totals) for f, w in zip(folders, raw, strict=True)]


def fingerprint(scenes: Iterable[PlanePair]) -> str:
    """Name a list of scenes, so that a resumed training can tell that it is the same.

    Files are known by their paths, arrays by what is in them.
    """

    def identity(source: Source | None) -> str:
        return content_id(source) if isinstance(source, ArrayImage) else str(source)

    lines = (
        f"{identity(s.sharp)}|{identity(s.blurred)}|{identity(s.annotations)}|{s.plane}|{s.shape}|"
        f"{s.kind}|{s.region}|{s.shift}|{s.gain}|{s.offset}"
        + ("" if s.second is None else f"|{identity(s.second)}")
        for s in scenes
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _listed(images: Any) -> list[Any]:
    return list(images) if isinstance(images, (list, tuple)) else [images]


def _name_hash(source: str) -> str:
    return hashlib.sha256(source.rpartition("/")[2].encode()).hexdigest()
