"""Several devices share a run, and make the bits of one device in the same order."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from helpers.engine import BLOCK, CPU, MemoryJournal, Sharpen, noise, plan_for
from napari_swintormer.engine import runners
from napari_swintormer.engine.devices import Processor
from napari_swintormer.engine.local import run
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.engine.team import RunnerTeam
from napari_swintormer.engine.tile_runner import TileRunner
from napari_swintormer.events import ChunkFinished, Notice, Progress
from napari_swintormer.imaging.intensity import IntensityConvention, measure_ranges
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.events import Event

BATCH = 3


class Device(Processor):
    """A device, made of the CPU, that counts its batches and can be held."""

    def __init__(self, name: str) -> None:
        super().__init__(CPU)
        self._name, self.batches, self.blocks = name, 0, threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    @property
    def name(self) -> str:
        return self._name

    def start(self, *work: Any) -> Any:
        self.batches += 1
        self.blocks.release()
        assert self.open.wait(60)
        return super().start(*work)


def team(*devices: Device, batch_size: int = BATCH) -> RunnerTeam:
    return RunnerTeam([TileRunner(Sharpen(), CPU, torch.float32, batch_size, d) for d in devices])


def events(image: NDArray, out: NDArray, runner: TileRunner | RunnerTeam) -> Iterator[Event]:
    planes = Planes(image, "ZYX", 1)
    ranges = measure_ranges(planes, IntensityConvention())
    return run(plan_for(planes, blend="smooth"), planes, ranges, runner, out)


def alone(image: NDArray, batch_size: int = BATCH) -> NDArray:
    out = np.zeros_like(image)
    for _ in events(image, out, TileRunner(Sharpen(), CPU, torch.float32, batch_size)):
        pass
    return out


@pytest.mark.parametrize("n_devices", [1, 2, 3])
def test_a_team_makes_the_bits_and_the_order_of_one_runner(n_devices: int) -> None:
    image = noise((2, 300, 430), "int16")
    out = np.zeros_like(image)
    devices = [Device(f"device {n}") for n in range(n_devices)]
    seen = list(events(image, out, team(*devices)))
    assert out.tobytes() == alone(image).tobytes()
    done = [event.done for event in seen if isinstance(event, Progress)]
    assert done == sorted(set(done))
    assert done[-1] == plan_for(Planes(image, "ZYX", 1)).n_tiles
    finished = [(e.plane, e.y, e.x) for e in seen if isinstance(e, ChunkFinished)]
    assert finished == sorted(finished)
    assert sum(device.batches for device in devices) == len(done)


def test_a_stuck_device_stops_the_others_after_a_few_blocks() -> None:
    image = noise((1, BLOCK, 20 * BLOCK), "uint8")
    out, slow, fast = np.zeros_like(image), Device("slow"), Device("fast")
    slow.open.clear()
    fast.open.clear()  # until the slow one has its block
    runner = team(slow, fast, batch_size=100)  # a batch is a block
    seen: list[Event] = []
    reader = threading.Thread(target=lambda: seen.extend(events(image, out, runner)))
    reader.start()
    assert slow.blocks.acquire(timeout=60)
    fast.open.set()
    for _ in range(3):
        assert fast.blocks.acquire(timeout=60)
    while fast.blocks.acquire(timeout=0.2):
        pass
    assert fast.batches <= 4  # of four under way the slow one has one; one may have been before it
    slow.open.set()
    reader.join(60)
    assert not reader.is_alive()
    assert out.tobytes() == alone(image, 100).tobytes()


def test_closing_ends_all_devices_after_their_current_batch() -> None:
    image = noise((1, 300, 430), "uint8")
    devices = Device("a"), Device("b")
    with closing(events(image, np.zeros_like(image), team(*devices))) as stream:
        next(stream)
    assert not [t for t in threading.enumerate() if t.name.startswith("swintormer-device")]
    batches = [device.batches for device in devices]
    assert sum(batches) < plan_for(Planes(image, "ZYX", 1)).n_tiles / BATCH


def test_an_error_on_one_device_ends_the_run() -> None:
    class Broken(Device):
        def start(self, *_: object) -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    image = noise((1, 300, 430), "uint8")
    with pytest.raises(RuntimeError, match="illegal memory access"):
        list(events(image, np.zeros_like(image), team(Device("good"), Broken("broken"))))
    assert not [t for t in threading.enumerate() if t.name.startswith("swintormer-device")]


def test_a_full_device_takes_smaller_batches_and_says_so() -> None:
    class Full(Device):
        def start(self, restorer: Any, dtype: torch.dtype, tiles: NDArray, *rest: Any) -> Any:
            if len(tiles) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().start(restorer, dtype, tiles, *rest)

    image = noise((1, 300, 430), "uint8")
    out = np.zeros_like(image)
    seen = list(events(image, out, team(Full("full"), Full("full, too"))))
    notices = {event.message for event in seen if isinstance(event, Notice)}
    assert any("on full with 3 tiles at once; going on with 1" in notice for notice in notices)
    np.testing.assert_allclose(out.astype(int), alone(image), atol=1)


def test_every_gpu_gets_its_own_restorer_and_the_batch_size_of_the_smallest(
    tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = iter([7, 5])
    made: list[TileRunner] = []
    restorers: list[object] = []

    def fits(*_: object) -> int:
        return next(memory)

    class Kept(TileRunner):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)
            restorers.append(self.restorer)

    monkeypatch.setattr(runners, "TileRunner", Kept)
    monkeypatch.setattr(runners, "batch_size_that_fits", fits)
    monkeypatch.setattr(runners.devices, "resolve_devices", lambda names: [CPU, CPU])
    image = noise((200, 300), "uint16")
    settings = DeblurSettings(model=str(tiny_weights), device="cuda:0,cuda:1", precision="fp32")
    job = prepare(image, settings)
    single = prepare(image, replace(settings, device="cuda:0", batch_size=5))
    assert job.plan.host_bytes > single.plan.host_bytes

    class Forgetful(MemoryJournal):  # so that the second run makes all again
        def mark(self, *_: int) -> None:
            pass

    journal = Forgetful()
    results = [np.zeros_like(image) for _ in range(3)]
    for _ in job.run(results[0], journal):
        pass
    assert [runner.batch_size for runner in made] == [5, 5]
    assert len(set(restorers)) == 2
    assert not any(hasattr(runner, "restorer") for runner in made)  # let go of
    assert journal.batch_size == 5
    for _ in job.run(results[1], journal):  # as when it is resumed: nothing is measured again
        pass
    assert [runner.batch_size for runner in made] == [5] * 4
    monkeypatch.setattr(runners.devices, "resolve_devices", lambda names: [CPU])
    for _ in single.run(results[2]):
        pass
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


@pytest.mark.gpu
def test_two_real_gpus_make_the_bits_of_one_gpu(tiny_weights: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    image = noise((2, 700, 900), "uint16")
    results = []
    for names in ("cuda:0", "cuda:0,cuda:1"):
        settings = DeblurSettings(
            model=str(tiny_weights), device=names, batch_size=4, axes="ZYX", tile_size=64
        )
        out = np.zeros_like(image)
        for _ in prepare(image, settings).run(out):
            pass
        results.append(out)
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.gpu
def test_tf32_is_near_fp32_and_fp32_is_exact(tiny_weights: Path) -> None:
    image = noise((300, 300), "float32")
    results = {}
    for precision in ("fp32", "tf32"):
        recipe = prepare(
            image, DeblurSettings(model=str(tiny_weights), device="cuda", precision=precision)
        )
        results[precision] = np.zeros_like(image)
        for _ in recipe.run(results[precision]):
            pass
    on_cpu = np.zeros_like(image)
    for _ in prepare(
        image, DeblurSettings(model=str(tiny_weights), device="cpu", precision="fp32")
    ).run(on_cpu):
        pass
    np.testing.assert_allclose(results["fp32"], on_cpu, atol=1e-4)
    np.testing.assert_allclose(results["tf32"], on_cpu, atol=1e-2)
    assert RunnerRecipe(Sharpen(), "sharpen", "cuda", "tf32").make().dtype == torch.float32
