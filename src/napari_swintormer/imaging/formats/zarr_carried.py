"""What an OME-Zarr image carries beside its pixels: rendering, position, labels."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.carried import Carried, Channel
from napari_swintormer.imaging.formats.zarr_store import zarr_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from napari_swintormer.imaging.spans import Spans

ZARR = "OME-Zarr"
"""Key of `ZarrData` in ``Carried.native``."""
_DEFAULT_NAMES = ("", "/", "image", "0")


@dataclass(frozen=True)
class ZarrData:
    """What only OME-Zarr understands."""

    omero: Mapping[str, Any] = field(default_factory=dict)
    translation: Mapping[str, float] = field(default_factory=dict)  # of the first pixel, by axis
    labels: Path | None = None  # folder of the label images
    spans: Spans = field(default_factory=dict)  # the planes that are left

    def cut(self, axes: str, shape: tuple[int, ...], spans: Spans) -> ZarrData:
        """Return what is told about some planes."""
        omero = dict(self.omero)
        start, stop = spans.get("C", (None, None))
        if "channels" in omero:
            omero["channels"] = list(omero["channels"])[start:stop]
        omero.pop("rdefs", None)  # the plane that is shown first
        return replace(self, omero=omero, spans=spans)


def read_carried(
    path: Path,
    folder: Path,
    described: Mapping[str, Any],
    multiscale: Mapping[str, Any],
    *,
    labels: bool,
) -> Carried:
    """Gather what the metadata of a multiscale image in `folder` tell."""
    omero = dict(described.get("omero") or {})
    channels = tuple(_channel(channel) for channel in omero.get("channels") or ())
    name = str(multiscale.get("name") or omero.get("name") or "")
    letters = [
        str(axis["name"] if isinstance(axis, dict) else axis).upper()
        for axis in multiscale.get("axes", list("tczyx"))
    ]
    native = ZarrData(
        omero,
        {a: t for a, t in zip(letters, _translation(multiscale), strict=False) if t},
        folder / "labels" if labels else None,
    )
    told = native != ZarrData()
    known = name not in (*_DEFAULT_NAMES, path.name.split(".")[0], folder.name)
    return Carried(
        name=name if known else "",
        channels=channels if any(channel != Channel() for channel in channels) else (),
        native={ZARR: native} if told else {},
    )


def _channel(channel: Mapping[str, Any]) -> Channel:
    window, colour = channel.get("window") or {}, str(channel.get("color") or "").lstrip("#")
    known = {"start", "end"} <= window.keys()
    rgb = bytes.fromhex(colour) if len(colour) == 6 else None
    return Channel(
        name=str(channel.get("label") or ""),
        colour=None if rgb is None else (rgb[0], rgb[1], rgb[2]),
        display_range=(float(window["start"]), float(window["end"])) if known else None,
    )


def _translation(multiscale: Mapping[str, Any]) -> list[float]:
    """Position of the first pixel of level 0, after all transformations."""
    steps = [
        *multiscale["datasets"][0].get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ]
    position = np.zeros(0)
    for step in steps:
        numbers = np.array(step.get(step["type"], ()), float)
        if not numbers.size:
            continue
        position = position if position.size else np.zeros(numbers.size)
        position = position * numbers if step["type"] == "scale" else position + numbers
    return [float(n) for n in position]


def omero_of(carried: Carried, n_channels: int) -> dict[str, Any]:
    """Describe how an image of so many channels is shown; empty where nothing is known."""
    native = carried.native.get(ZARR)
    if native is not None and native.omero:
        return dict(native.omero)
    if len(carried.channels) != n_channels:
        return {}
    channels = []
    for channel in carried.channels:
        red, green, blue = channel.colour or (255, 255, 255)
        about: dict[str, Any] = {
            "label": channel.name,
            "color": f"{red:02X}{green:02X}{blue:02X}",
            "active": True,
        }
        if channel.display_range is not None:
            low, high = channel.display_range
            about["window"] = {"min": low, "max": high, "start": low, "end": high}
        channels.append(about)
    return {"channels": channels}


def translation_of(
    carried: Carried, axes: str, pixel_size: Mapping[str, float]
) -> list[float] | None:
    """Position of the first pixel of the result along its axes; None for the origin."""
    native = carried.native.get(ZARR)
    if native is None or not native.translation:
        return None
    left = {axis: span[0] * pixel_size.get(axis, 1.0) for axis, span in native.spans.items()}
    return [native.translation.get(axis, 0.0) + left.get(axis, 0.0) for axis in axes]


def copy_labels(carried: Carried, group: Any, folder: Path) -> None:
    """Copy the label images of the input into a zarr group, chunk by chunk."""
    import zarr

    native = carried.native.get(ZARR)
    if native is None or native.labels is None:
        return
    shutil.rmtree(folder / "labels", ignore_errors=True)  # of a run that was stopped here
    source = zarr.open_group(zarr_store(native.labels), mode="r")
    names = list(_described(source).get("labels") or [name for name, _ in source.groups()])
    target = group.create_group("labels")
    target.attrs["ome"] = {"version": "0.5", "labels": names}
    for name in names:
        _copy_label(source[name], target.create_group(name), native.spans)


def _described(group: Any) -> dict[str, Any]:
    attributes = dict(group.attrs)
    described: dict[str, Any] = dict(attributes.get("ome", attributes))
    return described


def _copy_label(source: Any, target: Any, spans: Spans) -> None:
    described = _described(source)
    multiscales = [
        {key: value for key, value in multiscale.items() if key != "version"}
        for multiscale in described["multiscales"]
    ]
    label = {k: v for k, v in (described.get("image-label") or {}).items() if k != "version"}
    rest = {k: v for k, v in described.items() if k not in ("multiscales", "image-label")}
    target.attrs["ome"] = {
        **rest,
        "version": "0.5",
        "multiscales": multiscales,
        "image-label": label,
    }
    letters = [str(axis["name"]).upper() for axis in multiscales[0]["axes"]]
    for dataset in multiscales[0]["datasets"]:
        array = source[dataset["path"]]
        region = [
            slice(*spans.get(axis, (0, n))) if array.shape[i] > 1 else slice(0, n)
            for i, (axis, n) in enumerate(zip(letters, array.shape, strict=True))
        ]
        _copy_array(array, target, dataset["path"], region)


def _copy_array(source: Any, target: Any, name: str, region: Sequence[slice]) -> None:
    """Copy a region of an array, chunk by chunk."""
    shape = tuple(part.stop - part.start for part in region)
    chunks = tuple(min(c, n) for c, n in zip(source.chunks, shape, strict=True))
    copy = target.create_array(name, shape=shape, dtype=source.dtype, chunks=chunks)
    for corner in product(*(range(0, n, c) for n, c in zip(shape, chunks, strict=True))):
        inside = tuple(
            slice(i, min(i + c, n)) for i, c, n in zip(corner, chunks, shape, strict=True)
        )
        outside = tuple(
            slice(part.start + i.start, part.start + i.stop)
            for part, i in zip(region, inside, strict=True)
        )
        copy[inside] = source[outside]
