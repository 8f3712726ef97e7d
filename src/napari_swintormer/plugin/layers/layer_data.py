"""From an image layer to the array that is deblurred, and back to a layer in the same place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
from napari.layers import Image
from napari.utils.transforms import Affine

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.axes import AXES, resolve_axes
from napari_swintormer.imaging.image import unit_name
from napari_swintormer.imaging.part import format_planes
from napari_swintormer.runs.job import Job, prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings

# What the result layer takes over from the input layer as it is.
_KEPT = (
    "affine",
    "attenuation",
    "axis_labels",
    "blending",
    "colormap",
    "contrast_limits",
    "depiction",
    "gamma",
    "interpolation2d",
    "interpolation3d",
    "iso_threshold",
    "opacity",
    "projection_mode",
    "rendering",
    "rgb",
    "rotate",
    "scale",
    "shear",
    "translate",
    "units",
)


@dataclass(frozen=True)
class LayerSource:
    """What a run needs to know of a layer, copied on the GUI thread when the run begins.

    The layer may change, or be deleted, while the run goes on.

    Attributes
    ----------
    name
        Name of the layer.
    data
        The image, or the plane of it that is worked on; as lazy as the data of the layer.
    axes
        One letter of ``TCZYXS`` per dimension of `data`.
    look
        Arguments of `napari.layers.Image` for the result: transforms, units, colours.
    contrast_limits_range
        Ends of the slider of the contrast limits.
    coarser
        Coarser levels of `data`, finest first, where the layer has them.
    whole, spans
        The whole image, and what `data` is of it: first plane and the one after the last, along
        axes where not all planes are meant.
    second, second_name
        For a model of two views the whole image of the second, and the name of its layer.
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

    @classmethod
    def of(cls, layer: Image, axes: str) -> LayerSource:
        """Take the whole image of a layer, at full resolution.

        Parameters
        ----------
        layer
            The input layer.
        axes
            One letter of ``TCZYXS`` per dimension of the layer's data.

        Raises
        ------
        ImageError
            When the image is none, or `axes` do not fit it.
        """
        data = full_resolution(layer)
        axes = resolve_axes(data.shape, data.dtype, axes or None)
        state = layer.as_layer_data_tuple()[1]
        look = {key: state[key] for key in _KEPT if key in state}
        low, high = layer.contrast_limits_range
        stack = [i for i, axis in enumerate(axes) if axis not in "YX"]
        coarser = tuple(
            level
            for level in (layer.data[1:] if layer.multiscale else ())
            if all(level.shape[i] == data.shape[i] for i in stack)
        )
        return cls(layer.name, data, axes, look, (float(low), float(high)), coarser, data)

    def beside(self, layer: Image) -> LayerSource:
        """Take the whole image of another layer as the second view of the scene."""
        return replace(self, second=full_resolution(layer), second_name=layer.name)

    def plan(self, settings: DeblurSettings) -> Job:
        """Plan a run over what is worked on; as a part of the whole image it is the same there."""
        return prepare(self.whole, self.complete(settings), second_view=self.second)

    def complete(self, settings: DeblurSettings) -> DeblurSettings:
        """Add the axes and the chosen planes to the settings of a run."""
        return replace(settings, axes=self.axes, planes=format_planes(self.spans))

    def plane_at(self, position: tuple[float, ...]) -> LayerSource:
        """Keep only the plane at a position; every other axis shrinks to the size 1.

        Parameters
        ----------
        position
            Index along every dimension of the layer (not the samples), not rounded, for example
            ``layer.world_to_data(viewer.dims.point)``.

        Returns
        -------
        LayerSource
            Its `data` is lazy; its result lies where the plane lies.
        """
        return self._cut({axis: (i, i + 1) for axis, i in self.position(position).items()})

    def planes_along(self, axis: str, first: int, last: int) -> LayerSource:
        """Keep only a range of planes.

        Parameters
        ----------
        axis
            T, C or Z.
        first, last
            Index of the first and of the last plane that stays.

        Returns
        -------
        LayerSource
            Its `data` is lazy; its result lies where the planes lie.

        Raises
        ------
        ImageError
            When the image has no such planes.
        """
        length = dict(zip(self.axes, self.data.shape, strict=True)).get(axis, 0)
        if not 0 <= first <= last < length:
            there = f"its planes are 0 to {length - 1}" if length else "it has no such axis"
            raise ImageError(
                f"{self.name} has no planes {first} to {last} along {axis} ({there}); "
                "choose others."
            )
        return self._cut({axis: (first, last + 1)})

    def _cut(self, spans: Mapping[str, tuple[int, int]]) -> LayerSource:
        """Keep a span ``(start, stop)`` along some axes."""
        region = tuple(
            slice(*spans[letter]) if letter in spans else slice(None) for letter in self.axes
        )
        levels = [
            (level if isinstance(level, np.ndarray) else as_dask(level))[region]
            for level in (self.data, *self.coarser)
        ]
        place = {axis: start for axis, (start, _) in spans.items()}
        return replace(self.part_at(place, levels[0], levels[1:]), spans=spans)

    def part_at(
        self, place: Mapping[str, float], data: Any, coarser: Sequence[Any] = ()
    ) -> LayerSource:
        """Put a part of the image in the place of the image, and lay it where the part lies.

        Parameters
        ----------
        place
            Where its first pixel lies along the axes where that is not 0, in pixels.
        data, coarser
            The part.
        """
        placed = Affine(
            scale=self.look["scale"],
            translate=self.look["translate"],
            rotate=self.look["rotate"],
            shear=self.look["shear"],
        )
        # napari counts no dimension for the samples
        offset = np.array([place.get(axis, 0) for axis in self.axes if axis != "S"], float)
        look = {**self.look, "translate": np.asarray(placed(offset))}
        return replace(self, data=data, look=look, coarser=tuple(coarser))

    def position(self, position: tuple[float, ...]) -> dict[str, int]:
        """Give the index along each of T, C and Z; inside the image, wherever the slider stands.

        Parameters
        ----------
        position
            As in `plane_at`.
        """
        dimensions = [axis for axis, letter in enumerate(self.axes) if letter != "S"]
        return {
            self.axes[axis]: int(np.clip(round(where), 0, self.data.shape[axis] - 1))
            for axis, where in zip(dimensions, position, strict=True)  # none for the samples
            if self.axes[axis] not in "YX"
        }

    def result_layer(
        self, data: Any, provenance: dict[str, Any] | None = None, kind: str = "deblurred"
    ) -> Image:
        """Build the layer of a result.

        Parameters
        ----------
        data
            The result, of the same shape and axes as `data`, or its levels, finest first.
        provenance
            Becomes ``metadata["swintormer"]``, where it is not None.
        kind
            Second word of the layer's name.
        """
        layer = Image(
            data,
            name=f"{self.name} {kind}",
            metadata={} if provenance is None else {"swintormer": provenance},
            multiscale=isinstance(data, list),
            cache=False,
            **self.look,
        )
        if self.contrast_limits_range is not None:
            layer.contrast_limits_range = self.contrast_limits_range
        return layer


def full_resolution(layer: Image) -> Any:
    """Array of a layer, of a multiscale layer the finest level."""
    return layer.data[0] if layer.multiscale else layer.data


def pixel_sizes(
    axes: str, scale: Sequence[float], units: Sequence[Any]
) -> tuple[dict[str, float], dict[str, str]]:
    """Give what files say of the size of a pixel: size and unit by axis, where both are known.

    Parameters
    ----------
    axes
        One letter of ``TCZYXS`` per dimension.
    scale, units
        Of the layer: one per dimension without the samples.
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
    """Guess the axes of a layer from its colours, its axis labels and its number of dimensions.

    Returns
    -------
    str
        One letter of ``TCZYXS`` per dimension of the layer's data; empty if they cannot be guessed.
    """
    data = full_resolution(layer)
    labels = [str(label) for label in layer.axis_labels]
    try:
        return guess_axes_of(data.shape, data.dtype, labels, rgb=layer.rgb)
    except ImageError:
        return ""


def guess_axes_of(shape: Sequence[int], dtype: Any, labels: Sequence[str], *, rgb: bool) -> str:
    """Guess the axes of an image, see `guess_axes`.

    Parameters
    ----------
    shape, dtype
        Of the image, with its samples.
    labels
        Of the dimensions without the samples.
    rgb
        Whether the last dimension holds the colours of a pixel.

    Raises
    ------
    ImageError
        They cannot be guessed.
    """
    letters = [label.strip().upper()[:1] for label in labels]
    named = [*letters, "S"] if rgb else letters
    if len(set(named)) == len(named) and {"Y", "X"} <= set(named) <= set(AXES):
        return "".join(named)
    if rgb:
        return resolve_axes(tuple(shape)[:-1], dtype, None) + "S"
    return resolve_axes(tuple(shape), dtype, None)
