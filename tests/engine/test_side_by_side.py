"""A CPU restores several tiles at once: same bits, same order, and an unchanged process."""

from __future__ import annotations

import itertools
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from helpers.engine import CPU, Sharpen, noise, plan_for
from helpers.tiny import tiny_prior_card
from napari_swintormer.engine.local import run
from napari_swintormer.engine.protocol import Tile
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.engine.side_by_side import SideBySide, cpu_processor
from napari_swintormer.engine.tile_runner import TileRunner
from napari_swintormer.events import Notice, Progress
from napari_swintormer.imaging.intensity import IntensityConvention, measure_ranges
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.prior.compact import build_network
from napari_swintormer.models.prior.noise import TileOrigin
from napari_swintormer.models.restorer import PriorUse, Restorer
from napari_swintormer.models.tile_restorer import TileRestorer
from napari_swintormer.tiling.side_by_side import share_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

TILE = Tile(np.zeros((1, 8, 8), np.float32), TileOrigin(0, 0, 0))


@pytest.fixture(autouse=True)
def _four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Safe(Sharpen):
    thread_safe = True


class Meeting(TileRestorer):
    """Restores a tile only while a number of threads do."""

    channels, thread_safe = 1, True

    def __init__(self, parties: int) -> None:
        super().__init__()
        self.barrier = threading.Barrier(parties)
        self.threads: set[int] = set()

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        self.threads.add(torch.get_num_threads())
        self.barrier.wait(60)
        return tiles + 1


def tile_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("swintormer-tile")]


def deblurred(image: NDArray, runner: TileRunner) -> tuple[NDArray, list[Any]]:
    planes, out = Planes(image, "ZYX", 1), np.zeros_like(image)
    ranges = measure_ranges(planes, IntensityConvention())
    with closing(runner):
        events = list(run(plan_for(planes, blend="smooth"), planes, ranges, runner, out))
    return out, events


@pytest.mark.parametrize(
    ("threads", "batches", "shared"),
    [
        (1, 9, (1, 1)),
        (2, 9, (2, 1)),
        (6, 9, (6, 1)),
        (8, 9, (4, 2)),
        (8, 3, (3, 2)),
        (64, 1, (1, 64)),
    ],
)
def test_threads_are_shared(threads: int, batches: int, shared: tuple[int, int]) -> None:
    assert share_threads(threads, batches) == shared
    assert shared[0] * shared[1] <= threads


def test_tiles_are_restored_at_once_and_the_process_stays_as_it_was() -> None:
    restorer = Meeting(4)
    recipe = RunnerRecipe(restorer, "meeting", "cpu", "fp32", n_tiles=8)
    with closing(recipe.make()) as runner:
        changes = [change for batch in runner.changes([[TILE] * 8]) for change in batch]
        # threads that begin now have as many as before
        seen: list[int] = []
        later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        later.start()
        later.join()
    assert [float(change.mean()) for change in changes] == [1.0] * 8
    assert (restorer.threads, torch.get_num_threads(), seen) == ({1}, 4, [4])
    assert not tile_threads()


def test_results_are_those_of_one_tile_after_the_other(tiny_weights: Path) -> None:
    image = noise((2, 200, 230), "uint16")
    expected, events = deblurred(image, TileRunner(Safe(), CPU, torch.float32, 1))
    side_by_side = TileRunner(Safe(), CPU, torch.float32, 1, SideBySide(3, 1))
    result, again = deblurred(image, side_by_side)
    assert result.tobytes() == expected.tobytes()
    assert [type(e) for e in again if not isinstance(e, Progress)] == [
        type(e) for e in events if not isinstance(e, Progress)
    ]
    tiles = [
        Tile(part, TileOrigin(0, 0, 0))
        for part in np.random.default_rng(0).random((4, 3, 64, 64), np.float32)
    ]
    with closing(
        RunnerRecipe(load_model(tiny_weights), "t", "cpu", "fp32", n_tiles=1).make()
    ) as runner:
        alone = [change for batch in runner.changes([tiles]) for change in batch]
    with closing(
        RunnerRecipe(load_model(tiny_weights), "t", "cpu", "fp32", n_tiles=4).make()
    ) as runner:
        beside = [change for batch in runner.changes([tiles]) for change in batch]
    np.testing.assert_array_equal(beside, alone)


def test_a_restorer_that_is_not_known_to_be_safe_has_the_cpu_alone() -> None:
    assert cpu_processor(Sharpen(), 9).ahead == 0
    assert cpu_processor(Safe(), 1).ahead == 0
    with closing(cpu_processor(Safe(), 9)) as processor:
        assert processor.ahead == 4


def test_steps_are_told_and_a_stop_waits_for_one_step_only() -> None:
    card = tiny_prior_card()
    state = build_network(card.network, card.prior).state_dict()
    restorer = Restorer(card, state).with_prior(PriorUse(num_inference_steps=5))
    tiles = [Tile(np.zeros((3, 32, 32), np.float32), TileOrigin(0, 0, 0))] * 4
    total = restorer.count_steps(32, 32)
    runner = TileRunner(restorer, CPU, torch.float32, 1, SideBySide(2, 1))
    with closing(runner):
        seen = [runner.steps.done if not done else "tile" for done in runner.changes([tiles])]
    assert seen == [*range(1, total + 1), "tile"] * 4
    runner = TileRunner(restorer, CPU, torch.float32, 1, SideBySide(2, 1))
    with closing(runner), closing(runner.changes([tiles])) as changes:
        assert next(changes) == []
    assert not tile_threads()


def test_less_memory_means_fewer_tiles_at_once_and_the_same_bits() -> None:
    class Large(Safe):
        number = itertools.count(1)

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            if next(self.number) in (3, 9):
                raise MemoryError
            return super().forward(tiles)

    image = noise((1, 200, 230), "uint16")
    expected, _ = deblurred(image, TileRunner(Safe(), CPU, torch.float32, 1))
    runner = TileRunner(Large(), CPU, torch.float32, 1, SideBySide(4, 1))
    result, events = deblurred(image, runner)
    assert result.tobytes() == expected.tobytes()
    told = [event.message for event in events if isinstance(event, Notice)]
    assert told == [f"Memory ran out on CPU; going on with {n} tiles at a time." for n in (3, 2)]


def test_an_error_in_a_tile_ends_the_run() -> None:
    class Wrong(Safe):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        deblurred(
            noise((1, 200, 230), "uint8"),
            TileRunner(Wrong(), CPU, torch.float32, 1, SideBySide(2, 1)),
        )
    assert not tile_threads()
