"""Spans of planes: how the user writes them, and the part of the image that they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.views import Part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Spans = dict[str, tuple[int, int]]
"""First index and the one after the last along T, C or Z; axes without a span are whole."""


def parse_planes(text: str, axes: str, shape: Sequence[int]) -> Spans:
    """Read the user's choice of planes: indices, or ranges as Python writes them, along T, C or Z.

    >>> parse_planes("T=1, Z=2:", "TZYX", (3, 10, 64, 64))
    {'T': (1, 2), 'Z': (2, 10)}
    """
    sizes = dict(zip(axes, shape, strict=True))
    spans: Spans = {}
    for part in text.split(","):
        found = re.fullmatch(r"\s*([TCZtcz])\s*=\s*(?:(\d+)|(\d*):(\d*))\s*", part)
        if found is None:
            raise ImageError(
                f"planes must name planes along T, C or Z (got planes={text!r}). "
                "Write planes='Z=2:5' for the planes 2, 3 and 4 along Z, 'T=0' for one."
            )
        letter, one, first, stop = found.groups()
        axis = letter.upper()
        if axis not in sizes:
            along = ", ".join(a for a in axes if a in "TCZ")
            advice = f"Choose planes along {along}" if along else "Leave planes out"
            raise ImageError(
                f"The image has no axis {axis}: its axes are {axes} (got planes={text!r}). "
                f"{advice}, or tell the axes of the file with axes."
            )
        length = sizes[axis]
        if one is not None:
            span = int(one), int(one) + 1
        else:
            span = int(first or 0), int(stop or length)
        if not 0 <= span[0] < span[1] <= length or axis in spans:
            problem = "are named twice" if axis in spans else "do not exist"
            raise ImageError(
                f"The planes {part.strip()} {problem} (the planes along {axis} are 0 to "
                f"{length - 1}; got planes={text!r}). Choose others."
            )
        spans[axis] = span
    return spans


def format_planes(spans: Mapping[str, tuple[int, int]]) -> str | None:
    """Write spans as `parse_planes` reads them; None for no spans.

    >>> format_planes({"Z": (2, 5), "T": (1, 2)})
    'Z=2:5, T=1:2'
    """
    return ", ".join(f"{axis}={start}:{stop}" for axis, (start, stop) in spans.items()) or None


def cut_planes(data: Any, axes: str, spans: Mapping[str, tuple[int, int]]) -> Any:
    """View the planes of some spans as an image; nothing is read."""
    region = tuple(slice(*spans[axis]) if axis in spans else slice(None) for axis in axes)
    if isinstance(data, np.ndarray) or hasattr(data, "dask"):
        return data[region]
    starts = tuple(spans[axis][0] if axis in spans else 0 for axis in axes)
    sizes = zip(axes, data.shape, strict=True)
    shape = tuple(spans[a][1] - spans[a][0] if a in spans else int(n) for a, n in sizes)
    return Part(data, starts, shape)
