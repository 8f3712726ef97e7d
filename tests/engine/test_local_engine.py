"""The local engine: chunking, identity, memory, stopping and resuming."""

from __future__ import annotations

import threading
import tracemalloc
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import pytest
import torch
import zarr

from helpers.engine import BLOCK, CPU, TILE, MemoryJournal, Sharpen, noise, plan_for
from napari_swintormer.engine.blocks import finish_chunk, restore_block
from napari_swintormer.engine.local import run
from napari_swintormer.engine.tile_runner import TileRunner
from napari_swintormer.errors import SettingsError
from napari_swintormer.events import ChunkFinished, Event, Progress
from napari_swintormer.imaging.intensity import (
    IntensityConvention,
    IntensityRange,
    measure_ranges,
)
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.models.tile_restorer import TileRestorer
from napari_swintormer.tiling.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_swintormer.settings.deblur_settings import Blend


def events(
    data: Any,
    axes: str,
    restorer: TileRestorer,
    out: Any,
    journal: MemoryJournal | None = None,
    dtype: torch.dtype = torch.float32,
    **settings: Any,
) -> Generator[Event, None, None]:
    planes = Planes(data, axes, restorer.channels)
    ranges = measure_ranges(planes, IntensityConvention())
    plan = plan_for(planes, **settings)
    runner = TileRunner(restorer, CPU, dtype, plan.batch_size)
    return run(plan, planes, ranges, runner, out, journal)


def deblur(data: Any, axes: str, restorer: TileRestorer, **settings: Any) -> np.ndarray:
    out = np.zeros(data.shape, data.dtype)
    for _ in events(data, axes, restorer, out, **settings):
        pass
    return out


# --- Identity in, identity out -------------------------------------------------------------

LAYOUTS = [("YX", (), ()), ("YXS", (), (3,)), ("CZYX", (2, 2), ()), ("TYXS", (2,), (4,))]
SHAPES = [(1, 1), (19, 37), (257, 255), (600, 900)]
DTYPES = ["uint8", "uint16", "int16", "float32"]
OVERLAPS = [0, 1, 20, 33]


@pytest.mark.parametrize(
    ("number", "shape", "dtype", "overlap"),
    [(number, *case) for number, case in enumerate(product(SHAPES, DTYPES, OVERLAPS))],
)
def test_an_identity_restorer_changes_no_bit(
    number: int, shape: tuple[int, int], dtype: str, overlap: int
) -> None:
    axes, before, after = LAYOUTS[(number + number // 4) % 4]  # meets every shape, dtype, overlap
    data = noise((*before, *shape, *after), dtype)
    if dtype == "float32":
        data.flat[::7] = np.nan
        data.flat[3::11] = np.inf
    restorer = IdentityRestorer(1)
    restorer.channels = 3 if number % 2 else 1
    result = deblur(data, axes, restorer, overlap=overlap, blend=("uniform", "smooth")[number % 2])
    assert result.dtype == data.dtype
    assert result.tobytes() == data.tobytes()


# --- Chunking changes nothing --------------------------------------------------------------


def naive_weights(start: int, length: int, overlap: int, blend: Blend) -> list[float]:
    weights = []
    for pixel in range(TILE):
        distances = [pixel + 0.5] * (start > 0) + [TILE - pixel - 0.5] * (start < length - TILE)
        ramps = [np.sin(np.pi / 2 * d / overlap) ** 2 for d in distances if d < overlap]
        weights.append(min(ramps, default=1.0) if blend == "smooth" else 1.0)
    return weights


@pytest.mark.parametrize("blend", ["uniform", "smooth"])
@pytest.mark.parametrize("overlap", [0, 20, 45])
def test_the_result_equals_an_average_of_tiles_made_one_by_one(overlap: int, blend: Blend) -> None:
    height, width, step = 300, 201, TILE - overlap
    image = noise((height, width), "float32")
    restorer = Sharpen()
    (intensity,) = measure_ranges(Planes(image, "YX", 1), IntensityConvention())
    total, weight_sum = np.zeros(image.shape), np.zeros(image.shape)
    for top in [*range(0, height - TILE, step), height - TILE]:
        for left in [*range(0, width - TILE, step), width - TILE]:
            tile = np.s_[top : top + TILE, left : left + TILE]
            unit = (image[tile] - intensity.low) / (intensity.high - intensity.low)
            restored = restorer(torch.from_numpy(unit.astype("float32"))[None, None])[0, 0]
            weights = np.outer(
                naive_weights(top, height, overlap, blend),
                naive_weights(left, width, overlap, blend),
            )
            total[tile] += weights * restored.numpy()
            weight_sum[tile] += weights
    expected = intensity.low + (intensity.high - intensity.low) * total / weight_sum
    result = deblur(image, "YX", restorer, overlap=overlap, blend=blend)
    np.testing.assert_allclose(result, expected, atol=1e-5 * (intensity.high - intensity.low))


@pytest.mark.parametrize("storage", ["dask", "zarr"])
def test_chunks_of_the_input_change_no_bit(storage: str) -> None:
    image = noise((2, 190, 231), "uint16")
    restorer = Sharpen()
    if storage == "dask":
        stored = da.from_array(image, chunks=(1, 37, 101))
    else:
        stored = zarr.create_array({}, data=image, chunks=(2, 53, 29))
    whole = deblur(image, "ZYX", restorer)
    assert (whole != image).mean() > 0.9  # the restorer did something
    assert deblur(stored, "ZYX", restorer).tobytes() == whole.tobytes()


@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_batch_size_changes_nothing(batch_size: int) -> None:
    image = noise((200, 150), "float32")
    single = deblur(image, "YX", Sharpen(), batch_size=1)
    batched = deblur(image, "YX", Sharpen(), batch_size=batch_size)
    np.testing.assert_allclose(batched, single, atol=1e-6)


def test_order_of_work_changes_no_bit() -> None:
    """The two functions of a block as tasks in any order, as a graph of tasks would run them."""
    image = noise((300, 290), "uint16")
    restorer = Sharpen()
    planes = Planes(image, "YX", 1)
    (intensity,) = measure_ranges(planes, IntensityConvention())
    blending = plan_for(planes).blending
    grid, runner = blending.grid, TileRunner(restorer, CPU, torch.float32, 3)
    sums = {
        block: restore_block(
            planes.read(0, *grid.source(block).slices), block, blending, intensity, 0, runner
        )
        for block in reversed(list(grid.blocks()))
        if grid.count_tiles(block)
    }
    result = np.zeros_like(image)
    for chunk in sorted(grid.blocks(), key=lambda block: block[::-1]):
        region = grid.chunk(chunk).slices
        parts = [sums[block][chunk] for block in grid.contributors(chunk)]
        values, *_ = finish_chunk(planes.read(0, *region), chunk, parts, blending, intensity)
        result[region] = values[0]
    assert result.tobytes() == deblur(image, "YX", restorer).tobytes()


def test_lower_precision_is_close() -> None:
    image = noise((100, 100), "float32")
    full = deblur(image, "YX", Sharpen())
    lower = deblur(image, "YX", Sharpen(), dtype=torch.bfloat16)
    assert 0 < np.abs(lower - full).max() < 0.02 * np.abs(full - image).max()


# --- Stop and go ---------------------------------------------------------------------------


@pytest.mark.parametrize("stop_after", [0, 1, 2, 5, 9, 17, 23, 30])
def test_a_stopped_run_is_completed_to_the_same_bits(stop_after: int) -> None:
    image = noise((2, 300, 290), "int16")
    expected = deblur(image, "ZYX", Sharpen())
    out, journal = np.zeros_like(image), MemoryJournal()
    first = events(image, "ZYX", Sharpen(), out, journal)
    for _ in range(stop_after):
        next(first)
    first.close()
    written_before = list(journal.chunks)
    resumed = list(events(image, "ZYX", Sharpen(), out, journal))
    assert out.tobytes() == expected.tobytes()
    assert len(set(journal.chunks)) == len(journal.chunks) == 2 * 3 * 3  # none was made twice
    assert sum(isinstance(event, ChunkFinished) for event in resumed) == 18 - len(written_before)


def test_a_resumed_run_restores_only_what_is_missing() -> None:
    image = noise((300, 290), "uint8")
    planes = Planes(image, "YX", 1)
    expected = deblur(image, "YX", Sharpen(), batch_size=1)
    out, journal, restorer = expected.copy(), MemoryJournal(), Sharpen()
    grid = plan_for(planes).grid
    journal.chunks = [(0, *block) for block in grid.blocks() if block != (1, 1)]
    out[grid.chunk((1, 1)).slices] = 0
    seen = list(events(image, "YX", restorer, out, journal, batch_size=1))
    assert out.tobytes() == expected.tobytes()
    assert restorer.calls == sum(map(grid.count_tiles, grid.contributors((1, 1))))
    progress = [event for event in seen if isinstance(event, Progress)]
    assert progress[0].done == grid.n_tiles - restorer.calls + 1
    assert progress[-1].done == progress[-1].total == grid.n_tiles
    assert list(events(image, "YX", restorer, out, journal)) == []  # nothing is left to do


def test_closing_stops_within_one_batch() -> None:
    image = noise((300, 290), "uint8")
    restorer, journal = Sharpen(), MemoryJournal()
    out = np.zeros_like(image)
    stream = events(image, "YX", restorer, out, journal, batch_size=2)
    assert restorer.calls == 0
    for calls in range(1, 8):
        assert isinstance(next(e for e in stream if isinstance(e, Progress)), Progress)
        assert restorer.calls == calls
    stream.close()
    assert restorer.calls == 7
    assert not torch.is_inference_mode_enabled()


def test_events_count_the_finished_tiles_and_chunks() -> None:
    image = noise((2, 300, 290), "uint8")
    out = np.zeros_like(image)
    seen = []
    for event in events(image, "ZYX", IdentityRestorer(1), out):
        seen.append(event)
        if isinstance(event, ChunkFinished):  # what it tells is already there
            index = np.s_[event.plane, slice(*event.y), slice(*event.x)]
            assert (out[index] == image[index]).all()
    progress = [event for event in seen if isinstance(event, Progress)]
    assert progress[-1].done == progress[-1].total == 2 * 7 * 7
    assert progress[-1].eta == 0
    assert all(a.done < b.done and a.elapsed <= b.elapsed for a, b in pairwise(progress))
    assert all(event.eta is not None and event.eta > 0 for event in progress[:-1])
    assert isinstance(seen[-1], ChunkFinished)


# --- Memory does not grow with the image ---------------------------------------------------


class Endless:
    """A tall image that exists only where it is read; keeps the largest region asked for."""

    dtype = np.dtype("uint16")

    def __init__(self, height: int, width: int) -> None:
        self.shape = (height, width)
        self.largest, self.pixels = 0, 0

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        y, x = (
            np.arange(*i.indices(n), dtype=self.dtype)
            for i, n in zip(index, self.shape, strict=True)
        )
        self.largest = max(self.largest, y.size * x.size)
        self.pixels += y.size * x.size
        return y[:, None] * 31 + x * 17

    def __setitem__(self, index: tuple[slice, slice], values: np.ndarray) -> None:
        pass


def test_peak_memory_does_not_grow_with_the_height() -> None:
    def peak(height: int) -> tuple[int, int]:
        image = Endless(height, 1500)
        planes = Planes(image, "YX", 1)
        plan = make_plan(planes.shape, dtype="uint16", tile_size=512, overlap=256)
        ranges = [IntensityRange(0, 65535, 0, 65535)]
        runner = TileRunner(IdentityRestorer(1), CPU, torch.float32, 1)
        stream = run(plan, planes, ranges, runner, image)
        tracemalloc.start()
        for _ in stream:
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert image.largest <= (1024 + 512) ** 2
        assert image.pixels < 2.25 * height * 1500  # the tiles of a block are read together
        return used, plan.host_bytes

    (low, planned), (high, planned_high) = peak(3300), peak(6300)
    assert planned == planned_high
    # how much of it is there at the same time depends on the threads
    assert 0.3 * planned < high < planned
    assert low < planned


# --- Reading, restoring and writing at the same time -----------------------------------------


class Watched:
    """An image, and the result, that tell when a part is read or written."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.parts = 0
        self.touched = threading.Condition()
        self.open = threading.Event()
        self.open.set()

    def __getitem__(self, index: Any) -> np.ndarray:
        with self.touched:
            self.parts += 1
            self.touched.notify_all()
        return self.array[index]

    def __setitem__(self, index: Any, values: np.ndarray) -> None:
        assert self.open.wait(timeout=200)
        self.array[index] = values
        self[index]

    def wait_for(self, parts: int) -> bool:
        with self.touched:
            return self.touched.wait_for(lambda: self.parts >= parts, timeout=200)


def test_the_next_block_is_read_while_one_is_restored_and_no_further() -> None:
    image = Watched(noise((3 * BLOCK, BLOCK), "uint8"))
    planes = Planes(image, "YX", 1)
    plan = plan_for(planes, batch_size=100)
    ranges = [IntensityRange(0, 255, 0, 255)]
    seen = []

    class Waiting(TileRestorer):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            blocks = len(seen) + 1
            assert image.wait_for(min(blocks + 1, 3))
            seen.append(image.parts)
            return tiles

    runner = TileRunner(Waiting(), CPU, torch.float32, plan.batch_size)
    for _ in run(plan, planes, ranges, runner, np.zeros(image.shape, "uint8")):
        pass
    assert seen == [2, 3, 3]


def test_the_next_block_is_restored_while_one_is_written_and_no_further() -> None:
    image, out = noise((4 * BLOCK, BLOCK), "uint8"), Watched(np.zeros((4 * BLOCK, BLOCK), "uint8"))
    planes = Planes(image, "YX", 1)
    plan = plan_for(planes, batch_size=100)
    runner = TileRunner(IdentityRestorer(1), CPU, torch.float32, plan.batch_size)
    stream = run(plan, planes, [IntensityRange(0, 255, 0, 255)], runner, out)
    out.open.clear()
    assert [type(next(stream)) for _ in range(2)] == [Progress, Progress]
    assert out.parts == 0
    out.open.set()
    assert isinstance(next(stream), ChunkFinished)  # waits: two chunks would be in memory
    for _ in stream:
        pass
    assert out.array.tobytes() == image.tobytes()


def test_an_error_in_another_thread_ends_the_run() -> None:
    class Broken(Endless):
        def __setitem__(self, index: Any, values: np.ndarray) -> None:
            raise OSError(28, "no space")

    class Unreadable(Endless):
        def __getitem__(self, index: Any) -> np.ndarray:
            raise MemoryError

    good = Endless(300, 200)
    for image, out, error in (
        (good, Broken(300, 200), OSError),
        (Unreadable(300, 200), good, SettingsError),
    ):
        planes = Planes(image, "YX", 1)
        runner = TileRunner(IdentityRestorer(1), CPU, torch.float32, 1)
        with pytest.raises(error):
            list(run(plan_for(planes), planes, [IntensityRange(0, 1, 0, 1)], runner, out))


# --- Values that are not finite -----------------------------------------------------------


def test_one_missing_pixel_stays_one_missing_pixel() -> None:
    image = noise((100, 100), "float32")
    image[50, 50] = np.nan
    result = deblur(image, "YX", Sharpen())
    assert np.argwhere(~np.isfinite(result)).tolist() == [[50, 50]]


class Overflow(TileRestorer):
    channels = 1

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles / 0


def test_a_restorer_that_overflows_ends_in_a_sentence() -> None:
    with pytest.raises(SettingsError, match=r"not finite .*Use precision='fp32'"):
        deblur(noise((100, 100), "uint8"), "YX", Overflow())
