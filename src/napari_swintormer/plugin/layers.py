"""From an image layer to the array that is deblurred, and back to a layer in the same place."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
from napari.layers import Image
from napari.utils.transforms import Affine

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.axes import AXES, resolve_axes

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
    """

    name: str
    data: Any
    axes: str
    look: dict[str, Any] = field(repr=False)
    contrast_limits_range: tuple[float, float] | None = None

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
        return cls(layer.name, data, axes, look, (float(low), float(high)))

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
        region = [slice(None)] * len(self.axes)
        offset = np.zeros(len(position))
        spatial = 0  # napari counts no dimension for the samples
        for axis, letter in enumerate(self.axes):
            if letter == "S":
                continue
            if letter not in "YX":
                last = self.data.shape[axis] - 1
                index = int(np.clip(round(position[spatial]), 0, last))
                region[axis] = slice(index, index + 1)
                offset[spatial] = index
            spatial += 1
        data = self.data if isinstance(self.data, np.ndarray) else as_dask(self.data)
        placed = Affine(
            scale=self.look["scale"],
            translate=self.look["translate"],
            rotate=self.look["rotate"],
            shear=self.look["shear"],
        )
        look = {**self.look, "translate": np.asarray(placed(offset))}
        return replace(self, data=data[tuple(region)], look=look)

    def result_layer(self, data: Any, provenance: dict[str, Any]) -> Image:
        """Build the layer of a result.

        Parameters
        ----------
        data
            The result, of the same shape and axes as `data`, or its levels, finest first.
        provenance
            Becomes ``metadata["swintormer"]``.
        """
        layer = Image(
            data,
            name=f"{self.name} deblurred",
            metadata={"swintormer": provenance},
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
    shape, dtype = full_resolution(layer).shape, full_resolution(layer).dtype
    labels = [str(label).strip().upper()[:1] for label in layer.axis_labels]
    named = [*labels, "S"] if layer.rgb else labels
    if len(set(named)) == len(named) and {"Y", "X"} <= set(named) <= set(AXES):
        return "".join(named)
    try:
        if layer.rgb:
            return resolve_axes(shape[:-1], dtype, None) + "S"
        return resolve_axes(shape, dtype, None)
    except ImageError:
        return ""
