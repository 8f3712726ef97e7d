"""Masked arrays: pixels under the mask are no measurement, as NaN is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.carried import SampleMeaning
from napari_swintormer.imaging.spans import cut_planes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.imaging.spans import Spans


@dataclass(frozen=True, eq=False)
class Unmasked:
    """A masked image as a plain one: pixels under the mask have a value that no other has."""

    image: Any
    meaning: SampleMeaning
    masked: Any  # the image before

    def mask_again(self, result: Any, axes: str, spans: Spans) -> Any:
        """Put the mask, and the pixels under it, into a result of some planes."""
        if hasattr(self.masked, "dask"):
            import dask.array as da

            mask, pixels = da.ma.getmaskarray(self.masked), da.ma.getdata(self.masked)
            mask, pixels = (cut_planes(array, axes, spans) for array in (mask, pixels))
            return da.ma.masked_array(da.where(mask, pixels, result), mask)
        masked = cut_planes(self.masked, axes, spans).copy()  # with its fill value
        known = ~np.ma.getmaskarray(masked)
        np.copyto(np.ma.getdata(masked), result, where=known, casting="unsafe")
        return masked

    def mask_deviation(self, deviation: Any, axes: str, spans: Spans) -> Any:
        """Put the mask into the deviation of the samples of some planes."""
        if hasattr(self.masked, "dask"):
            import dask.array as da

            mask = cut_planes(da.ma.getmaskarray(self.masked), axes, spans)
            return da.ma.masked_array(deviation, mask)
        mask = cut_planes(np.ma.getmaskarray(self.masked), axes, spans)
        return np.ma.MaskedArray(deviation, mask.copy())


def without_mask(image: Any) -> Unmasked | None:
    """Fill the pixels under a mask; None for an image that has no mask."""
    if not isinstance(getattr(image, "_meta", image), np.ma.MaskedArray):
        return None
    if hasattr(image, "dask"):
        return _fill_dask(image)
    pixels, mask = np.ma.getdata(image), np.ma.getmaskarray(image)
    if pixels.dtype.kind not in "uif":  # it is refused later
        return None
    if pixels.dtype.kind == "f":
        return Unmasked(np.where(mask, pixels.dtype.type(np.nan), pixels), SampleMeaning(), image)
    value, bits = _unused_value(pixels[~mask]), None
    if value is None:  # one more value than the data type has
        bits = 8 * pixels.dtype.itemsize
        pixels = pixels.astype(f"u{2 * pixels.dtype.itemsize}")
        value = np.iinfo(pixels.dtype).max
    filled = np.where(mask, pixels.dtype.type(value), pixels)
    return Unmasked(filled, SampleMeaning(no_data=float(value), bits=bits), image)


def _fill_dask(image: Any) -> Unmasked:
    import dask.array as da

    if image.dtype.kind != "f":
        raise ImageError(
            f"A masked dask array must hold floats (got {image.dtype.name}). Convert it with "
            "astype('float32'), or compute it first."
        )
    hidden = da.ma.getmaskarray(image)
    filled = da.where(hidden, image.dtype.type(np.nan), da.ma.getdata(image))
    return Unmasked(filled, SampleMeaning(), image)


def _unused_value(pixels: NDArray[Any]) -> int | None:
    """Find an integer that no pixel has; None for unsigned integers that use all of them.

    The value is one that a float holds exactly.
    """
    ends, there = np.iinfo(pixels.dtype), np.unique(pixels)  # sorted
    gaps = np.flatnonzero(there[1:] != there[:-1] + 1)[:1]
    for value in (ends.max, ends.min, *(int(there[gap]) + 1 for gap in gaps)):
        if int(float(value)) == value and value not in there:
            return int(value)
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize <= 2:
        return None
    raise ImageError(
        f"The masked array uses every value of {pixels.dtype.name}. Convert it to a larger data "
        "type, so that one value is left for the pixels under the mask."
    )
