"""Names of results: words that tell how one was made, and files of a folder that differ."""

from __future__ import annotations

import os
import re
from collections import Counter
from itertools import chain, count
from typing import TYPE_CHECKING
from unicodedata import normalize

from napari_swintormer.imaging.formats.registry import RESULT_SUFFIXES, SUFFIXES
from napari_swintormer.imaging.image import split_suffix
from napari_swintormer.optics.blur import as_text
from napari_swintormer.runs.stores import deviation_path
from napari_swintormer.settings.deblur_settings import MEASURED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_swintormer.runs.job import Job

_SCALES = {2: "half size", 4: "quarter size"}
_SUFFIX = ".tif"  # for an image whose own suffix tells no format; a TIFF holds most


def result_words(job: Job) -> list[str]:
    """Tell in a few words how a result is made: the model, and settings that change it much."""
    settings = job.settings
    told, samples = settings.blur, settings.samples or 1
    words = [
        job.short_name,
        settings.planes,
        _SCALES.get(settings.scale),
        None if told is None else _blur_word(as_text(told)),
        "no prior" if settings.prior == "off" else None,
        f"{samples} samples" if samples > 1 else None,
        f"{settings.strength:g}x" if settings.strength != 1 else None,
    ]
    return [word for word in words if word]


def result_title(name: str, words: Sequence[str]) -> str:
    """Name a result for people.

    Examples
    --------
    >>> result_title("leaves", ["swintormer", "1.2x"])
    'leaves · swintormer · 1.2x'
    """
    return " · ".join((name, *words))


def result_stem(name: str, words: Sequence[str]) -> str:
    """Name the file of a result, without suffix, for any file system.

    Examples
    --------
    >>> result_stem("leaves", ["swintormer", "motion:14@30", "1.2x"])
    'leaves-swintormer-motion-14-30-1.2x'
    """
    parts = (re.sub(r"[^\w.+-]+", "-", word).strip("-") for word in words)
    return "-".join((re.sub(r'[<>:"/\\|?*]', "-", name), *parts))


def _blur_word(told: str) -> str:
    """Write a blur shortly; `told` is a text that `Blur.parse` reads, or how it is measured."""
    if told in MEASURED:
        return "auto blur"
    if told.startswith(("{", "optics:", "lens:")):
        return "lens"
    return told if re.fullmatch(r"(\w+:)?[\d.@+-]+ ?(px|pixels?)?|none|unknown", told) else "PSF"


def result_file(src: Path, dst: Path) -> Path:
    """Return the file of a result: `dst`, or a file in it if `dst` is an existing folder."""
    if os.path.isdir(dst) and dst.suffix.lower() not in SUFFIXES:
        return dst / result_names([src])[0]
    return dst


def result_names(images: Sequence[Path], *, deviations: bool = False) -> list[str]:
    """Name the results of images, in the same order; no two names are equal in any file system.

    A result has the name of its image, with the suffix of a format that loses nothing. Where
    several results would share that, the suffix of the image stays in the name: ``a.jpeg.png``
    beside ``a.jpg.png``. A number keeps the rest apart. `deviations` says that every result has a
    file with its deviation beside it.
    """
    names = [image.stem + _result_suffix(image) for image in images]
    wanted = Counter(map(_key, names))
    kept = [name == image.name for name, image in zip(names, images, strict=True)]
    taken: set[str] = set()
    for number in sorted(range(len(images)), key=lambda n: not kept[n]):
        image, name = images[number], names[number]
        stem, suffix = split_suffix(image.with_name(name))
        whole = [] if kept[number] else [image.name + suffix]
        others = chain(whole, (f"{stem}-{n}{suffix}" for n in count(2)))
        free = (other for other in others if _key(other) not in wanted)
        candidates = chain([name], free) if kept[number] or wanted[_key(name)] == 1 else free
        for candidate in candidates:
            files = {_key(candidate)}
            if deviations:
                files.add(_key(deviation_path(image.with_name(candidate)).name))
            if files.isdisjoint(taken):
                taken |= files
                names[number] = candidate
                break
    return names


def _result_suffix(image: Path) -> str:
    suffix = RESULT_SUFFIXES.get(image.suffix.lower(), _SUFFIX)
    return image.suffix if suffix == image.suffix.lower() else suffix


def _key(name: str) -> str:
    """Return what is equal for names that some file system takes for one."""
    return normalize("NFC", normalize("NFC", name).casefold())
