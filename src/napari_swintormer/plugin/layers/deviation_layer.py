"""The layer that shows how much the samples of a result differ."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image

from napari_swintormer.plugin.layers.layer_data import LayerSource
from napari_swintormer.plugin.layers.made_layers import mark

_BRIGHTEST = 99.9  # percentile of the deviation that is drawn brightest


def deviation_layer(
    source: LayerSource, title: str, data: Any, provenance: dict[str, Any]
) -> Image:
    """Build the layer of a deviation, with the transform of the source.

    `title` is the name of the result. `data` is the standard deviation of the samples in the units
    of the image, or its levels, finest first. The layer shows the root mean square over the colours
    of a pixel. `provenance` becomes ``metadata["swintormer"]``.
    """
    levels = data if isinstance(data, list) else [data]
    if source.look.get("rgb"):
        levels = [np.sqrt((level[..., :3] ** 2).mean(axis=-1)) for level in levels]
    middle = tuple(n // 2 for n in levels[-1].shape[:-2])
    brightest = float(np.percentile(np.asarray(levels[-1][middle]), _BRIGHTEST))
    look = source.look | {
        "rgb": False,
        "colormap": "magma",
        "gamma": 1.0,
        "contrast_limits": (0.0, brightest or 1.0),
    }
    return Image(
        levels if len(levels) > 1 else levels[0],
        name=f"{title}, deviation",
        metadata=mark("deviation", source.layer_id) | {"swintormer": provenance},
        multiscale=len(levels) > 1,
        cache=False,
        visible=False,  # the result lies below
        **look,
    )
