"""What part of a layer the viewer shows, and at which position of a stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Shapes
from numpy.typing import NDArray

from napari_swintormer.errors import ImageError
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.tiling.grid import Region

# More than this takes too long to be a preview: 25 tiles of 256 pixels and the usual overlap.
LARGEST_PREVIEW = 1024


@dataclass(frozen=True)
class InView:
    """What is on the screen of what is to be deblurred.

    Attributes
    ----------
    source
        All that is to be deblurred.
    position
        Index of the plane in view along each of T, C and Z that `source` has.
    region
        Of that plane, in pixels of full resolution.
    """

    source: LayerSource
    position: Mapping[str, int]
    region: Region


def visible_region(viewer: ViewerModel, layer: Image, source: LayerSource) -> Region:
    """Find the part of a layer that is to be previewed, in pixels of full resolution.

    That is the rectangle around the shapes that are selected in the active layer, where that is a
    Shapes layer; else what is on the screen.

    Parameters
    ----------
    viewer
        Shows the layer in two dimensions.
    layer
        Single-scale or multiscale, in any place, also rotated.
    source
        Of the layer, with its axes.

    Returns
    -------
    Region
        The middle of that part where it is more than 1024 pixels along a side.

    Raises
    ------
    ImageError
        When the layer is not on the screen, or not seen from above Y and X, or the shapes lie
        outside of it.
    """
    if viewer.dims.ndisplay != 2:
        raise ImageError("A preview needs the view in two dimensions; switch it at the lower left.")
    shapes = selected_shapes(viewer)
    in_world = _corners_in_world(viewer) if shapes is None else _shapes_in_world(viewer, shapes)
    corners = np.array([layer.world_to_data(corner) for corner in in_world])
    letters = [axis for axis in source.axes if axis != "S"]
    spans = []
    for axis, letter in enumerate(letters):
        if letter not in "YX" and np.ptp(corners[:, axis]) > 1:
            raise ImageError(
                f"A preview needs Y and X on the screen (got a view along {letter}); turn the axes "
                "back at the lower left, or correct the axes above."
            )
    for letter in "YX":
        length = source.data.shape[source.axes.index(letter)]
        spans.append(_span(corners[:, letters.index(letter)], length))
    (y0, y1), (x0, x1) = spans
    if y0 == y1 or x0 == x1:
        if shapes is not None:
            raise ImageError(
                f"The selected shape lies outside {source.name}; move it onto the image, or select "
                "no shape to preview what is on the screen."
            )
        raise ImageError(f"{source.name} is not on the screen; move the view to where it is.")
    return Region(y0, y1, x0, x1)


def selected_shapes(viewer: ViewerModel) -> Shapes | None:
    """Give the active layer if it has shapes that are selected."""
    active = viewer.layers.selection.active
    return active if isinstance(active, Shapes) and active.selected_data else None


def _span(along: NDArray[np.float64], length: int) -> tuple[int, int]:
    """Give first and last pixel (exclusive) of an extent, inside the image and not too many."""
    # a pixel reaches half its side to both sides of its centre
    start, stop = np.floor(along.min() + 0.5), np.ceil(along.max() + 0.5)
    start, stop = int(np.clip(start, 0, length)), int(np.clip(stop, 0, length))
    if stop - start > LARGEST_PREVIEW:
        start = (start + stop - LARGEST_PREVIEW) // 2
        stop = start + LARGEST_PREVIEW
    return start, stop


def _shapes_in_world(viewer: ViewerModel, shapes: Shapes) -> list[tuple[float, ...]]:
    """Corners of the selected shapes, in the world's coordinates."""
    points = []
    for number in shapes.selected_data:
        for corner in shapes.data[number]:
            place = shapes.data_to_world(corner)
            # a Shapes layer of fewer dimensions than the viewer has the last ones
            points.append((*viewer.dims.point[: len(viewer.dims.point) - len(place)], *place))
    return points


def _corners_in_world(viewer: ViewerModel) -> list[tuple[float, ...]]:
    """Corners of the canvas, in the world's coordinates."""
    new = hasattr(viewer, "scene")  # napari before 0.9 keeps camera and canvas elsewhere
    camera = viewer.scene.camera if new else viewer.camera
    size = np.array(viewer.canvas.size if new else viewer._canvas_size, float)
    half = size / 2 / camera.zoom
    center = np.array(camera.center[-2:], float)
    corners = []
    for signs in product((-1, 1), repeat=2):
        point = np.array(viewer.dims.point, float)
        point[list(viewer.dims.displayed)] = center + half * signs
        corners.append(tuple(point))
    return corners
