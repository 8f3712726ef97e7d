"""Shows a result against the image that it was made of, with nothing else in the way."""

from __future__ import annotations

import napari
from napari.layers import Image, Layer

from napari_swintormer.plugin.layers.made_layers import source_id, source_of

_OPAQUE = ("opaque", "translucent", "translucent_no_depth")


class Comparison:
    """Shows the image below a result while they are compared, and hides what would cover it.

    Hidden are all other layers that were made of the same image, and opaque images that lie above
    it. `stop` brings back what `start` has changed, except where the user has changed it again.
    """

    def __init__(self, viewer: napari.Viewer) -> None:
        self._viewer = viewer
        self._changed: list[tuple[Layer, bool]] = []  # with the visibility that was set
        self.layer: Image | None = None

    def start(self, layer: Image) -> None:
        """Prepare the comparison of a result; one of another result ends."""
        if layer == self.layer:
            return
        self.stop()
        self.layer = layer
        layers = self._viewer.layers
        before = source_of(layer, layers)
        above = [] if before is None else list(layers)[layers.index(before) + 1 :]
        for other in layers:
            if other == layer:
                continue
            if other == before:
                self._set(other, visible=True)
            elif (source_id(layer) and source_id(other) == source_id(layer)) or (
                other in above and isinstance(other, Image) and other.blending in _OPAQUE
            ):
                self._set(other, visible=False)

    def stop(self) -> None:
        """End the comparison."""
        changed, self._changed, self.layer = self._changed, [], None
        for layer, visible in changed:
            if layer in self._viewer.layers and layer.visible is visible:
                layer.visible = not visible

    def _set(self, layer: Layer, *, visible: bool) -> None:
        if layer.visible is not visible:
            layer.visible = visible
            self._changed.append((layer, visible))
