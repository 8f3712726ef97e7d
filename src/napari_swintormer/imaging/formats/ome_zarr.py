"""Zarr arrays and OME-Zarr images: reading them, and the metadata of writing them."""

from __future__ import annotations

import zlib
from dataclasses import replace
from itertools import count, takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_swintormer.errors import FileError, ImageError, OutputError, SwintormerError
from napari_swintormer.imaging.axes import AXES, resolve_axes
from napari_swintormer.imaging.carried import NOTHING
from napari_swintormer.imaging.formats.format import Format
from napari_swintormer.imaging.formats.zarr_carried import (
    ZARR,
    omero_of,
    read_carried,
    translation_of,
)
from napari_swintormer.imaging.formats.zarr_store import zarr_store
from napari_swintormer.imaging.image import Image, unit_name, unreadable
from napari_swintormer.imaging.views import LazyArray, Ordered
from napari_swintormer.imaging.web_path import WebPath

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.imaging.carried import Carried

ZARR_SUFFIX = ".zarr"
# The attribute for what OME-Zarr has no word for: the axes of the image that was deblurred.
OWN_ATTRIBUTE = "swintormer"


class OmeZarr(Format):
    """OME-Zarr images of version 0.4 or 0.5, and plain Zarr arrays; written by `ResultStore`."""

    name = "OME-Zarr"
    suffixes = (ZARR_SUFFIX,)
    holds = frozenset(("name", "channels", ZARR))

    def detect(self, path: Path, start: bytes) -> bool:
        """Take every folder for Zarr."""
        return path.is_dir()

    def open(self, path: Path, axes: str | None, image: int | None = None) -> Image:
        """Open a Zarr array, or level 0 of an OME-Zarr image."""
        import zarr
        import zarr.errors

        try:
            node = zarr.open(zarr_store(path), mode="r")
        except (zarr.errors.BaseZarrError, FileNotFoundError, KeyError, ValueError) as error:
            what = "an address" if isinstance(path, WebPath) else "a folder"
            raise FileError(f"{path} is {what} without a Zarr array or OME-Zarr image.") from error
        if isinstance(node, zarr.Array):
            axes = resolve_axes(node.shape, node.dtype, axes or _named_axes(node))
            return Image(_ZarrPixels(node, path), axes, path)
        try:
            return _open_multiscale(path, node, axes, image)
        except SwintormerError:
            raise
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise FileError(
                f"{path} is a Zarr group, but no OME-Zarr image of version 0.4 or 0.5."
            ) from error

    def write(self, file: Path, image: Image, compression: str | None) -> None:
        """Refuse: a store fills an OME-Zarr image chunk by chunk."""
        raise OutputError(f"{image.path} is written by a ResultStore, not as one file.")


class _ZarrPixels(LazyArray):
    """A zarr array whose damaged or vanished chunks raise one sentence."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, array: Any, path: Path) -> None:
        self._array, self._path = array, path
        self.shape, self.dtype = array.shape, array.dtype
        self.chunks: tuple[int, ...] = array.chunks

    def __getitem__(self, index: Any) -> NDArray[Any]:
        on_web = isinstance(self._path, WebPath)
        try:
            pixels = np.asarray(self._array[index])
        except Exception as error:
            damaged = isinstance(error, (RuntimeError, ValueError, EOFError, zlib.error))  # codecs
            if (on_web and not damaged) or (isinstance(error, OSError) and error.errno is not None):
                raise unreadable(self._path, getattr(error, "strerror", None) or error) from error
            if not damaged and not isinstance(error, OSError):
                raise
            raise FileError(
                f"{self._path} has a damaged chunk ({error}); copy the image again from where it "
                "came from."
            ) from error
        if not on_web and not self._path.exists():  # a vanished disk gives empty chunks
            raise unreadable(self._path, "it is gone")
        return pixels


def _open_multiscale(path: Path, node: Any, axes: str | None, image: int | None) -> Image:
    images = _list_images(node)
    number = 1 if image is None else image
    if not 1 <= number <= len(images):
        raise ImageError(f"{path} has no image {image}; its images are 1 to {len(images)}.")
    inner, group, index = images[number - 1]
    attributes: dict[str, Any] = dict(group.attrs)
    multiscale = attributes.get("ome", attributes)["multiscales"][index]
    dataset = multiscale["datasets"][0]
    levels: list[Any] = [
        _ZarrPixels(group[level["path"]], path) for level in multiscale["datasets"]
    ]
    # The earliest versions have no axes: they always are these.
    described = multiscale.get("axes", list("tczyx"))
    described = [axis if isinstance(axis, dict) else {"name": axis} for axis in described]
    letters = "".join(str(axis["name"]).upper() for axis in described)
    pixel_size: dict[str, float] = {}
    unit: dict[str, str] = {}
    for letter, axis, size in zip(letters, described, _scale(multiscale, dataset), strict=True):
        name = unit_name(str(axis.get("unit", "")))
        if letter in "TZYX" and (name or size != 1):  # else 1 stands for an unknown size
            pixel_size[letter] = size
            if name:
                unit[letter] = name
    if own := attributes.get(OWN_ATTRIBUTE):
        letters = str(own["axes"])
        levels = [Ordered(level, disk_order(letters), letters) for level in levels]
    data, *coarser = levels
    axes = resolve_axes(data.shape, data.dtype, axes or letters)
    pixel_size = {a: pixel_size[a] for a in axes if a in pixel_size}
    unit = {a: unit[a] for a in pixel_size if a in unit}
    folder = path / inner if inner else path
    about = attributes.get("ome", attributes)
    carried = read_carried(path, folder, about, multiscale, labels="labels" in group)
    read = Image(data, axes, path, pixel_size, unit, levels=tuple(coarser), carried=carried)
    if len(images) > 1:
        names = [found.name for found in images]
        read = replace(read, images=tuple(names), number=number)
    return read


class _Listed(NamedTuple):
    """An image of a container: its name, its zarr group, and its number in it."""

    name: str
    group: Any
    multiscale: int


def _list_images(node: Any) -> list[_Listed]:
    """List the images of a group: one, a collection of Bio-Formats, or the fields of a plate."""
    from zarr.storage import LocalStore

    described: dict[str, Any] = dict(node.attrs.get("ome", node.attrs))
    if "plate" in described:
        paths = []
        for well in described["plate"]["wells"]:
            attributes = node[well["path"]].attrs
            fields = attributes.get("ome", attributes)["well"]["images"]
            paths += [f"{well['path']}/{field['path']}" for field in fields]
        return [_Listed(path, node[path], 0) for path in paths]
    if "bioformats2raw.layout" in described:
        if isinstance(node.store, LocalStore):
            numbers = sorted(int(name) for name, _ in node.groups() if name.isdecimal())
        else:  # the web lists nothing
            numbers = list(takewhile(lambda number: str(number) in node, count()))
        return [_Listed(str(number), node[str(number)], 0) for number in numbers]
    n_images = len(described["multiscales"])
    return [_Listed("", node, index) for index in range(n_images)]


def _named_axes(array: Any) -> str | None:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not names or any(name is None or str(name).upper() not in AXES for name in names):
        return None
    return "".join(names).upper()


def _scale(multiscale: dict[str, Any], dataset: dict[str, Any]) -> list[float]:
    """Scale of a level, times the scale of the whole image."""
    steps = [
        *multiscale.get("coordinateTransformations", ()),
        *dataset["coordinateTransformations"],
    ]
    scales = [np.array(step["scale"], float) for step in steps if step["type"] == "scale"]
    return [float(size) for size in np.prod(scales, axis=0)]


def disk_order(axes: str) -> str:
    """Order axes as OME-Zarr wants them: time, channel, space; colour samples S are channels."""
    return "".join(a for a in "TCSZYX" if a in axes)


def axis_names(axes: str) -> list[str]:
    """Name axes as OME-Zarr does: colour samples are the channels of a colour image."""
    return ["c" if a == "S" and "C" not in axes else a.lower() for a in axes]


def describe(
    name: str,
    axes: str,
    pixel_size: Mapping[str, float],
    unit: Mapping[str, str],
    levels: Sequence[Sequence[int]],
    carried: Carried = NOTHING,
    n_channels: int = 0,
) -> dict[str, Any]:
    """Make the attribute ``ome`` of an OME-Zarr image of version 0.5.

    `axes` are in `disk_order`; `levels` tells how many pixels of level 0 one pixel of each level
    covers, per axis. A pixel size of 1 without a unit stands for an unknown size. Names, colours
    and the position of the image come from what is `carried`, if they fit `n_channels`.
    """
    described: list[dict[str, str]] = []
    for axis, letter in zip(axis_names(axes), axes, strict=True):
        kind = {"T": "time", "C": "channel", "S": "channel"}.get(letter, "space")
        described.append({"name": axis, "type": kind})
        if letter in unit:
            described[-1]["unit"] = unit[letter]
    size = [pixel_size.get(letter, 1.0) for letter in axes]
    start = translation_of(carried, axes, pixel_size) or [0.0] * len(axes)
    datasets = []
    for level, factors in enumerate(levels):
        scale = [s * f for s, f in zip(size, factors, strict=True)]
        # The centre of the first pixel lies between the centres of the pixels that it covers.
        offset = [t + s * (f - 1) / 2 for t, s, f in zip(start, size, factors, strict=True)]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if any(offset):
            steps.append({"type": "translation", "translation": offset})
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    name = carried.name or name
    multiscale = {"name": name, "type": "mean", "axes": described, "datasets": datasets}
    omero = omero_of(carried, n_channels)
    return {"version": "0.5", "multiscales": [multiscale]} | ({"omero": omero} if omero else {})
