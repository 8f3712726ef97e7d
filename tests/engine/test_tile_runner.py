"""When memory runs out, a run continues with smaller batches, then on the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from helpers.engine import Sharpen, noise, plan_for
from napari_swintormer.engine import runners
from napari_swintormer.engine.devices import Processor, is_out_of_memory, resolve_device
from napari_swintormer.engine.local import run
from napari_swintormer.engine.protocol import Tile
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.engine.tile_runner import TileRunner
from napari_swintormer.errors import SettingsError
from napari_swintormer.events import Notice, Progress
from napari_swintormer.imaging.intensity import IntensityConvention, measure_ranges
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.network.block import Block
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling.grid import Region

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.models.stepwise import Stepwise
    from napari_swintormer.models.tile_restorer import TileRestorer

CPU = torch.device("cpu")
EMPTY = Tile(np.zeros((1, 8, 8), np.float32), TileOrigin(0, 0, 0))
TILE_BYTES = 4 * 64 * 64


class SmallDevice(Processor):
    """A device, made of the CPU, that has memory for a number of tiles and no more."""

    name = "a small device"

    def __init__(self, tiles: int, ahead: int = 0, late: bool = False) -> None:
        super().__init__(torch.device("meta"))
        self.limit, self.ahead, self._late = tiles * TILE_BYTES, ahead, late
        self.used = self.released = self.most = 0

    def start(
        self, restorer: TileRestorer, dtype: torch.dtype, tiles: NDArray, _origins: object
    ) -> Stepwise[Callable[[], NDArray]]:
        def full() -> NDArray:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        if self.used + tiles.nbytes > self.limit:
            if not self._late:
                full()
            yield
            return full
        self.used += tiles.nbytes
        self.most = max(self.most, len(tiles))
        restored = restorer(torch.from_numpy(tiles)).numpy()

        def wait() -> NDArray:
            self.used -= tiles.nbytes
            return restored

        yield
        return wait

    def release(self) -> None:
        self.released += 1
        self.used = 0


def restored(
    image: NDArray, processor: Processor | None, batch_size: int
) -> tuple[NDArray, list[str], TileRunner]:
    planes = Planes(image, "ZYX", 1)
    ranges = measure_ranges(planes, IntensityConvention())
    device = CPU if processor is None else processor.device
    runner = TileRunner(Sharpen(), device, torch.float32, batch_size, processor)
    out, plan = np.zeros_like(image), plan_for(planes)
    events = list(run(plan, planes, ranges, runner, out))
    counts = [event.done for event in events if isinstance(event, Progress)]
    assert counts == sorted(set(counts))
    assert counts[-1] == plan.n_tiles  # none is lost, none restored twice
    return out, [event.message for event in events if isinstance(event, Notice)], runner


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("room", [8, 3, 1, 0])
def test_a_run_continues_with_smaller_batches_and_at_last_on_the_cpu(
    room: int, ahead: int, late: bool
) -> None:
    image = noise((2, 300, 290), "uint16")
    expected, nothing, _ = restored(image, None, 1)
    assert nothing == []
    small = SmallDevice(room, ahead, late)
    result, notices, runner = restored(image, small, 8)
    np.testing.assert_allclose(result.astype(int), expected, atol=1)
    assert small.released >= len(notices) > 0 or room >= 8 * (1 + ahead)
    assert small.most <= max(room, 1)
    assert runner.device == (torch.device("meta") if room else CPU)
    assert runner.batch_size <= max(room, 1)
    if ahead == 0:
        halves = ["with 8 tiles at once; going on with 4", "with 4 tiles at once; going on with 2",
                  "with 2 tiles at once; going on with 1", "going on with the CPU"]  # fmt: skip
        wanted = halves[: {8: 0, 3: 2, 1: 3, 0: 4}[room]]
        assert all(part in notice for part, notice in zip(wanted, notices, strict=True))
        assert all("a small device" in notice for notice in notices)


def test_memory_too_small_for_a_tile_on_the_cpu_ends_in_a_sentence() -> None:
    class Huge(Sharpen):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            torch.empty(2**50)  # fails for real
            return tiles

    runner = TileRunner(Huge(), CPU, torch.float32, 2)
    with pytest.raises(SettingsError, match=r"too small for a single tile .*Use a smaller"):
        list(runner.changes([[EMPTY] * 3]))
    assert "with 2 tiles at once; going on with 1" in runner.take_notices()[0].message


def test_other_errors_are_not_taken_for_little_memory() -> None:
    class Wrong(Sharpen):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            return tiles @ tiles.new_zeros(3, 5)

    runner = TileRunner(Wrong(), CPU, torch.float32, 2)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        list(runner.changes([[EMPTY] * 3]))


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("HIP out of memory. Tried to allocate 20.00 MiB."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 5.40 GB, max allowed ..."), True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 b"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_errors_are_recognised_as_out_of_memory(error: Exception, answer: bool) -> None:
    assert is_out_of_memory(error) is answer


def test_a_restorer_comes_back_from_its_device_with_nothing_of_it(tiny_weights: Path) -> None:
    restorer = load_model(tiny_weights)
    with torch.inference_mode():
        restorer(torch.rand(1, 3, 64, 64))
    blocks = [module for module in restorer.modules() if isinstance(module, Block)]
    assert all(block._prepared for block in blocks)
    moves: list[torch.device] = []

    def to(device: torch.device) -> TileRestorer:
        moves.append(device)
        return type(restorer).to(restorer, torch.device("meta"))  # stands for another device

    restorer.to = to  # type: ignore[method-assign, assignment]
    runner = TileRunner(restorer, torch.device("meta"), torch.float32, 1, SmallDevice(0))
    runner.close()
    assert moves == [CPU]
    assert not any(block._prepared for block in blocks)


def test_a_recipe_is_pickled_without_tensors_of_a_device() -> None:
    class OnDevice(Sharpen):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("far", torch.zeros(1, device="meta"))

        def to(self, device: str) -> OnDevice:  # type: ignore[override]
            self.far = torch.zeros(1, device=device)
            return self

    restorer = OnDevice()
    sent = RunnerRecipe(restorer, "far").__getstate__()["restorer"]
    assert sent.far.device == CPU
    assert restorer.far.device.type == "meta"


def test_weights_that_do_not_fit_on_the_device_run_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Large(Sharpen):
        def to(self, device: torch.device) -> Large:  # type: ignore[override]
            if device.type != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return self

    monkeypatch.setattr(runners.devices, "resolve_device", lambda _: torch.device("meta"))
    runner = RunnerRecipe(Large(), "large", precision="fp32", batch_size=4).make()
    assert (runner.device, runner.batch_size) == (CPU, 1)
    assert "going on with the CPU" in runner.take_notices()[0].message


@pytest.mark.gpu
def test_a_full_real_gpu_continues_with_smaller_batches() -> None:
    """Fill the device but for a little, then restore with batches that do not fit."""
    device = resolve_device("auto")
    assert device.type == "cuda"
    free, _ = torch.cuda.mem_get_info(device)
    ballast = torch.empty(free - 600 * 2**20, dtype=torch.uint8, device=device)

    class Hungry(Sharpen):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            room = tiles.new_empty(len(tiles), 64 * 2**18)  # 64 MiB for each tile
            return super().forward(tiles) + 0 * room[0, 0]

    restorer = Hungry().to(device)
    runner = TileRunner(restorer, device, torch.float32, 16)
    tiles = [np.random.default_rng(i).random((1, 64, 64), np.float32) for i in range(40)]
    placed = [Tile(tile, TileOrigin(0, 0, 0)) for tile in tiles]
    got = [change for batch in runner.changes([placed]) for change in batch]
    assert "with 16 tiles at once; going on with 8" in runner.take_notices()[0].message
    del ballast
    expected = Sharpen()(torch.from_numpy(np.stack(tiles))).numpy() - np.stack(tiles)
    np.testing.assert_allclose(np.stack(got), expected, atol=1e-4)


@pytest.mark.gpu
def test_a_stopped_run_releases_the_memory_of_the_gpu(tiny_weights: Path) -> None:
    image = np.random.default_rng(0).random((2000, 2000), np.float32)
    job = prepare(image, DeblurSettings(model=str(tiny_weights), device="cuda"))
    for _ in job.preview({}, Region(0, 64, 0, 64)):  # libraries take what they keep
        pass
    before = torch.cuda.memory_reserved()
    events = job.run(np.empty_like(image))
    while not isinstance(next(events), Progress):
        pass
    assert torch.cuda.memory_reserved() > before
    events.close()
    assert torch.cuda.memory_reserved() <= before + 32 * 2**20
