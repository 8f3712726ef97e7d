"""Whether a device computes what the CPU computes: one tile is restored on both and compared.

Drivers and devices have faults that no message tells: wrong kernels, overflow, half precision that
is none. The look is taken once for a device, its driver, the release of torch, the weights and the
precision, and remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from napari_swintormer.engine.devices import (
    driver_name,
    is_out_of_memory,
    precision_name,
    processor_for,
)
from napari_swintormer.engine.remembered import recall, remember
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.stepwise import run_to_end

if TYPE_CHECKING:
    from napari_swintormer.engine.devices import Pixels, Processor
    from napari_swintormer.models.tile_restorer import TileRestorer

_FILE = "device_trust"
_SIDE = 128  # pixels of the tile
# Largest difference from the CPU's result, as a share of what the model changes; root mean squares.
# Models of this size differ by 0.008 to 0.012 in bf16 on a CPU.
_TOLERANCES = {"fp32": 0.01, "tf32": 0.03, "fp16": 0.05, "bf16": 0.1}
_LEAST_CHANGE = 0.01  # a model that changes less is held to this, in unit intensities
_CPU = torch.device("cpu")


def fault_of(
    processor: Processor, restorer: TileRestorer, dtype: torch.dtype, *, tf32: bool = False
) -> str:
    """Compare a device with the CPU, or recall what an earlier look found.

    Returns what is wrong, as the end of a sentence about the device; empty if nothing is. The
    restorer moves to the device. `TileRestorer.trials` says what is looked at.
    """
    device = processor.device
    if device == _CPU or not restorer.movable:
        restorer.to(device)
        return ""
    precision = "tf32" if tf32 else precision_name(dtype)
    software = f"{processor.name} {driver_name(device)} torch {torch.__version__} {precision}"
    found = ""
    for name, plane in restorer.trials().items():
        fault = recall(_FILE, f"{name} {software}")
        if not isinstance(fault, str):
            fault = _look(processor, restorer, dtype, plane, precision)
            if fault is None:
                break
            remember(_FILE, f"{name} {software}", fault)
        found = found or fault
    restorer.to(device)
    return found


def _look(
    processor: Processor, restorer: TileRestorer, dtype: torch.dtype, plane: int, precision: str
) -> str | None:
    """Restore a tile on the CPU and on the device; None if the device has too little memory."""
    tile, origin = _tile(restorer), TileOrigin(plane, 0, 0)
    expected = _restore(processor_for(_CPU), restorer.to(_CPU), torch.float32, tile, origin)
    restorer.to(processor.device)
    try:
        restored = _restore(processor, restorer, dtype, tile, origin)
    except (RuntimeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            return None  # the run itself finds out, and says so
        return f"refuses the model ({str(error).strip().partition(chr(10))[0]})"
    return _compare(restored, expected, tile, precision)


def _restore(
    processor: Processor,
    restorer: TileRestorer,
    dtype: torch.dtype,
    tile: Pixels,
    origin: TileOrigin,
) -> Pixels:
    return run_to_end(processor.start(restorer, dtype, tile, [origin]))()


def _compare(restored: Pixels, expected: Pixels, tile: Pixels, precision: str) -> str:
    """Return what is wrong with a restored tile; empty if nothing is."""
    if not np.isfinite(restored).all():
        return "gives values that are not finite"
    channels = tile.shape[1]
    margin = (tile.shape[2] - expected.shape[2]) // 2
    inner = tile[:, :, margin : tile.shape[2] - margin, margin : tile.shape[3] - margin]
    change = max(_root_mean_square(expected[:, :channels] - inner), _LEAST_CHANGE)
    error = _root_mean_square(restored - expected) / change
    if error <= _TOLERANCES[precision]:
        return ""
    return f"gives wrong values (off by {error:.0%} of what the model changes)"


def _tile(restorer: TileRestorer) -> Pixels:
    """Make a tile of waves, edges and noise, the same each time: ``(1, V * C, H, W)``."""
    side = _SIDE + 2 * restorer.margin
    y, x = np.mgrid[:side, :side].astype(np.float32)
    waves = 0.45 + 0.2 * np.sin(0.31 * x) * np.cos(0.17 * y + 0.001 * x * y)
    edges = 0.25 * (((x // 21) + (y // 17)) % 2)
    noise = np.random.default_rng(0).normal(0, 0.01, (restorer.channels, side, side))
    tile = (waves + edges + noise).astype(np.float32)
    return np.ascontiguousarray(np.concatenate([tile] * restorer.views)[None])


def _root_mean_square(values: Pixels) -> float:
    return float(np.sqrt(np.square(values, dtype=np.float64).mean()))
