"""What ImageJ tells in a TIFF: information, labels, look-up tables, ranges, overlays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.carried import Channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_swintormer.imaging.spans import Spans

IMAGEJ = "ImageJ"
"""Key of `ImageJ` in ``Carried.native``."""
# What follows from the shape of the written image.
_STRUCTURE = ("ImageJ", "images", "channels", "slices", "frames", "hyperstack", "axes")


@dataclass(frozen=True)
class ImageJ:
    """The metadata of ImageJ, by the names that tifffile gives them."""

    metadata: Mapping[str, Any]

    def cut(self, axes: str, shape: tuple[int, ...], spans: Spans) -> ImageJ:
        """Return the metadata of some planes."""
        cut, sizes = dict(self.metadata), dict(zip(axes, shape, strict=True))
        labels, n = cut.get("Labels"), [sizes.get(axis, 1) for axis in "TZC"]
        if isinstance(labels, (list, tuple)) and len(labels) == np.prod(n):
            region = tuple(slice(*spans.get(axis, (None,))) for axis in "TZC")
            cut["Labels"] = [
                str(label) for label in np.array(labels, object).reshape(n)[region].flat
            ]
        start, stop = spans.get("C", (0, sizes.get("C", 1)))
        if isinstance(cut.get("LUTs"), (list, tuple)):
            cut["LUTs"] = list(cut["LUTs"])[start:stop]
        if "Ranges" in cut:
            cut["Ranges"] = tuple(cut["Ranges"])[2 * start : 2 * stop]
        return ImageJ(cut)


def read_imagej(metadata: Mapping[str, Any]) -> tuple[ImageJ | None, tuple[Channel, ...]]:
    """Sort out what ImageJ tells beside the shape, and what of it describes channels."""
    told = {k: v for k, v in metadata.items() if k not in _STRUCTURE}
    n = int(metadata.get("channels", 1))
    luts, ranges = metadata.get("LUTs"), tuple(metadata.get("Ranges") or ())
    luts = [luts] if isinstance(luts, np.ndarray) else list(luts or ())
    if not ranges and n == 1 and {"min", "max"} <= told.keys():
        ranges = (float(told["min"]), float(told["max"]))
    channels = []
    for c in range(n):
        lut = luts[c] if c < len(luts) and luts[c].shape == (3, 256) else None
        colour = None if lut is None else tuple(int(v) for v in lut[:, -1])
        limits = ranges[2 * c : 2 * c + 2]
        channels.append(
            Channel(
                colour=colour,  # type: ignore[arg-type] # three numbers
                lut=lut,
                display_range=(limits[0], limits[1]) if len(limits) == 2 else None,
            )
        )
    known = bool(ranges) or any(channel.lut is not None for channel in channels)
    native = (
        ImageJ(told) if any(key not in ("unit", "spacing", "finterval") for key in told) else None
    )
    return native, tuple(channels) if known else ()
