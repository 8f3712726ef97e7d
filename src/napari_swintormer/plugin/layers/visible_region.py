"""Finds the part of a layer that the viewer shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
from napari.components import Camera, ViewerModel
from napari.layers import Image, Shapes
from numpy.typing import NDArray

from napari_swintormer.errors import ImageError
from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.made_layers import kind_of
from napari_swintormer.tiling.grid import Region

LARGEST_PREVIEW = 1024
"""Longest side of a preview in pixels: 25 tiles of 256 pixels with the usual overlap."""


@dataclass(frozen=True)
class InView:
    """The part of an image that is on the screen.

    Attributes
    ----------
    source
        The whole image.
    position
        Index of the plane on the screen along each of T, C and Z that the image has.
    region
        The part of that plane, in pixels of full resolution.
    """

    source: LayerSource
    position: Mapping[str, int]
    region: Region


def visible_region(viewer: ViewerModel, layer: Image, source: LayerSource) -> Region:
    """Find the part of a layer for a preview.

    If the active layer is a Shapes layer with selected shapes, the part is the rectangle around
    them. Otherwise it is what the screen shows.

    The region is in pixels of full resolution, and has the middle 1024 pixels along a longer side.
    An `ImageError` says why the screen shows no part of the layer.
    """
    if viewer.dims.ndisplay != 2:
        raise ImageError("A preview needs the 2D view; switch to it at the lower left.")
    shapes = selected_shapes(viewer)
    in_world = _corners_in_world(viewer) if shapes is None else _shapes_in_world(viewer, shapes)
    corners = np.array([layer.world_to_data(corner) for corner in in_world])
    letters = [axis for axis in source.axes if axis != "S"]
    spans = []
    for axis, letter in enumerate(letters):
        if letter not in "YX" and np.ptp(corners[:, axis]) > 1:
            raise ImageError(
                f"A preview needs Y and X on the screen (got a view along {letter}). Turn the axes "
                "back at the lower left, or correct the axes above."
            )
    for letter in "YX":
        length = source.data.shape[source.axes.index(letter)]
        spans.append(_span(corners[:, letters.index(letter)], length))
    (y0, y1), (x0, x1) = spans
    if y0 == y1 or x0 == x1:
        if shapes is not None:
            raise ImageError(
                f"The selected shape lies outside {source.name}. Move it onto the image, or select "
                "no shape to preview what is on the screen."
            )
        raise ImageError(f"{source.name} is not on the screen. Move the view to it.")
    return Region(y0, y1, x0, x1)


def selected_shapes(viewer: ViewerModel) -> Shapes | None:
    """Return the active layer if it is a Shapes layer of the user with selected shapes."""
    active = viewer.layers.selection.active
    chosen = isinstance(active, Shapes) and kind_of(active) is None and active.selected_data
    return active if chosen else None


def canvas_view(viewer: ViewerModel) -> tuple[Camera, NDArray[np.float64]]:
    """Return the camera, and height and width of the canvas in its units."""
    new = hasattr(viewer, "scene")  # in napari before 0.9 the viewer has camera and canvas size
    camera = viewer.scene.camera if new else viewer.camera
    return camera, np.array(viewer.canvas.size if new else viewer._canvas_size, float)


def _span(along: NDArray[np.float64], length: int) -> tuple[int, int]:
    """Cut an extent to pixels inside the image, and to the middle `LARGEST_PREVIEW` of them."""
    # the centre of a pixel has an integer coordinate, so its borders lie at halves
    start, stop = np.floor(along.min() + 0.5), np.ceil(along.max() + 0.5)
    start, stop = int(np.clip(start, 0, length)), int(np.clip(stop, 0, length))
    if stop - start > LARGEST_PREVIEW:
        start = (start + stop - LARGEST_PREVIEW) // 2
        stop = start + LARGEST_PREVIEW
    return start, stop


def _shapes_in_world(viewer: ViewerModel, shapes: Shapes) -> list[tuple[float, ...]]:
    """Return the corners of the selected shapes in world coordinates."""
    points = []
    for number in shapes.selected_data:
        for corner in shapes.data[number]:
            point = shapes.data_to_world(corner)
            # a Shapes layer with fewer dimensions than the viewer has the last ones
            points.append((*viewer.dims.point[: len(viewer.dims.point) - len(point)], *point))
    return points


def _corners_in_world(viewer: ViewerModel) -> list[tuple[float, ...]]:
    """Return the corners of the canvas in world coordinates."""
    camera, size = canvas_view(viewer)
    half = size / 2 / camera.zoom
    center = np.array(camera.center[-2:], float)
    corners = []
    for signs in product((-1, 1), repeat=2):
        point = np.array(viewer.dims.point, float)
        point[list(viewer.dims.displayed)] = center + half * signs
        corners.append(tuple(point))
    return corners
