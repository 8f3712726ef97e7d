"""Real pairs of blurred and sharp images, which several benchmarks read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.evaluation.data.pair_images import open_pair
from napari_swintormer.evaluation.data.protocols import PROTOCOLS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CENTRE = 512  # pixels


def real_pairs(table: Path) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Read the centres of real pairs: set, axes, blurred and sharp image.

    `table` is a CSV file with the columns ``blurred``, ``sharp`` and ``set``.
    """
    protocol = PROTOCOLS["microscopy"]
    for files in protocol.pairs(table):
        with open_pair(files, protocol, CENTRE) as pair:
            yield files.set, pair.axes, np.asarray(pair.blurred), np.asarray(pair.sharp)
