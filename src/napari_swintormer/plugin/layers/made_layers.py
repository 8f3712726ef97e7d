"""Marks the layers that the plugin makes: what each one is, and of which layer it was made.

The mark lies in ``layer.metadata``, so it stays when a panel is closed and opened again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from napari.components import LayerList
from napari.layers import Image, Layer

Kind = Literal[
    "result", "preview", "difference", "residual", "deviation", "blur", "motion", "validation"
]

MARK = "swintormer_layer"
_IMAGES = ("result", "preview")
_WORDS = {"preview": "a preview", "blur": "a map of the blur", "validation": "a validation patch"}


def mark(
    kind: Kind, source_id: str = "", place: Mapping[str, int] | None = None, of: str = ""
) -> dict[str, Any]:
    """Return the metadata of a layer that is made of the layer with this id.

    `place` is the index of the first pixel of a preview along each axis of its image. `of` is the
    id of the result that a difference shows.
    """
    return {MARK: {"kind": kind, "source": source_id, "place": dict(place or {}), "of": of}}


def made_of(result: Layer, kind: Kind, layers: Iterable[Layer]) -> list[Layer]:
    """Return the layers of one kind that show something about a result."""
    wanted = {"kind": kind, "of": id_of(result)}
    return [o for o in layers if wanted.items() <= o.metadata.get(MARK, {}).items()]


def place_of(layer: Layer) -> dict[str, int]:
    """Return the index of the first pixel of a preview; empty for other layers."""
    return dict(layer.metadata.get(MARK, {}).get("place", {}))


def kind_of(layer: Layer) -> Kind | None:
    """Return what the plugin made a layer for; None for a layer of the user."""
    made = layer.metadata.get(MARK)
    if made is not None:
        kind: Kind = made["kind"]
        return kind
    return "result" if "swintormer" in layer.metadata else None  # made by an older version


def source_id(layer: Layer) -> str:
    """Return the id of the layer that a layer was made of; empty for a layer of the user."""
    return str(layer.metadata.get(MARK, {}).get("source", ""))


def source_of(layer: Layer, layers: Iterable[Layer]) -> Image | None:
    """Find the image that a layer was made of; None if it is gone."""
    wanted = source_id(layer)
    found = (other for other in layers if isinstance(other, Image) and id_of(other) == wanted)
    return next(found, None)


def id_of(layer: Layer) -> str:
    """Return what tells a layer from all others, also from one of the same name."""
    return str(layer.unique_id)


def users_images(layers: Iterable[Layer]) -> list[Image]:
    """Return the image layers that the plugin has not made."""
    return [layer for layer in layers if isinstance(layer, Image) and kind_of(layer) is None]


def own_images(layers: Iterable[Layer]) -> list[Image]:
    """Return results and previews; maps and differences are no images to deblur."""
    return [layer for layer in layers if isinstance(layer, Image) and kind_of(layer) in _IMAGES]


def add_above_source(layers: LayerList, layer: Layer) -> None:
    """Add a layer that the plugin made just above the image that it was made of.

    Later ones come above earlier ones. It becomes the active layer, as napari's own new layers do.
    """
    wanted = source_id(layer)
    family = [i for i, o in enumerate(layers) if wanted and wanted in (id_of(o), source_id(o))]
    layers.insert(family[-1] + 1 if family else len(layers), layer)
    layers.selection.active = layer


def warning_for(layer: Image) -> str:
    """Say what a layer of the plugin is, before it is deblurred; empty for one of the user."""
    kind = kind_of(layer)
    if kind is None:
        return ""
    return "Already deblurred." if kind == "result" else f"This is {_WORDS.get(kind, f'a {kind}')}."
