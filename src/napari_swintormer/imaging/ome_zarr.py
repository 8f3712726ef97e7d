"""Zarr arrays and OME-Zarr images: their metadata, read and written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.axes import AXES, resolve_axes
from napari_swintormer.imaging.image import Image, unit_name
from napari_swintormer.imaging.ordered import Ordered

if TYPE_CHECKING:
    from pathlib import Path


# The attribute that keeps what OME-Zarr has no word for: the axes of the image it was made from.
OWN_ATTRIBUTE = "swintormer"


def open_zarr(path: Path, axes: str | None = None) -> Image:
    """Open a Zarr array, or level 0 of an OME-Zarr image of version 0.4 or 0.5."""
    import zarr
    import zarr.errors

    try:
        node = zarr.open(path, mode="r")
    except (zarr.errors.BaseZarrError, FileNotFoundError, KeyError, ValueError) as error:
        raise FileError(f"{path} is a folder without a Zarr array or OME-Zarr image.") from error
    if isinstance(node, zarr.Array):
        return Image(node, resolve_axes(node.shape, node.dtype, axes or _named_axes(node)), path)
    attributes: dict[str, Any] = dict(node.attrs)
    described = attributes.get("ome", attributes)
    try:
        multiscale = described["multiscales"][0]
        dataset = multiscale["datasets"][0]
        data: Any = node[dataset["path"]]
        letters, names = _described_axes(multiscale, data.ndim)
        scale = _scale(multiscale, dataset, data.ndim)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise FileError(
            f"{path} is a Zarr group, but no OME-Zarr image of version 0.4 or 0.5."
        ) from error
    sizes = dict(zip(letters, scale, strict=True)) if names else {}
    known = {a: size for a, size in sizes.items() if a in "TZYX"}
    unit = {a: name for a in known if (name := unit_name(names[a]))}
    own = attributes.get(OWN_ATTRIBUTE, {}).get("axes")
    if own is not None:
        data = Ordered(data, disk_order(own), own)
        letters = own
    axes = resolve_axes(data.shape, data.dtype, axes or letters)
    return Image(data, axes, path, {a: known[a] for a in axes if a in known}, unit)


def _named_axes(array: Any) -> str | None:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not names or any(name is None or str(name).upper() not in AXES for name in names):
        return None
    return "".join(names).upper()


def _described_axes(multiscale: dict[str, Any], ndim: int) -> tuple[str, dict[str, str]]:
    """Letters of the axes, and the names of their units; the earliest versions had TCZYX only."""
    described = multiscale.get("axes", list("tczyx")[-ndim:])
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in described]
    letters = "".join(str(axis["name"]).upper() for axis in axes)
    return letters, {str(a["name"]).upper(): str(a.get("unit", "")) for a in axes}


def _scale(multiscale: dict[str, Any], dataset: dict[str, Any], ndim: int) -> list[float]:
    scale = np.ones(ndim)
    for level in (multiscale, dataset):
        for transformation in level.get("coordinateTransformations", []):
            if transformation.get("type") == "scale":
                scale *= np.array(transformation["scale"], float)
    return [float(size) for size in scale]


def disk_order(axes: str) -> str:
    """Order the axes of an image as OME-Zarr wants them: time, channel, space.

    Colour samples S count as channels there.
    """
    return "".join(a for a in "TCSZYX" if a in axes)
