"""The batch size that fits is measured with two small batches, and remembered."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from napari_swintormer.engine import runners
from napari_swintormer.engine.calibration import batch_size_that_fits
from napari_swintormer.engine.devices import Processor
from napari_swintormer.engine.protocol import Tile
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.settings.preferences import cache_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_swintormer.models.tile_restorer import TileRestorer

CPU = torch.device("cpu")
FIXED, PER_TILE = 5_000_000, 1_000_000


class Measured(Processor):
    """A device, made of the CPU, that knows its memory."""

    name = "a device that knows"

    def __init__(self, free: int, refuses: int = 100) -> None:
        super().__init__(CPU)
        self.free, self.refuses, self.started = free, refuses, list[int]()

    def start(self, restorer: TileRestorer, dtype: torch.dtype, tiles: NDArray, *rest: Any) -> Any:
        if len(tiles) >= self.refuses:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.started.append(len(tiles))
        return super().start(restorer, dtype, tiles, *rest)

    def measure(self, work: Callable[[], object]) -> int:
        work()
        return FIXED + PER_TILE * self.started[-1]

    def free_bytes(self) -> int:
        return self.free


class Known(IdentityRestorer):
    sha256 = "abc"


@pytest.mark.parametrize(
    ("free", "tile", "fits"),
    [
        (20_000_000, (1, 64, 64), 12),  # 85 % of 20 are 17, less the 5 that are fixed
        (100_000_000_000, (3, 512, 512), 8),
        (1, (1, 64, 64), 1),
    ],
)
def test_the_batch_size_follows_from_free_and_needed_memory(
    free: int, tile: tuple[int, int, int], fits: int
) -> None:
    device = Measured(free)
    for _ in range(2):  # the second time, what is needed is known
        assert batch_size_that_fits(device, Known(), torch.float32, tile) == fits
        assert device.started == [1, 1, 2]
    batch_size_that_fits(device, IdentityRestorer(), torch.float32, tile)  # its weights: unknown
    batch_size_that_fits(device, Known(), torch.bfloat16, tile)
    assert device.started == 3 * [1, 1, 2]


@pytest.mark.parametrize("damage", [3, [1], [1, 0], ["a", "b"], None])
def test_damaged_memory_is_measured_again(damage: object) -> None:
    device = Measured(20_000_000)
    batch_size_that_fits(device, Known(), torch.float32, (1, 8, 8))
    (file,) = cache_folder().iterdir()
    (key,) = json.loads(file.read_text())
    file.write_text(json.dumps({key: damage}))
    assert batch_size_that_fits(device, Known(), torch.float32, (1, 8, 8)) == 12
    assert device.started == 2 * [1, 1, 2]


def test_a_device_of_unknown_memory_takes_the_usual_batch_size() -> None:
    assert batch_size_that_fits(Processor(CPU), Known(), torch.float32, (1, 8, 8)) is None
    full = Measured(20_000_000, refuses=2)
    assert batch_size_that_fits(full, Known(), torch.float32, (1, 8, 8)) is None


def test_runners_take_the_batch_size_that_fits_unless_one_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runners, "cpu_processor", lambda *_: Measured(20_000_000))
    recipe = RunnerRecipe(Known(), "known", "cpu", "fp32", tile=(1, 64, 64))
    runner = recipe.make()
    assert runner.batch_size == 12
    group = [Tile(np.full((1, 64, 64), 0.5, np.float32), TileOrigin(0, 0, 0))] * 30
    assert [len(batch) for batch in runner.changes([group])] == [12, 12, 6]
    told = RunnerRecipe(Known(), "known", "cpu", "fp32", batch_size=3, tile=(1, 64, 64))
    assert told.make().batch_size == 3
