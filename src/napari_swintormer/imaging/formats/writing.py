"""Writing images into files: streamed beside the destination, and renamed when complete."""

from __future__ import annotations

import os
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import OutputError
from napari_swintormer.imaging.carried import NOTHING, Carried
from napari_swintormer.imaging.formats.boundary import check_name, disk_errors
from napari_swintormer.imaging.formats.ome_zarr import ZARR_SUFFIX
from napari_swintormer.imaging.formats.registry import SUFFIXES, format_of
from napari_swintormer.imaging.hidden_names import hidden_beside
from napari_swintormer.imaging.image import Image
from napari_swintormer.imaging.views import Mapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import DTypeLike, NDArray

    from napari_swintormer.imaging.formats.format import Format

_NO_CONTEXT = nullcontext()
Compression = Literal["deflate", "zstd"]


def check_output(
    dst: str | os.PathLike[str], src: str | os.PathLike[str] | None = None, overwrite: bool = False
) -> None:
    """Refuse a destination that cannot be written, with an `OutputError`, before any work begins.

    The suffix of `dst` tells the format. It must not be the input `src`, nor lie in it, and must
    not exist, unless `overwrite` allows to replace it.
    """
    dst = Path(dst)
    _format_for(dst)
    folder = dst.absolute().parent
    if not os.path.isdir(folder):  # a path that is too long does not exist either
        raise OutputError(f"The folder {folder} for {dst.name} does not exist; create it first.")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"The folder {folder} for {dst.name} may not be written to.")
    check_name(dst)
    if src is not None:
        input_path, output_path = Path(src).resolve(), dst.resolve()
        if output_path == input_path:
            raise OutputError(f"{dst} is the input itself; give the output another name.")
        if input_path in output_path.parents:
            raise OutputError(f"{dst} lies inside the input {src}; put the output beside it.")
    if dst.exists() and not overwrite:
        raise OutputError(f"{dst} exists already. Delete it, or choose another name.")
    if dst.is_dir() and dst.suffix.lower() != ZARR_SUFFIX:
        raise OutputError(f"{dst} is a folder; choose another name for the file.")


def check_fits(
    dst: str | os.PathLike[str], axes: str, shape: Sequence[int], dtype: DTypeLike
) -> None:
    """Refuse a format that cannot hold an image, with an `OutputError`, before any work begins."""
    dst, dtype = Path(dst), np.dtype(dtype)
    if problem := _format_for(dst).limit(dst, axes, shape, dtype):
        raise OutputError(
            f"The format of {dst.name} {problem} (got an image {axes} of {dtype.name}); "
            "use .tif or .ome.zarr instead."
        )


def write_image(
    path: str | os.PathLike[str],
    data: Any,
    axes: str,
    pixel_size: Mapping[str, float] | None = None,
    unit: Mapping[str, str] | None = None,
    *,
    carried: Carried = NOTHING,
    compression: Compression | None = None,
    overwrite: bool = False,
    placing: AbstractContextManager[object] = _NO_CONTEXT,
) -> None:
    """Write an image into one file; an `OutputError` says why it cannot, and leaves no file.

    TIFF and NPY are streamed: a band of rows is in memory, never the image. TIFF and pictures want
    Y, X and S last: other orders are written transposed. ``.ome.tif`` tells axes and pixel sizes as
    OME-XML, ``.tif`` as ImageJ does, or as OME-XML where ImageJ cannot read the image. Planes of
    more than 64 MiB are tiled and get a pyramid in SubIFDs. PNG, JPEG and NPY tell no pixel sizes.
    A ``.tif`` of int64, uint64 or float16 tells none either, and its stacks get no pyramid.

    Parameters
    ----------
    path
        File whose suffix is the format: .tif, .tiff, .ome.tif, .ome.tiff, .npy, .png, .jpg, .jpeg,
        .webp.
    data, axes
        Array-like with `shape`, `dtype` and slicing; one letter of ``TCZYXS`` per dimension.
    pixel_size, unit
        Size of a step along an axis, and the name of its unit; both may lack axes.
    carried
        What else the file should tell; each format writes what it can hold.
    compression
        Lossless compression of a TIFF.
    overwrite
        Whether an existing file may be replaced.
    placing
        Held while the complete file gets its name.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    check_fits(path, axes, data.shape, data.dtype)
    form = _format_for(path)
    image = Image(data, axes, path, dict(pixel_size or {}), dict(unit or {}), carried=carried)
    if not form.holds_white_is_zero:
        image = black_is_zero(image)
    if form.shows_all_bits:
        image = _stretched(image)
    partial = writing_file(path)
    with disk_errors(path):
        try:
            form.write(partial, image, compression)
            sync_file(partial)
            with placing:
                partial.replace(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def writing_file(path: Path) -> Path:
    """Name the file that `write_image` fills; it is gone when the complete file has its name."""
    return hidden_beside(path, "writing")


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk, where a loss of power keeps it."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def black_is_zero(image: Image) -> Image:
    """View an image in which 0 is white with inverted integers, so that 0 is black."""
    dtype, carried = np.dtype(image.data.dtype), image.carried
    if not carried.white_is_zero or dtype.kind == "f":
        return image
    ends = np.iinfo(dtype)
    top = ends.max if carried.bits_per_sample is None else 2**carried.bits_per_sample - 1
    whole = dtype.type(top + ends.min)

    def invert(pixels: NDArray[Any]) -> NDArray[Any]:
        inverted: NDArray[Any] = np.subtract(whole, pixels, dtype=dtype)
        return inverted

    return replace(
        image,
        data=Mapped(image.data, invert),
        levels=tuple(Mapped(level, invert) for level in image.levels),
        carried=carried.without("white_is_zero"),
    )


def _stretched(image: Image) -> Image:
    """View an image of fewer bits than its data type with all bits in use."""
    dtype, bits = np.dtype(image.data.dtype), image.carried.bits_per_sample
    if bits is None or dtype.kind != "u":
        return image
    factor = np.iinfo(dtype).max / (2**bits - 1)

    def stretch(pixels: NDArray[Any]) -> NDArray[Any]:
        stretched: NDArray[Any] = np.rint(pixels * factor).astype(dtype)
        return stretched

    carried = image.carried.without("bits_per_sample")
    return replace(image, data=Mapped(image.data, stretch), carried=carried)


def _format_for(path: Path) -> Format:
    form = format_of(path)
    if form is None:
        *suffixes, last = SUFFIXES
        raise OutputError(
            f"{path} has no suffix of a format to write; name it {', '.join(suffixes)} or {last}."
        )
    return form
