"""Arrays of other libraries: taken in as arrays of NumPy or dask, and given back as they were."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import ImageError, one_line
from napari_swintormer.imaging.masked import without_mask

if TYPE_CHECKING:
    from napari_swintormer.imaging.carried import SampleMeaning
    from napari_swintormer.imaging.masked import Unmasked
    from napari_swintormer.imaging.spans import Spans

# Names of dimensions, as xarray and its friends have them.
_LETTERS = {letter: letter.upper() for letter in "tczyxs"} | {
    "time": "T",
    "channel": "C",
    "band": "C",
    "rgb": "S",
    "sample": "S",
}
_PLAIN_MODES = ("L", "LA", "I", "I;16", "I;16B", "I;16L", "F", "RGB", "RGBA")  # of Pillow


@dataclass(frozen=True)
class ArrayLike:
    """An array to work on, and how a result gets the form of what was given.

    Attributes
    ----------
    data
        Array-like with `shape`, `dtype` of NumPy, and slicing.
    axes
        One letter per dimension, where the given array names its dimensions.
    meaning
        What the numbers mean; pixels under a mask are no data.
    unmasked
        The masked array as a plain one, or None.
    """

    data: Any
    given: Any
    axes: str | None = None
    meaning: SampleMeaning | None = None
    unmasked: Unmasked | None = None

    def wrap(self, result: Any, axes: str, spans: Spans, *, deviation: bool = False) -> Any:
        """Give a result of some planes, or its deviation, the form of the given array."""
        if self.unmasked is not None and deviation:
            result = self.unmasked.mask_deviation(result, axes, spans)
        elif self.unmasked is not None:
            result = self.unmasked.mask_again(result, axes, spans)
        if _is_labelled(self.given):
            same = result.shape == self.given.shape
            return self.given.copy(data=result) if same else result
        return sys.modules["torch"].from_numpy(result) if _is_tensor(self.given) else result


def as_array_like(image: Any) -> ArrayLike:
    """Take an image of any kind in.

    Masked pixels are treated as NaN is, and keep their values. An `ImageError` says why something
    is no image.
    """
    if image is None:
        raise ImageError("There is no image (got None). Give an array of numbers.")
    if isinstance(image, (str, bytes, Path)):
        raise ImageError(f"An array is needed (got the path {image!r}). deblur_file takes files.")
    if hasattr(image, "getbands") and getattr(image, "mode", "") not in _PLAIN_MODES:
        raise ImageError(
            f"A picture of the mode {image.mode} has no plain intensities. "
            "Convert it first, with image.convert('RGB') or image.convert('L')."
        )
    if unmasked := without_mask(image):
        return ArrayLike(unmasked.image, image, meaning=unmasked.meaning, unmasked=unmasked)
    if _is_labelled(image):
        return replace(as_array_like(image.data), given=image, axes=_named_axes(image.dims))
    if hasattr(image, "__cuda_array_interface__") and not _is_tensor(image):
        raise ImageError("The array lies in the memory of a GPU. Copy it to the computer's first.")
    plain = not isinstance(image, np.ndarray) or type(image) in (np.ndarray, np.memmap)
    if plain and _has_numbers(image):
        return ArrayLike(image, image)
    try:
        return ArrayLike(np.asarray(image), image)
    except Exception as error:
        raise ImageError(
            f"{type(image).__name__} is no array of numbers ({one_line(error)}). Give an array of "
            "NumPy or dask."
        ) from error


def _has_numbers(image: Any) -> bool:
    """Say whether an array can be worked on as it is: with a data type of NumPy, and slicing."""
    if not all(hasattr(image, name) for name in ("shape", "dtype", "__getitem__")):
        return False
    try:
        np.dtype(image.dtype)
    except TypeError:
        return False
    return True


def _is_labelled(image: Any) -> bool:
    """Say whether an array names its dimensions, as xarray does."""
    return all(hasattr(image, name) for name in ("dims", "values", "data", "copy", "shape"))


def _is_tensor(image: Any) -> bool:
    return "torch" in sys.modules and isinstance(image, sys.modules["torch"].Tensor)


def _named_axes(names: Any) -> str | None:
    letters = [_LETTERS.get(str(name).lower(), "") for name in names]
    known = all(letters) and len(set(letters)) == len(letters) and {"Y", "X"} <= set(letters)
    return "".join(letters) if known else None
