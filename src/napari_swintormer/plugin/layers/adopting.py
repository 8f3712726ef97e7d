"""Finds again what a result was made of, for a panel that was opened after the run."""

from __future__ import annotations

from collections.abc import Iterable

from napari.layers import Image, Layer

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.spans import parse_planes
from napari_swintormer.plugin.layers.layer_data import LayerSource, as_dask, guess_axes
from napari_swintormer.plugin.layers.made_layers import own_images, place_of, source_of


def sources_of_results(layers: Iterable[Layer]) -> dict[Image, LayerSource]:
    """Return results and previews whose image is still there, each with that image."""
    listed = list(layers)
    found = {layer: _source(layer, listed) for layer in own_images(listed)}
    return {layer: source for layer, source in found.items() if source is not None}


def _source(layer: Image, layers: list[Layer]) -> LayerSource | None:
    image = source_of(layer, layers)
    if image is None:
        return None
    settings = layer.metadata.get("swintormer", {}).get("settings", {})
    axes, planes = settings.get("axes") or guess_axes(image), settings.get("planes")
    try:
        source = LayerSource.of(image, axes)
        if planes:
            source = source.planes_of(parse_planes(planes, axes, source.data.shape))
    except ImageError:  # the image has been changed
        return None
    if place := place_of(layer):
        finest = layer.data[0] if layer.multiscale else layer.data
        sizes = zip(source.axes, finest.shape, strict=True)
        region = tuple(slice(place.get(a, 0), place.get(a, 0) + n) for a, n in sizes)
        source = source.part_at(place, as_dask(source.data)[region])
    shape = (layer.data[0] if layer.multiscale else layer.data).shape
    return source if source.data.shape == shape else None
