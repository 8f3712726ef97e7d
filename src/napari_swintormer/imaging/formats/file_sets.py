"""Images that lie in several files: which files of a folder are one image."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from napari_swintormer.imaging.formats.ome_xml import files_of, read_description
from napari_swintormer.imaging.formats.tiff_writing import is_ome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def whole_images(paths: Sequence[Path]) -> dict[Path, int | None]:
    """Choose one file for every image, in order; its value is the number of the image in it.

    An OME-TIFF may name other files with more planes of its images. Each image is then opened from
    its first file alone. None stands for the only image, or for the largest.
    """
    inside = {path.name: path for path in paths}
    chosen: dict[Path, int | None] = {}
    seen: set[Path] = set()  # belong to an image that is listed already
    for path in paths:
        if path in seen:
            continue
        images = _images_of(path) if is_ome(path) else []
        together = set().union(*images) if images else set[str]()
        if len(together & inside.keys()) < 2:
            chosen[path] = None
            continue
        for number, names in enumerate(images, start=1):
            files = sorted(inside[name] for name in names if name in inside)
            if files:
                chosen.setdefault(files[0], number if len(images) > 1 else None)
                seen.update(files)
        if path not in seen:
            chosen[path] = None
    return chosen


def _images_of(path: Path) -> list[set[str]]:
    """Name the files of every image; nothing for a file that cannot be read: a run says why."""
    with suppress(Exception):
        return files_of(read_description(path) or "")
    return []
