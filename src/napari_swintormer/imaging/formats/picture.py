"""What PNG, JPEG, WebP and the like share: one picture, decoded and encoded as a whole."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from napari_swintormer.errors import FileError, ImageError, SwintormerError, one_line
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.carried import Carried
from napari_swintormer.imaging.formats import exif as exif_block
from napari_swintormer.imaging.formats.format import Format
from napari_swintormer.imaging.image import Image
from napari_swintormer.imaging.views import Ordered, upright

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Decoded:
    """A picture of a file, as it is stored: its orientation is not applied yet."""

    pixels: NDArray[Any]  # (Y, X) or (Y, X, S)
    carried: Carried
    n_images: int = 1  # pictures in the file, or frames of an animation


class PictureReader(Format):
    """A format that is read as a whole picture."""

    holds_floats = False
    result_suffix: ClassVar[str | None] = ".png"

    @abstractmethod
    def decode(self, path: Path, number: int) -> Decoded:
        """Decode a picture of a file, from 1, with the metadata that `read_info` gives."""

    def open(self, path: Path, axes: str | None, image: int | None = None) -> Image:
        """Decode a picture, and turn it upright as EXIF or XMP say."""
        number = 1 if image is None else image
        with damage_told(path, self.name):
            decoded = self.decode(path, number)
            pixels, carried = decoded.pixels, decoded.carried
            known = "YX" if pixels.ndim == 2 else "YXS"
            if known == "YXS" and pixels.shape[2] in (2, 4):
                carried = replace(carried, extra_samples=("unassociated",))
            pixels, carried = _turn_upright(pixels, known, carried)
        axes = resolve_axes(pixels.shape, pixels.dtype, axes or known)
        opened = Image(pixels, axes, path, carried=carried)
        if decoded.n_images > 1:
            names = tuple(f"frame {n}" for n in range(1, decoded.n_images + 1))
            opened = replace(opened, images=names, number=number)
        return opened

    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Do nothing: results of such a picture have another format."""
        raise NotImplementedError(f"{self.name} is not written")


class PictureFormat(PictureReader):
    """A format of one picture of some data types, with or without transparency."""

    result_suffix: ClassVar[str | None] = None
    shows_all_bits = True
    dtypes: ClassVar[tuple[str, ...]]
    holds_alpha: ClassVar[bool] = True
    largest_side: ClassVar[int] = 2**31 - 1  # in pixels

    @abstractmethod
    def encode(self, pixels: NDArray[Any], carried: Carried) -> bytes:
        """Encode ``(Y, X)`` or ``(Y, X, S)`` pixels of native byte order."""

    def limit(self, path: Path, axes: str, shape: Sequence[int], dtype: np.dtype) -> str | None:
        """Refuse stacks, other data types, and transparency where there is none."""
        sizes = dict(zip(axes, shape, strict=True))
        stack = [a for a, n in sizes.items() if a in "TCZ" and n > 1]
        if stack:
            return f"holds one picture, not a stack along {', '.join(stack)}"
        if dtype.name not in self.dtypes:
            return f"holds {' or '.join(self.dtypes)}, not {dtype.name}"
        if not self.holds_alpha and sizes.get("S") in (2, 4):
            return "has no transparency"
        if max(sizes["Y"], sizes["X"]) > self.largest_side:
            return f"holds at most {self.largest_side} pixels along a side"
        return None

    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Encode the picture; leading axes of size 1 are left out."""
        order = "".join(a for a in "TCZYXS" if a in image.axes)
        data = Ordered(image.data, image.axes, order)
        pixels = np.ascontiguousarray(data[(0,) * order.index("Y")])
        pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            pixels = pixels[..., 0]
        elif image.carried.meaning.premultiplied and pixels.ndim == 3:
            pixels = _divided_by_alpha(pixels)
        file.write_bytes(self.encode(pixels, image.carried))


def read_info(info: Mapping[Any, Any], description: str = "") -> Carried:
    """Make `Carried` of what Pillow found in a picture."""
    block, xmp = info.get("exif") or b"", info.get("xmp") or b""
    block = exif_block.plain(block)
    found = exif_block.resolution_of(block)
    return Carried(
        icc_profile=info.get("icc_profile") or b"",
        exif=block,
        xmp=xmp.encode() if isinstance(xmp, str) else bytes(xmp).rstrip(b"\0"),
        description=description or exif_block.description_of(block),
        **found,
    )


def choose_frame(path: Path, picture: Any, number: int) -> int:
    """Go to a frame of a picture of Pillow, from 1, and return the number of frames."""
    n_frames = int(getattr(picture, "n_frames", 1))
    check_number(path, number, n_frames)
    if number > 1:
        picture.seek(number - 1)
    return n_frames


def check_number(path: Path, number: int, n_images: int) -> None:
    """Refuse the number of an image that a file does not have."""
    if not 1 <= number <= n_images:
        held = f"its images are 1 to {n_images}" if n_images > 1 else "it holds one image"
        raise ImageError(f"{path} has no image {number}; {held}.")


def check_memory(path: Path, nbytes: int) -> None:
    """Refuse a picture that does not fit in memory, where it is decoded as a whole."""
    import psutil

    available = psutil.virtual_memory().available
    if nbytes > available // 2:
        raise FileError(
            f"{path} would take {nbytes / 1e9:.1f} GB of memory to decode, and "
            f"{available / 1e9:.1f} GB are free; convert it to a tiled TIFF or OME-Zarr first."
        )


@contextmanager
def damage_told(path: Path, name: str) -> Iterator[None]:
    """Turn what a decoder raises into a `FileError`."""
    from PIL.Image import DecompressionBombError

    try:
        yield
    except (SwintormerError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except DecompressionBombError as error:
        raise FileError(
            f"{path} has more pixels than the reader of {name} takes; convert it to PNG or TIFF "
            "first."
        ) from error
    except Exception as error:  # decoders raise anything
        said = one_line(error)
        if "cannot handle" in said or "nsupported" in said:
            raise FileError(
                f"{path} is a {name} of a form that cannot be read ({said})."
            ) from error
        raise FileError(f"{path} is a damaged or truncated {name} file ({said}).") from error


def _turn_upright(
    pixels: NDArray[Any], axes: str, carried: Carried
) -> tuple[NDArray[Any], Carried]:
    orientation = exif_block.orientation_of(carried.exif, carried.xmp)
    if orientation == 1:
        return pixels, carried
    block, xmp = exif_block.reset_orientation(carried.exif, carried.xmp)
    resolution = carried.resolution
    if orientation >= 5 and resolution is not None:
        resolution = resolution[::-1]
    turned = np.ascontiguousarray(upright(pixels, axes, orientation)[...])
    return turned, replace(carried, exif=block, xmp=xmp, resolution=resolution)


def _divided_by_alpha(pixels: NDArray[Any]) -> NDArray[Any]:
    """Undo the multiplication of colours by alpha; colours without alpha stay 0."""
    top = np.iinfo(pixels.dtype).max
    alpha = pixels[..., -1:].astype(np.float64)
    colours = np.rint(pixels[..., :-1] * (top / np.where(alpha > 0, alpha, top)))
    plain = np.minimum(colours, top).astype(pixels.dtype)
    return np.concatenate([plain, pixels[..., -1:]], axis=-1)
