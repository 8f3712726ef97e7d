"""Which images training learns from: found, checked, and split by source into two halves."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from napari_swintormer.errors import SwintormerError, TrainingError
from napari_swintormer.imaging.files import open_image
from napari_swintormer.imaging.planes import Planes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from napari_swintormer.training.degradations import Kind

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".npy")
_CROP = re.compile(r"_t\d+$")


@dataclass(frozen=True)
class Scene:
    """A sharp plane, and its blurred partner unless the blur is synthesized.

    Attributes
    ----------
    sharp, blurred
        Image files of equal shape.
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
    """

    sharp: Path
    blurred: Path | None
    plane: int
    shape: tuple[int, int]
    kind: Kind
    group: str
    source: str


def find_scenes(
    sharp: Sequence[Path],
    blurred: Path | None,
    kinds: Sequence[Kind | Literal["auto"]],
    channels: int,
) -> list[Scene]:
    """List the scenes of some folders, in a fixed order.

    Parameters
    ----------
    sharp
        Folders of sharp images; one only if there is a `blurred` folder.
    blurred
        Folder with a partner of the same name, whatever the suffix, for every sharp image.
    kinds
        Kind of the images of each folder; ``"auto"`` takes 8-bit RGB images for photos.
    channels
        Channels of the network: 3 keeps the colours of RGB images together.

    Raises
    ------
    TrainingError
        A folder is missing or empty, an image cannot be read, has no partner or another shape.
    """
    scenes: list[Scene] = []
    for folder, kind in zip(sharp, kinds, strict=True):
        partners = _match(folder, blurred) if blurred else {}
        for file in list_images(folder):
            partner = partners.get(file)
            planes = _open_planes(file, channels)
            if partner is not None:
                _check_partner(file, planes, partner, _open_planes(partner, channels))
            if kind == "auto":
                kind_of_file: Kind = "photo" if _looks_like_photo(planes) else "microscopy"
            else:
                kind_of_file = kind
            stem = _CROP.sub("", file.stem)
            scenes += [
                Scene(
                    file,
                    partner,
                    plane,
                    planes.shape,
                    kind_of_file,
                    group=f"{folder}/{re.split(r'[_0-9]', stem, maxsplit=1)[0]}",
                    source=f"{folder}/{stem}",
                )
                for plane in range(len(planes))
            ]
    return scenes


def list_images(folder: Path) -> list[Path]:
    """List the image files of a folder, sorted by name."""
    if not folder.is_dir():
        raise TrainingError(f"There is no folder {folder}. Give a folder of images.")
    files = sorted(
        f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES and not f.name.startswith(".")
    )
    if not files:
        raise TrainingError(
            f"The folder {folder} has no images. Use files of these types: {', '.join(SUFFIXES)}."
        )
    return files


def split_scenes(scenes: Sequence[Scene], held_out: float) -> tuple[list[Scene], list[Scene]]:
    """Split scenes into those to train on and those held out for validation.

    The split is by source and depends on the names alone, so that a resumed or repeated training
    holds out the same ones. With a single source there is nothing to hold out.

    Parameters
    ----------
    scenes
        Scenes of all folders.
    held_out
        Share of the sources to hold out, rounded up.
    """
    sources = sorted({s.source for s in scenes}, key=_name_hash)
    count = min(-int(-held_out * len(sources) // 1), len(sources) - 1)
    chosen = set(sources[:count])
    train = [s for s in scenes if s.source not in chosen]
    return train, [s for s in scenes if s.source in chosen]


def drawing_weights(scenes: Sequence[Scene]) -> list[float]:
    """Probability of drawing each scene: folders alike, groups by the root of their size."""
    folders = [s.sharp.parent for s in scenes]
    sizes = {g: len(list(m)) for g, m in itertools.groupby(sorted(s.group for s in scenes))}
    raw = [sizes[s.group] ** -0.5 for s in scenes]
    totals: dict[Path, float] = {}
    for folder, weight in zip(folders, raw, strict=True):
        totals[folder] = totals.get(folder, 0.0) + weight
    return [w / totals[f] / len(totals) for f, w in zip(folders, raw, strict=True)]


def fingerprint(scenes: Iterable[Scene]) -> str:
    """Name a list of scenes, so that a resumed training can tell that it is the same."""
    lines = (f"{s.sharp}|{s.blurred}|{s.plane}|{s.shape}|{s.kind}" for s in scenes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _match(sharp: Path, blurred: Path) -> dict[Path, Path]:
    """Partner of every sharp file; every file must have exactly one."""
    by_stem: dict[str, list[Path]] = {}
    for file in list_images(blurred):
        by_stem.setdefault(file.stem, []).append(file)
    partners = {}
    for file in list_images(sharp):
        found = by_stem.pop(file.stem, [])
        if len(found) != 1:
            problem = f"{len(found)} partners" if found else "no partner"
            raise TrainingError(
                f"{file} has {problem} in {blurred}. Give both images of a pair the same name; "
                "the suffix may differ."
            )
        partners[file] = found[0]
    if by_stem:
        left_over = next(iter(by_stem.values()))[0]
        raise TrainingError(
            f"{left_over} has no partner in {sharp}. Give both images of a pair the same name; "
            "the suffix may differ."
        )
    return partners


def _open_planes(file: Path, channels: int) -> Planes:
    try:
        with open_image(file) as image:
            return Planes(image.data, image.axes, channels)
    except SwintormerError as error:
        raise TrainingError(f"Training cannot use {file}: {error}") from error


def _check_partner(sharp: Path, sharp_planes: Planes, blurred: Path, planes: Planes) -> None:
    ours = (len(sharp_planes), sharp_planes.channels, *sharp_planes.shape)
    theirs = (len(planes), planes.channels, *planes.shape)
    if ours != theirs:
        raise TrainingError(
            f"The images of a pair must have the same size: {blurred} has {_size(theirs)}, "
            f"{sharp} has {_size(ours)}."
        )


def _size(size: tuple[int, ...]) -> str:
    planes, channels, height, width = size
    return f"{planes} plane(s) of {height} x {width} pixels and {channels} channel(s)"


def _looks_like_photo(planes: Planes) -> bool:
    return planes.channels == 3 and planes.dtype.itemsize == 1


def _name_hash(source: str) -> str:
    return hashlib.sha256(source.rpartition("/")[2].encode()).hexdigest()
