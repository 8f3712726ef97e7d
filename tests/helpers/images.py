"""Images made for tests."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter


def dots(seed: int, shape: tuple[int, int] = (80, 70)) -> np.ndarray:
    """Draw small bright dots on a dark field, from 100 to about 9000."""
    rng = np.random.default_rng(seed)
    return 100 + 9000 * gaussian_filter((rng.random(shape) < 0.03).astype(float), 0.8)
