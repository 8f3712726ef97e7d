"""Finds the images of a data set on disk, and which of them belong together.

Published data sets pair their images by order, because the two halves have different names. All
other folders pair files of equal names. Nothing is opened here.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.registry import SUFFIXES
from napari_swintormer.settings.deblur_settings import STACK_OPTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ABOUT = "benchmark.json"  # `recipes/make_benchmark.py` writes it beside the folders of a set
OPTICS = tuple(name for name in STACK_OPTIONS if name not in ("depth", "iterations"))
"""Columns of a table of stacks that are options of a volume."""
DPDD_TEST_IMAGES = 76
_DPDD_INDOOR = {*range(8, 14), 16, 32, *range(39, 57), *range(59, 68), 74, 75}  # of these images


@dataclass(frozen=True)
class PairFiles:
    """The files of a blurred image and its sharp reference, and what else is known of them."""

    set: str
    name: str
    blurred: Path
    sharp: Path
    split: str = ""  # part with its own row in published tables: "indoor", "outdoor" or none
    views: tuple[Path, Path] | None = None  # left and right image of a dual-pixel camera
    psf: Path | None = None  # the point-spread function, if it is known
    gamma: float = 1.0  # exponent of the intensity curve; 1 if the image was blurred as light
    optics: dict[str, Any] = field(default_factory=dict)  # of a stack: options of `DeblurSettings`
    planes: tuple[int, int] | None = None  # of a stack: the first that is scored, one past the last


@dataclass(frozen=True)
class Layout:
    """Folders of a published data set, relative to its root or to a folder of `under`.

    A ``*`` in a folder stands for one folder per sequence. The folders of `under` are tried in
    their order.
    """

    blurred: str
    sharp: str
    views: tuple[str, str] | None = None  # folders of the left and the right image
    under: tuple[str, ...] = ("",)

    def pairs(self, root: Path, name: str) -> list[PairFiles]:
        """List the pairs in natural order; none if the folders do not exist."""
        for below in self.under:
            blurred = _images(root / below, self.blurred)
            if not blurred:
                continue
            parts = [self.sharp, *(self.views or ())]
            others = [_images(root / below, part) for part in parts]
            for part, files in zip(parts, others, strict=True):
                if len(files) != len(blurred):
                    raise FileError(
                        f"{root / below} must hold as many images in {part} as in {self.blurred} "
                        f"(got {len(files)} and {len(blurred)}). Copy the whole data set."
                    )
            found = []
            for file, sharp, *views in zip(blurred, *others, strict=True):
                sequence = f"{file.parent.parent.name}_" if "*" in self.blurred else ""
                label = sequence + file.stem
                both = (views[0], views[1]) if views else None
                found.append(PairFiles(name, label, file, sharp, views=both))
            return found
        return []

    def __str__(self) -> str:
        return ", ".join([self.blurred, self.sharp, *(self.views or ())])


def published(root: Path, name: str, layouts: Sequence[Layout]) -> list[PairFiles]:
    """List the pairs of a published data set in the first of its layouts that `root` has."""
    for layout in layouts:
        if pairs := layout.pairs(root, name):
            return pairs
    known = "; or ".join(str(layout) for layout in layouts)
    raise FileError(f"{root} does not have the layout of {name}. It must hold the folders {known}.")


def split_dpdd(pairs: Sequence[PairFiles]) -> list[PairFiles]:
    """Mark the 76 test images of DPDD as indoor or outdoor; leave other numbers unmarked."""
    if len(pairs) != DPDD_TEST_IMAGES:
        return list(pairs)
    splits = ("indoor" if i in _DPDD_INDOOR else "outdoor" for i in range(DPDD_TEST_IMAGES))
    return [replace(pair, split=split) for pair, split in zip(pairs, splits, strict=True)]


def realblur(root: Path) -> list[PairFiles]:
    """List the pairs of RealBlur's own lists of test images; none if there is no list."""
    pairs = []
    for table in sorted(root.glob("RealBlur_?_test_list.txt")):
        for line in table.read_text(encoding="utf-8").splitlines():
            files = [root / part for part in line.split()]
            if not files:
                continue
            if len(files) != 2 or not all(file.is_file() for file in files):
                raise FileError(
                    f"{table} must name a sharp and a blurred file in each line (got {line!r}). "
                    "Put the list beside the folders that it names."
                )
            sharp, blurred = files
            name = table.name.removesuffix("_test_list.txt")
            label = f"{blurred.parent.parent.name}_{blurred.stem}"
            pairs.append(PairFiles(name, label, blurred, sharp))
    return pairs


def paired(root: Path) -> list[PairFiles]:
    """List the pairs of a CSV file, or of folders ``blurred`` and ``sharp`` with equal file names.

    The two folders lie in `root`, or in folders of `root`, and then each of these is a set. A
    third folder ``psf`` holds the point-spread functions, under the same names, if they are known.
    A CSV file has the columns ``blurred``, ``sharp`` and ``set``; its paths are relative to it. For
    stacks it may have columns of the microscope, named like the options, and the column ``planes``.
    """
    if root.suffix.lower() == ".csv":
        return _listed(root)
    below = [p for p in sorted(root.iterdir()) if p.is_dir()] if root.is_dir() else []
    sets = [root] if (root / "blurred").is_dir() else [p for p in below if _is_set(p)]
    pairs = [pair for p in sets for pair in _by_name(p, p.stem if p == root else p.name)]
    if not pairs:
        raise FileError(
            f"There are no pairs in {root}. It must be a folder with the folders blurred and "
            "sharp, a folder of such folders, or a CSV file with the columns blurred, sharp, set."
        )
    return pairs


def _is_set(folder: Path) -> bool:
    return (folder / "blurred").is_dir() and (folder / "sharp").is_dir()


def _by_name(folder: Path, name: str) -> list[PairFiles]:
    blurred, sharp, psfs = (
        {file.stem.removesuffix(".ome"): file for file in _files(folder / part)}
        for part in ("blurred", "sharp", "psf")
    )
    if lonely := sorted(blurred.keys() ^ sharp.keys()):
        raise FileError(
            f"{lonely[0]!r} has no partner in {folder} ({len(lonely)} such names). The folders "
            "blurred and sharp must hold files of equal names."
        )
    about = folder / ABOUT
    gamma = json.loads(about.read_text("utf-8")).get("gamma", 1.0) if about.is_file() else 1.0
    return [
        PairFiles(name, stem, blurred[stem], sharp[stem], psf=psfs.get(stem), gamma=float(gamma))
        for stem in sorted(blurred, key=_natural)
    ]


def _listed(table: Path) -> list[PairFiles]:
    if not table.is_file():
        raise FileError(f"{table} does not exist.")
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        missing = {"blurred", "sharp", "set"} - set(rows.fieldnames or ())
        if missing:
            raise FileError(
                f"{table} has no column {sorted(missing)[0]!r} (got {rows.fieldnames}). "
                "The first line must name the columns blurred, sharp and set."
            )
        pairs = []
        for row in rows:
            blurred, sharp = table.parent / row["blurred"], table.parent / row["sharp"]
            name = blurred.stem.removesuffix("_blurred")
            optics, planes = _optics(table, row), _planes(table, row)
            pairs.append(PairFiles(row["set"], name, blurred, sharp, optics=optics, planes=planes))
        return pairs


def _optics(table: Path, row: dict[str, str]) -> dict[str, Any]:
    """Read what a line says of the microscope; the path of a PSF is relative to the table."""
    found: dict[str, Any] = {}
    for name in OPTICS:
        text = row.get(name) or ""
        if not text:
            continue
        if name in ("immersion", "modality"):
            found[name] = text
        elif name == "psf":
            found[name] = str(table.parent / text)
        else:
            found[name] = _number(table, name, text)
    return found


def _number(table: Path, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise FileError(
            f"The column {name} of {table} holds numbers (got {text!r}). Leave it empty where the "
            "number is not known."
        ) from error


def _planes(table: Path, row: dict[str, str]) -> tuple[int, int] | None:
    text = row.get("planes") or ""
    if not text:
        return None
    first, colon, end = text.partition(":")
    if not (colon and first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise FileError(
            f"The column planes of {table} holds spans such as 8:37 (got {text!r}). Leave it empty "
            "to score all planes."
        )
    return int(first), int(end)


def _images(root: Path, folders: str) -> list[Path]:
    """List the images of a folder, or of one folder per sequence, in natural order."""
    found = [folder for folder in root.glob(folders) if folder.is_dir()] if root.is_dir() else []
    return [file for folder in sorted(found, key=_natural) for file in _files(folder)]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    images = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    return sorted(images, key=_natural)


def _natural(path: Path | str) -> list[tuple[int, int | str]]:
    """Sort key that puts 2 before 10."""
    parts: Iterable[str] = re.findall(r"\d+|\D+", str(path))
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]
