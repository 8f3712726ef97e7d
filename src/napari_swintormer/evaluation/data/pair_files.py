"""The images of a data set on disk: which folders hold them, and which belong together.

Published data sets match their images by order (their two halves have different names), everything
else by name. Nothing is opened here.
"""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_swintormer.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".npy", ".zarr")
ABOUT = "benchmark.json"
"""Beside the folders of a set that `recipes/make_benchmark.py` made: how it was made."""
DPDD_TEST_IMAGES = 76
_DPDD_INDOOR = Path(__file__).with_name("dpdd_indoor.csv")


@dataclass(frozen=True)
class PairFiles:
    """A blurred image and its sharp reference, with what else is known of them.

    Attributes
    ----------
    set, name
        Of the data set, and of the image in it.
    blurred, sharp
        Files.
    split
        Part of the set that published tables show by itself: ``"indoor"``, ``"outdoor"`` or empty.
    views
        Left and right image of a dual-pixel camera, or None.
    psf
        File with the point-spread function, or None.
    gamma
        Exponent of the intensity curve that the image was blurred under; 1 where light was.
    """

    set: str
    name: str
    blurred: Path
    sharp: Path
    split: str = ""
    views: tuple[Path, Path] | None = None
    psf: Path | None = None
    gamma: float = 1.0


@dataclass(frozen=True)
class Layout:
    """Folders of a published data set, relative to its root or to one of `under`.

    Attributes
    ----------
    blurred, sharp
        Folders; a ``*`` stands for one folder per sequence.
    views
        Folders of the left and the right image, or None.
    under
        Where the folders may lie, tried one after the other.
    """

    blurred: str
    sharp: str
    views: tuple[str, str] | None = None
    under: tuple[str, ...] = ("",)

    def scenes(self, root: Path, name: str) -> list[PairFiles]:
        """List the scenes, in natural order; none if the folders are not there.

        Raises
        ------
        FileError
            The folders hold different numbers of images.
        """
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
            rows = zip(blurred, *others, strict=True)
            return [
                PairFiles(name, _label(b, self.blurred), b, sharp, views=(views[0], views[1]))
                if views
                else PairFiles(name, _label(b, self.blurred), b, sharp)
                for b, sharp, *views in rows
            ]
        return []

    def __str__(self) -> str:
        return ", ".join([self.blurred, self.sharp, *(self.views or ())])


def published(root: Path, name: str, layouts: Sequence[Layout]) -> list[PairFiles]:
    """List the scenes of a published data set in whichever of its layouts lies under `root`.

    Raises
    ------
    FileError
        None of the layouts is there, or one is not complete.
    """
    for layout in layouts:
        if scenes := layout.scenes(root, name):
            return scenes
    known = "; or ".join(str(layout) for layout in layouts)
    raise FileError(f"{root} is not laid out as {name} is. It must hold the folders {known}.")


def split_dpdd(scenes: Sequence[PairFiles]) -> list[PairFiles]:
    """Mark the test images of DPDD as indoor (37) or outdoor (39); other numbers stay unmarked."""
    if len(scenes) != DPDD_TEST_IMAGES:
        return list(scenes)
    with _DPDD_INDOOR.open(encoding="utf-8", newline="") as file:
        indoor = {int(row["index"]) for row in csv.DictReader(file)}
    return [
        replace(scene, split="indoor" if i in indoor else "outdoor")
        for i, scene in enumerate(scenes)
    ]


def realblur(root: Path, name: str) -> list[PairFiles] | None:
    """List the scenes of RealBlur's own lists of test images; None where there is no list.

    Raises
    ------
    FileError
        A line does not name a sharp and a blurred file that are there.
    """
    scenes = []
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
            label = f"{blurred.parent.parent.name}_{blurred.stem}"
            scenes.append(
                PairFiles(table.name.removesuffix("_test_list.txt"), label, blurred, sharp)
            )
    return scenes or None


def paired(root: Path, name: str) -> list[PairFiles]:
    """List pairs of a CSV file, or of folders ``blurred`` and ``sharp`` with files of equal names.

    The folders lie in `root`, or in its folders: each of these is then a set. A folder ``psf`` with
    files of the same names holds the point-spread functions, if they are known.

    Parameters
    ----------
    root
        Folder, or CSV file with the columns ``blurred`` and ``sharp``, paths relative to the
        file's folder, and ``set``.
    name
        Of the set, where `root` is one.

    Raises
    ------
    FileError
        There is nothing to compare, or an image has no partner.
    """
    if root.suffix.lower() == ".csv":
        return _listed(root)
    below = [p for p in sorted(root.iterdir()) if p.is_dir()] if root.is_dir() else []
    sets = [root] if (root / "blurred").is_dir() else [p for p in below if _is_set(p)]
    scenes = [s for p in sets for s in _by_name(p, name if p == root else p.name)]
    if not scenes:
        raise FileError(
            f"There are no pairs in {root}. It must be a folder with the folders blurred and "
            "sharp, a folder of such folders, or a CSV file with the columns blurred, sharp, set."
        )
    return scenes


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
        return [
            PairFiles(
                row["set"],
                Path(row["blurred"]).stem.removesuffix("_blurred"),
                table.parent / row["blurred"],
                table.parent / row["sharp"],
            )
            for row in rows
        ]


def _images(root: Path, folders: str) -> list[Path]:
    """Images of a folder, or of one folder per sequence, in natural order."""
    found = [folder for folder in root.glob(folders) if folder.is_dir()] if root.is_dir() else []
    return [file for folder in sorted(found, key=_natural) for file in _files(folder)]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    kept = (p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
    return sorted(kept, key=_natural)


def _natural(path: Path | str) -> list[tuple[int, int | str]]:
    """Sort key that puts 2 before 10."""
    parts: Iterable[str] = re.findall(r"\d+|\D+", str(path))
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts]


def _label(file: Path, folders: str) -> str:
    """Name of an image; with that of its sequence, where there are some."""
    return f"{file.parent.parent.name}_{file.stem}" if "*" in folders else file.stem
