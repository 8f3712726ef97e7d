"""Which dimension of an image is what: one letter of ``TCZYXS`` per dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import DTypeLike

AXES = "TCZYXS"

_ADVICE_BY_KIND = {
    "b": "a mask of True and False has no blur to remove; convert it to numbers first",
    "c": "take its absolute value, or its real and imaginary part, first",
}


def check_image(shape: Sequence[int], dtype: DTypeLike) -> None:
    """Refuse what is not an image of real numbers, with an `ImageError`.

    An image has two to six sizes, none of them zero. Its pixels are signed or unsigned integers, or
    floats of 16, 32 or 64 bits, in any byte order.
    """
    try:
        dtype = np.dtype(dtype)
    except TypeError as error:
        raise ImageError(
            f"An array of data type {dtype} cannot be deblurred: make it an array of NumPy first."
        ) from error
    if dtype.kind not in "uif" or dtype.itemsize > 8:
        advice = _ADVICE_BY_KIND.get(
            dtype.kind, "use integers, or floats of 16, 32 or 64 bits, instead"
        )
        raise ImageError(f"An image of data type {dtype} cannot be deblurred: {advice}.")
    if not 2 <= len(shape) <= len(AXES):
        raise ImageError(
            f"An image has 2 to {len(AXES)} dimensions, letters of {AXES} "
            f"(got {len(shape)}: shape {tuple(shape)})."
        )
    if any(np.isnan(size) for size in shape):
        raise ImageError(
            f"The size of the image is not known (got shape {tuple(shape)}); call "
            "compute_chunk_sizes() of the dask array first."
        )
    if 0 in shape:
        raise ImageError(f"The image is empty: its shape is {tuple(shape)}.")


def resolve_axes(shape: Sequence[int], dtype: DTypeLike, axes: str | None = None) -> str:
    """Check the given axes, or guess them from the shape; one upper-case letter per dimension.

    `axes` are letters of ``TCZYXS`` in any order and case, Y and X among them; S has the size 1 to
    4. The guess is ``YX``; ``YXS`` or ``ZYX``; ``ZYXS`` or ``TZYX``: a last dimension of 3 or 4 in
    an unsigned or float image counts as the samples of a colour. Five dimensions are never guessed.
    An `ImageError` says why an image cannot be deblurred, or why axes do not fit.

    >>> resolve_axes((40, 512, 512), "uint16")
    'ZYX'
    >>> resolve_axes((3, 512, 512), "uint16", "cyx")
    'CYX'
    """
    check_image(shape, dtype)
    if axes is None:
        colour = shape[-1] in (3, 4) and np.dtype(dtype).kind in "uf"
        guesses = {2: "YX", 3: "YXS" if colour else "ZYX", 4: "ZYXS" if colour else "TZYX"}
        if len(shape) in guesses:
            return guesses[len(shape)]
        example = "TCZYX" if len(shape) == 5 else AXES
        raise ImageError(
            f"The axes of an image with {len(shape)} dimensions cannot be guessed "
            f"(got shape {tuple(shape)}); give them, for example axes={example!r}."
        )
    letters = axes.upper()
    given = f"(got axes={axes!r} for shape {tuple(shape)})"
    if unknown := sorted(set(letters) - set(AXES)):
        raise ImageError(f"Axes are letters of {AXES}, {unknown[0]!r} is none of them {given}.")
    if len(set(letters)) < len(letters):
        raise ImageError(f"Every axis may be named only once {given}.")
    if len(letters) != len(shape):
        raise ImageError(f"The image needs one letter for each of its {len(shape)} axes {given}.")
    if not {"Y", "X"} <= set(letters):
        raise ImageError(f"Y and X must be among the axes {given}.")
    if "S" in letters and not 1 <= shape[letters.index("S")] <= 4:
        raise ImageError(
            f"S, the samples of a colour, has the size 1 to 4 {given}; name channels C instead."
        )
    return letters
