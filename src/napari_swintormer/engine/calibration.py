"""How many tiles fit on a device: measured with two small batches, and remembered.

The weights do not tell what a network needs on a GPU. But its memory grows linearly with the batch,
so two measurements give the line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from napari_swintormer.engine.devices import is_out_of_memory, precision_name
from napari_swintormer.engine.remembered import recall, remember
from napari_swintormer.models.stepwise import run_to_end
from napari_swintormer.settings.preferences import preferences

if TYPE_CHECKING:
    import torch

    from napari_swintormer.engine.devices import Processor
    from napari_swintormer.models.tile_restorer import TileRestorer

_FILE = "device_memory"
# 8 tiles of 512 pixels: larger batches gain nothing on any device, and delay a stop.
_MOST_PIXELS = 8 * 512 * 512


def batch_size_that_fits(
    processor: Processor,
    restorer: TileRestorer,
    dtype: torch.dtype,
    tile: tuple[int, int, int],
) -> int | None:
    """Return how many tiles (C, h, w) fit on the device, at least 1; None if it does not tell.

    The need of the restorer is remembered by its `memory_key`.
    """
    free = processor.free_bytes()
    if free is None:
        return None
    size = "x".join(map(str, tile))
    key = f"{restorer.memory_key} {processor.name} {precision_name(dtype)} {size}"
    need = recall(_FILE, key) if restorer.memory_key else None
    if not _is_need(need):
        need = _measure(processor, restorer, dtype, tile)
        if need is None:
            return None
        if restorer.memory_key:
            remember(_FILE, key, need)
    fixed, per_tile = need
    share = preferences().memory_share  # other programs may take the rest meanwhile
    most = _MOST_PIXELS // (tile[1] * tile[2])
    return max(1, min(most, int((share * free - fixed) // per_tile)))


def _is_need(need: object) -> TypeGuard[list[int]]:
    """Say whether a remembered value is ``[fixed, per_tile]``."""
    return (
        isinstance(need, list)
        and len(need) == 2
        and all(isinstance(n, int) for n in need)
        and need[1] > 0
    )


def _measure(
    processor: Processor,
    restorer: TileRestorer,
    dtype: torch.dtype,
    tile: tuple[int, int, int],
) -> list[int] | None:
    """Measure ``[fixed, per_tile]`` in bytes; None if the device does not tell."""

    def peak(n: int) -> int | None:
        tiles = np.zeros((n, *tile), np.float32)
        return processor.measure(lambda: run_to_end(processor.start(restorer, dtype, tiles))())

    try:
        peak(1)  # loads libraries, and chooses methods
        one, two = peak(1), peak(2)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None  # the run starts with the usual size, and halves it if needed
    if one is None or two is None:
        return None
    per_tile = max(1, two - one)
    return [max(0, one - per_tile), per_tile]
