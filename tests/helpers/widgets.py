"""Images for the widgets, their deblurred pixels, and how long a test waits."""

from __future__ import annotations

from typing import Any

import numpy as np

import napari_swintormer

PATIENCE = 120_000  # milliseconds; only a run that hangs takes so long
FP32 = {"device": "cpu", "precision": "fp32"}


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    """Make random pixels from 0 to 249."""
    return np.random.default_rng(1).integers(0, 250, shape).astype(dtype)


def expected(image: Any, **settings: Any) -> Any:
    """Deblur an image with the API, on the CPU in fp32 as the widget of the tests does."""
    return napari_swintormer.deblur(image, **FP32, **settings)
