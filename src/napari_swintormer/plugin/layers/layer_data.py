"""Turns an image layer into the array to deblur, and a result into a layer in the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import dask.array as da
import numpy as np
from napari.layers import Image
from napari.utils.transforms import Affine

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.axes import AXES, resolve_axes
from napari_swintormer.imaging.carried import NOTHING, Carried
from napari_swintormer.imaging.image import unit_name
from napari_swintormer.imaging.spans import format_planes
from napari_swintormer.plugin.layers.made_layers import id_of, mark
from napari_swintormer.runs.job import Job
from napari_swintormer.runs.planning import prepare
from napari_swintormer.runs.stack_inputs import known_optics
from napari_swintormer.settings.deblur_settings import DeblurSettings

_TRANSFORM = ("affine", "axis_labels", "rotate", "scale", "shear", "translate", "units")
_COLOURS = ("blending", "colormap", "contrast_limits", "gamma", "opacity", "rgb")
_VIEW = ("attenuation", "depiction", "interpolation2d", "interpolation3d", "iso_threshold")
_TAKEN_OVER = (*_TRANSFORM, *_COLOURS, *_VIEW, "projection_mode", "rendering")
"""Properties that a result layer has from its input layer."""
_SAMPLE = 1_000_000  # voxels that the brightness of a result is measured on
_BRIGHTEST = 99.8  # percentile of a restored volume that is shown as white
CARRIED = "swintormer_carried"
"""Key of ``layer.metadata`` for what the file of a layer holds beside pixels, a `Carried`."""


@dataclass(frozen=True)
class LayerSource:
    """A copy of what a run needs from a layer, taken on the GUI thread when the run begins.

    The user may change or delete the layer while the run goes on.

    Attributes
    ----------
    name
        Name of the layer.
    data
        The image, or the planes of it to deblur; lazy if the data of the layer are lazy.
    axes
        One letter of ``TCZYXS`` per dimension of `data`.
    look
        Arguments of `napari.layers.Image` for the result: transforms, units, colours.
    contrast_limits_range
        Ends of the slider of the contrast limits.
    coarser
        Coarser levels of `data`, finest first, if the layer has them.
    whole, spans
        The whole image, and the planes of it that `data` holds: first plane and the one after the
        last, along every axis that is cut.
    second, second_name
        Whole image and layer name of the second view, for a model of two views.
    carried
        What the file of the layer holds beside pixels.
    layer_id
        Tells the layer from all others, see `napari_swintormer.plugin.layers.made_layers`.
    """

    name: str
    data: Any
    axes: str
    look: dict[str, Any] = field(repr=False)
    contrast_limits_range: tuple[float, float] | None = None
    coarser: tuple[Any, ...] = ()
    whole: Any = None
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    second: Any = None
    second_name: str | None = None
    carried: Carried = NOTHING
    layer_id: str = ""

    @classmethod
    def of(cls, layer: Image, axes: str) -> LayerSource:
        """Take the whole image of a layer at full resolution; empty `axes` are guessed."""
        data = full_resolution(layer)
        axes = resolve_axes(data.shape, data.dtype, axes or None)
        state = layer.as_layer_data_tuple()[1]
        look = {key: state[key] for key in _TAKEN_OVER if key in state}
        low, high = layer.contrast_limits_range
        stack = [i for i, axis in enumerate(axes) if axis not in "YX"]
        coarser = tuple(
            level
            for level in (layer.data[1:] if layer.multiscale else ())
            if all(level.shape[i] == data.shape[i] for i in stack)
        )
        limits, carried = (float(low), float(high)), layer.metadata.get(CARRIED, NOTHING)
        return cls(
            layer.name, data, axes, look, limits, coarser, data,
            carried=carried, layer_id=id_of(layer),
        )  # fmt: skip

    def with_second_view(self, layer: Image) -> LayerSource:
        """Add the whole image of another layer as the second view of the scene."""
        return replace(self, second=full_resolution(layer), second_name=layer.name)

    def plan(self, settings: DeblurSettings) -> Job:
        """Plan a run over `data`; its pixels equal those of a run over the whole image."""
        return prepare(
            self.whole,
            self.complete(settings),
            second_view=self.second,
            optics=known_optics(
                self.carried, *pixel_sizes(self.axes, self.look["scale"], self.look["units"])
            ),
            meaning=self.carried.meaning,
        )

    def complete(self, settings: DeblurSettings) -> DeblurSettings:
        """Add the axes and the chosen planes to the settings of a run."""
        return replace(settings, axes=self.axes, planes=format_planes(self.spans))

    def plane_at(self, position: tuple[float, ...]) -> LayerSource:
        """Keep the plane at a position, see `position`; it is lazy, of size 1 along T, C and Z."""
        return self.planes_of({axis: (i, i + 1) for axis, i in self.position(position).items()})

    def planes_along(self, axis: str, first: int, last: int) -> LayerSource:
        """Keep the planes `first` to `last` (inclusive) along T, C or Z; they are lazy."""
        length = dict(zip(self.axes, self.data.shape, strict=True)).get(axis, 0)
        if not 0 <= first <= last < length:
            planes = f"planes 0 to {length - 1}" if length else "no such axis"
            raise ImageError(
                f"{self.name} has no planes {first} to {last} along {axis}; it has {planes}. "
                "Choose other planes."
            )
        return self.planes_of({axis: (first, last + 1)})

    def planes_of(self, spans: Mapping[str, tuple[int, int]]) -> LayerSource:
        """Keep the planes of a span ``(start, stop)`` along some axes; they are lazy."""
        region = tuple(slice(*spans.get(letter, (None, None))) for letter in self.axes)
        data, *coarser = (
            (level if isinstance(level, np.ndarray) else as_dask(level))[region]
            for level in (self.data, *self.coarser)
        )
        origin = {axis: start for axis, (start, _) in spans.items()}
        carried = self.carried.cut(self.axes, self.data.shape, dict(spans))
        return replace(self.part_at(origin, data, coarser), spans=spans, carried=carried)

    def part_at(
        self, origin: Mapping[str, float], data: Any, coarser: Sequence[Any] = ()
    ) -> LayerSource:
        """Replace the image by a part of it; its layer lies where the part lies.

        `origin` is the index of the first pixel of the part along each axis, 0 where it is absent.
        """
        look = self.look
        transform = Affine(**{key: look[key] for key in ("scale", "translate", "rotate", "shear")})
        # napari counts no dimension for the samples
        offset = np.array([origin.get(axis, 0) for axis in self.axes if axis != "S"], float)
        look = look | {"translate": np.asarray(transform(offset))}
        return replace(self, data=data, look=look, coarser=tuple(coarser))

    def position(self, position: tuple[float, ...]) -> dict[str, int]:
        """Return the index of the nearest plane along each of T, C and Z.

        `position` is an unrounded index along every dimension of the layer but the samples, such
        as ``layer.world_to_data(viewer.dims.point)``; it may lie outside the image.
        """
        dimensions = [axis for axis, letter in enumerate(self.axes) if letter != "S"]
        return {
            self.axes[axis]: int(np.clip(round(index), 0, self.data.shape[axis] - 1))
            for axis, index in zip(dimensions, position, strict=True)
            if self.axes[axis] not in "YX"
        }

    def result_layer(
        self,
        data: Any,
        name: str,
        provenance: dict[str, Any] | None = None,
        place: Mapping[str, int] | None = None,
    ) -> Image:
        """Build the layer of a result: an array, or its levels, finest first.

        `provenance` becomes ``metadata["swintormer"]``. `place` is the index of the first pixel of
        a preview along each axis.
        """
        metadata = mark("result" if place is None else "preview", self.layer_id, place)
        if provenance is not None:
            metadata["swintormer"] = provenance
        if self.carried != NOTHING:
            metadata[CARRIED] = self.carried
        layer = Image(
            data,
            name=name,
            metadata=metadata,
            multiscale=isinstance(data, list),
            cache=False,
            **self.look,
        )
        if self.contrast_limits_range is not None:
            layer.contrast_limits_range = self.contrast_limits_range
        return layer


def full_resolution(layer: Image) -> Any:
    """Return the array of a layer; of a multiscale layer the finest level."""
    return layer.data[0] if layer.multiscale else layer.data


def show_brighter(layer: Image, source: LayerSource) -> None:
    """Raise the upper contrast limit of a restored volume: its small structures are brighter.

    Limits that the user has changed stay.
    """
    low, high = source.look["contrast_limits"]
    if tuple(layer.contrast_limits) != (low, high):
        return
    level = layer.data[-1] if layer.multiscale else layer.data
    step = max(1, round((prod(level.shape) / _SAMPLE) ** (1 / level.ndim)))
    sample = np.asarray(level[(slice(None, None, step),) * level.ndim])
    brightest = float(np.nanpercentile(sample, _BRIGHTEST))
    if brightest > high:
        layer.contrast_limits_range = (layer.contrast_limits_range[0], float(np.nanmax(sample)))
        layer.contrast_limits = (low, brightest)


def pixel_sizes(
    axes: str, scale: Sequence[float], units: Sequence[Any]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return size and unit of a pixel by axis, for the axes whose unit files can hold.

    `scale` and `units` are those of a layer: one value per dimension but the samples.
    """
    pixel_size, unit = {}, {}
    dimensions = [axis for axis in axes if axis != "S"]
    for axis, size, name in zip(dimensions, scale, units, strict=True):
        known = unit_name(str(name))
        if axis != "C" and known:
            pixel_size[axis], unit[axis] = float(size), known
    return pixel_size, unit


def as_dask(data: Any) -> da.Array:
    """View an array-like as a dask array, with its own chunks."""
    return data if isinstance(data, da.Array) else da.from_array(data)


def guess_axes(layer: Image) -> str:
    """Guess the axes of a layer; empty if they cannot be guessed."""
    data = full_resolution(layer)
    labels = [str(label) for label in layer.axis_labels]
    try:
        return guess_axes_of(data.shape, data.dtype, labels, rgb=layer.rgb)
    except ImageError:
        return ""


def guess_axes_of(shape: Sequence[int], dtype: Any, labels: Sequence[str], *, rgb: bool) -> str:
    """Guess the axes of an image from labels, colours and the number of dimensions.

    There is one label per dimension but the samples. With `rgb` the last dimension of `shape` holds
    the samples of a pixel.
    """
    letters = [label.strip().upper()[:1] for label in labels]
    named = [*letters, "S"] if rgb else letters
    if len(set(named)) == len(named) and {"Y", "X"} <= set(named) <= set(AXES):
        return "".join(named)
    if rgb:
        return resolve_axes(tuple(shape)[:-1], dtype, None) + "S"
    return resolve_axes(tuple(shape), dtype, None)
