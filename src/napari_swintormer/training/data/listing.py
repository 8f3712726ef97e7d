"""Find the image files of training folders and match them by name; opens no image."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_swintormer.errors import TrainingError
from napari_swintormer.imaging.formats.registry import SUFFIXES
from napari_swintormer.training.data.pairs import ImagePair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_swintormer.settings.deblur_settings import ImageKind


def list_pairs(
    sharp: Sequence[Path],
    blurred: Path | None = None,
    annotations: Path | None = None,
    kinds: Sequence[ImageKind | Literal["auto"]] = ("auto",),
) -> tuple[list[ImagePair], list[str]]:
    """List the pairs of some folders in a fixed order.

    Partners and masks have the name of the sharp image, and any suffix. Two single images, such as
    OME-Zarr stacks, may stand for two folders and have any names. Partners are those of the first
    folder; images of other folders have none.

    Returns
    -------
    pairs, unmatched
        The pairs, and a sentence about every image that does not have exactly one partner.
    """
    pairs, unmatched = [], []
    for number, (folder, kind) in enumerate(zip(sharp, kinds, strict=True)):
        files = list_images(folder)
        partners: dict[Path, Path] = {}
        masks: dict[Path, Path] = {}
        paired = blurred is not None and number == 0
        if blurred is not None and paired:
            partners, alone = _match(files, blurred)
            unmatched += alone
        if annotations is not None:
            masks, _ = _match(files, annotations)
        pairs += [
            ImagePair(file, partners.get(file), masks.get(file), kind, str(folder))
            for file in files
            if not paired or file in partners
        ]
    return pairs, unmatched


def list_dual_pixel(
    folder: Path, annotations: Path | None = None
) -> tuple[list[ImagePair], list[str]]:
    """List the pairs of a folder with ``inputL``, ``inputR`` and ``target``, as `list_pairs`."""
    pairs, unmatched = list_pairs([folder / "target"], folder / "inputR", annotations)
    sharp = [pair.sharp for pair in pairs if isinstance(pair.sharp, Path)]
    left, alone = _match(sharp, folder / "inputL")
    complete = [
        dataclasses.replace(pair, second=left[pair.sharp]) for pair in pairs if pair.sharp in left
    ]
    return complete, unmatched + [line for line in alone if line not in unmatched]


def list_images(folder: Path) -> list[Path]:
    """List the image files of a folder by name; a single image is a list of one."""
    if _is_image(folder):
        return [folder]
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


def _match(files: Sequence[Path], folder: Path) -> tuple[dict[Path, Path], list[str]]:
    """Return the partner of every file in another folder, and sentences about missing partners."""
    advice = "Give both images of a pair the same name; the suffix may differ."
    if _is_image(folder) and len(files) == 1:  # two single images may have any names
        return {files[0]: folder}, []
    by_stem: dict[str, list[Path]] = {}
    for file in list_images(folder):
        by_stem.setdefault(_stem(file), []).append(file)
    partners, alone = {}, []
    for file in files:
        found = by_stem.pop(_stem(file), [])
        if len(found) == 1:
            partners[file] = found[0]
        else:
            problem = f"{len(found)} partners" if found else "no partner"
            alone.append(f"{file} has {problem} in {folder}. {advice}")
    for left_over in itertools.chain(*by_stem.values()):
        alone.append(f"{left_over} has no partner in {files[0].parent}. {advice}")
    return partners, alone


def _is_image(path: Path) -> bool:
    """Tell an image from a folder of images; an OME-Zarr image is a folder, too."""
    suffix = path.suffix.lower()
    return suffix in SUFFIXES if path.is_file() else path.is_dir() and suffix == ".zarr"


def _stem(file: Path) -> str:
    """Return the name without ``.tif`` or ``.ome.tif``."""
    return file.stem.removesuffix(".ome")
