"""The graph of tasks makes the bits of the local engine, and computes no more than needed."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import gaussian_filter

from helpers.engine import BLOCK, CPU, TILE, MemoryJournal, Sharpen, noise, plan_for
from helpers.tiny import random_network, tiny_prior_card
from napari_swintormer import tiling
from napari_swintormer.api import deblur_file
from napari_swintormer.engine import cluster as cluster_engine
from napari_swintormer.engine import devices, graph, local
from napari_swintormer.engine.devices import resolve_names
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.engine.tile_runner import TileRunner
from napari_swintormer.errors import ImageError, SettingsError, WeightsError
from napari_swintormer.events import ChunkFinished, Progress
from napari_swintormer.imaging.intensity import IntensityConvention, measure_ranges
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.models.files.weights import save_weights
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling.blending import Blending
from napari_swintormer.tiling.grid import TileGrid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.runs.job import Job

BATCH = 3


def lazy(image: da.Array, axes: str, restorer: Sharpen, channels: int = 1) -> da.Array:
    planes = Planes(image, axes, channels)
    ranges = measure_ranges(planes, IntensityConvention())
    recipe = RunnerRecipe(restorer, uuid4().hex, "cpu", "fp32", BATCH)
    return graph.lazy(plan_for(planes, blend="smooth"), planes, ranges, recipe)[0]


def local_result(image: NDArray[Any], axes: str, restorer: Sharpen, channels: int) -> NDArray[Any]:
    planes = Planes(image, axes, channels)
    ranges, out = measure_ranges(planes, IntensityConvention()), np.zeros_like(image)
    plan = plan_for(planes, blend="smooth", batch_size=BATCH)
    runner = TileRunner(restorer, CPU, torch.float32, BATCH)
    for _ in local.run(plan, planes, ranges, runner, out):
        pass
    return out


@pytest.fixture(scope="module")
def grey() -> Sharpen:
    return Sharpen()


@pytest.mark.parametrize(
    ("axes", "shape", "chunks", "dtype", "channels"),
    [
        ("YX", (300, 400), (300, 400), "uint8", 1),
        ("YX", (257, 130), (7, 100), "float32", 1),
        ("YX", (20, 500), (20, 128), ">u2", 1),
        ("ZYX", (3, 150, 200), (2, 64, 200), "uint16", 1),
        ("YXS", (150, 200, 3), (128, 128, 2), "uint8", 1),
        ("TXYCS", (2, 140, 150, 2, 4), (2, 50, 150, 1, 4), "uint8", 3),
        ("SYX", (2, 100, 200), (1, 100, 70), "int16", 1),
    ],
)
def test_the_graph_makes_the_bits_of_the_local_engine(
    axes: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: str,
    channels: int,
    grey: Sharpen,
) -> None:
    image = noise(shape, np.dtype(dtype).name).astype(dtype)
    restorer = grey if channels == 1 else Sharpen(channels)
    result = lazy(da.from_array(image, chunks), axes, restorer, channels)
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    assert isinstance(result._meta, np.ndarray)
    made = result.compute(scheduler="threads", num_workers=3)
    expected = local_result(image, axes, restorer, channels)
    assert made.dtype == image.dtype
    assert made.tobytes() == expected.tobytes()
    assert (made != image).any()
    assert [max(c) for c in result.chunks] == [
        min(n, {"Y": BLOCK, "X": BLOCK, "S": 4}.get(a, 1)) for a, n in zip(axes, shape, strict=True)
    ]


class Counted:
    """An image that counts which of its chunks are asked for."""

    def __init__(self, shape: tuple[int, int], chunk: int) -> None:
        self.reads = 0
        whole = da.from_array(noise(shape, "uint8"), chunk)
        self.image = whole.map_blocks(self._read, dtype="uint8", meta=np.empty((0, 0), "uint8"))

    def _read(self, chunk: NDArray[Any]) -> NDArray[Any]:
        self.reads += 1
        return chunk


def test_a_part_of_the_result_computes_only_the_blocks_that_reach_it() -> None:
    counted, restorer = Counted((600, 900), BLOCK), Sharpen()
    result = lazy(counted.image, "YX", restorer)
    assert restorer.calls == 0
    whole = result.compute(scheduler="sync")
    counted.reads = restorer.calls = 0
    part = result.blocks[2, 3].compute(scheduler="sync")
    np.testing.assert_array_equal(part, whole[256:384, 384:512])
    grid = plan_for(Planes(counted.image, "YX", 1)).grid
    blocks = grid.contributors((2, 3))
    assert len(blocks) == 4
    assert restorer.calls == sum(ceil(grid.count_tiles(block) / BATCH) for block in blocks)
    assert counted.reads == 9  # theirs, and the margins of the next


def test_making_the_graph_reads_a_sample_and_restores_nothing() -> None:
    counted, restorer = Counted((3000, 3000), 96), Sharpen()
    lazy(counted.image, "YX", restorer)
    assert 0 < counted.reads <= 64 * 9 < 32 * 32
    assert restorer.calls == 0


def test_one_block_at_a_time_in_a_process() -> None:
    class Jealous(Sharpen):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            assert busy.acquire(blocking=False)
            time.sleep(0.002)
            restored = super().forward(tiles)
            busy.release()
            return restored

    busy = threading.Lock()
    result = lazy(da.from_array(noise((300, 400), "uint8"), 100), "YX", Jealous())
    result.compute(scheduler="threads", num_workers=4)


def test_an_image_of_unknown_size_is_refused() -> None:
    image = da.from_array(noise((300, 400), "uint8"), 100)
    with pytest.raises(ImageError, match=r"call compute_chunk_sizes\(\)"):
        prepare(image[image[:, 0] > 3], restorer=Sharpen())


def job_for(image: Any, weights: Path) -> Job:
    """A job as the API makes it, in small blocks."""
    settings = DeblurSettings(model=str(weights), device="cpu", precision="fp32")
    job = prepare(image, settings)
    grid = TileGrid(job.planes.shape, TILE, 16, BLOCK)
    return replace(job, plan=replace(job.plan, blending=Blending(grid, "smooth")))


def test_the_weights_of_another_computer_must_be_the_same(
    make_weights: Callable[..., Path],
) -> None:
    weights = make_weights("changing")
    result = job_for(da.from_array(noise((100, 200), "uint8")), weights).lazy()[0]
    weights.write_bytes(make_weights("other", channels=1).read_bytes())
    with pytest.raises(WeightsError, match="Put the same file there"):
        result.compute()


@contextmanager
def processes(n_workers: int) -> Iterator[Any]:
    """Start a cluster of processes, with one thread each."""
    distributed = pytest.importorskip("distributed")  # first: the import adds to the configuration
    with (
        dask.config.set({"distributed.worker.memory.terminate": False}),
        distributed.LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Start one other process, which imports everything again: that takes longer than the work."""
    with processes(1) as cluster:
        yield cluster


def test_a_cluster_of_processes_makes_the_same_bits(cluster: Any, tiny_weights: Path) -> None:
    image = noise((200, 300), "uint16")
    expected = np.zeros_like(image)
    for _ in job_for(image, tiny_weights).run(expected):
        pass

    def models_loaded() -> int:
        from napari_swintormer.engine.runners import shared_runner

        return shared_runner.cache_info().misses

    with cluster.get_client() as client:
        before = client.run(models_loaded)
        for chunks in ((90, 300), (200, 70)):  # two graphs: known by the weights, no more is loaded
            result = job_for(da.from_array(image, chunks), tiny_weights).lazy()[0]
            np.testing.assert_array_equal(result.compute(), expected)
        loaded = [n - before[worker] for worker, n in client.run(models_loaded).items()]
        assert set(loaded) <= {0, 1}
        assert any(loaded)


WORKERS: list[str] = []


class Telling(Sharpen):
    """Tells which worker it is used by; in one process with the test."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        from distributed import get_worker

        WORKERS.append(get_worker().name)
        return super().forward(tiles)


def test_only_workers_with_a_gpu_restore_blocks() -> None:
    distributed = pytest.importorskip("distributed")
    image, axes, restorer = noise((300, 400), "uint16"), "YX", Telling()
    planes = Planes(da.from_array(image, 100), axes, 1)
    ranges, plan = measure_ranges(planes, IntensityConvention()), plan_for(planes, blend="smooth")
    recipe = RunnerRecipe(restorer, uuid4().hex, "cpu", "fp32", BATCH)
    workers = {
        name: {"cls": distributed.Worker, "options": {"nthreads": 2, "resources": resources}}
        for name, resources in (("none", {}), ("gpu", {"GPU": 1}), ("none, too", {}))
    }
    scheduler = {"cls": distributed.Scheduler, "options": {"port": 0, "dashboard_address": ":0"}}
    out, journal = np.zeros_like(image), MemoryJournal()
    with (
        distributed.SpecCluster(workers=workers, scheduler=scheduler) as threads,
        threads.get_client() as client,
    ):
        resources = cluster_engine.gpu_resources(client)
        result, _ = graph.lazy(plan, planes, ranges, recipe, resources)
        for _ in cluster_engine.run(plan, planes, result, out, journal, client):
            pass
    assert set(WORKERS) == {"gpu"}
    assert len(journal.chunks) == 3 * 4
    np.testing.assert_array_equal(out, local_result(image, axes, Sharpen(), 1))


@pytest.fixture
def two_workers() -> Iterator[Any]:
    with processes(2) as cluster:
        yield cluster


@pytest.mark.slow("engine", "runs", "imaging/store")
def test_a_cluster_makes_the_same_bytes_though_a_worker_is_killed(
    two_workers: Any, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiling.grid, "_SMALLEST_BLOCK", BLOCK)  # here, where the grid is made
    monkeypatch.setattr(tiling.grid, "_BLOCK_MULTIPLE", BLOCK)
    image = noise((2, 500, 380), "uint16")
    tifffile.imwrite(tmp_path / "in.tif", image, metadata={"axes": "ZYX"})
    settings = DeblurSettings(
        model=str(tiny_weights), device="cpu", precision="fp32", batch_size=BATCH, tile_size=TILE
    )

    def run(name: str, **options: Any) -> FileRun:
        return FileRun(tmp_path / "in.tif", tmp_path / name, settings, **options)

    for _ in run("local.tif").events():
        pass
    address, finished = two_workers.scheduler_address, 0
    with closing(run("cluster.tif", scheduler=address).events()) as events:
        for event in events:
            finished += isinstance(event, ChunkFinished)
            if finished == 2:  # the first run is stopped
                break
    pid = next(iter(two_workers.workers.values())).pid
    for event in run("cluster.tif", scheduler=address, resume=True).events():
        finished += isinstance(event, ChunkFinished)
        if isinstance(event, ChunkFinished) and finished == 5:
            os.kill(pid, signal.SIGKILL)
    assert finished == 24
    assert (tmp_path / "cluster.tif").read_bytes() == (tmp_path / "local.tif").read_bytes()


def test_a_cluster_writes_the_deviation_too(cluster: Any, tmp_path: Path) -> None:
    card, weights = tiny_prior_card(), tmp_path / "model.safetensors"
    save_weights(weights, random_network(card).state_dict(), card)
    np.save(tmp_path / "in.npy", noise((2, 70, 90), "uint16"))
    wish = {"samples": 2, "uncertainty": True, "precision": "fp32", "device": "cpu"}
    for name, address in (("here.tif", None), ("there.tif", cluster.scheduler_address)):
        deblur_file(
            tmp_path / "in.npy", tmp_path / name, weights, axes="ZYX", scheduler=address, **wish
        )
    for kind in (".tif", "-deviation.tif"):
        here, there = (tmp_path / f"{where}{kind}" for where in ("here", "there"))
        assert here.read_bytes() == there.read_bytes()


VOLUMES = {"na": 0.8, "immersion": "air", "wavelength": 500, "pixel_size": 0.3, "z_step": 0.8}


def volumes_run(folder: Path, iterations: int | None, **options: Any) -> FileRun:
    """Plan a run over two channels as volumes; a folder per run, so that names are alike."""
    points = (noise((2, 6, 40, 48), "uint8") == 255) * 3e4
    image = (100 + gaussian_filter(points, (0, 1, 2, 2))).astype(np.uint16)
    folder.mkdir(exist_ok=True)
    tifffile.imwrite(folder / "in.ome.tif", image, metadata={"axes": "CZYX"})
    settings = DeblurSettings(depth="volume", device="cpu", iterations=iterations, **VOLUMES)
    return FileRun(folder / "in.ome.tif", folder / "out.ome.tif", settings, **options)


def test_a_cluster_restores_volumes_to_the_same_bytes(cluster: Any, tmp_path: Path) -> None:
    address, here, there = cluster.scheduler_address, tmp_path / "here", tmp_path / "there"
    for _ in volumes_run(here, None).events():
        pass
    events = list(volumes_run(there, None, scheduler=address).events())
    told = [e for e in events if isinstance(e, Progress) and e.unit == "iterations"]
    assert told[-1].done == told[-1].total == len(told)
    assert (there / "out.ome.tif").read_bytes() == (here / "out.ome.tif").read_bytes()


def test_a_worker_leaves_a_volume_whose_run_was_stopped(cluster: Any, tmp_path: Path) -> None:
    def executing(dask_worker: Any) -> int:
        return len(dask_worker.state.executing)

    run = volumes_run(tmp_path, 400, scheduler=cluster.scheduler_address)
    with closing(run.events()) as events:
        next(e for e in events if isinstance(e, Progress))
    with cluster.get_client() as client:
        while any(client.processing().values()) or any(client.run(executing).values()):
            time.sleep(0.02)
        told = [e for topic in client.get_events().values() for e in topic if "volume" in e[1]]
    assert max(e[1]["done"] for e in told) < 400


@pytest.mark.slow("engine", "runs", "imaging/store")
def test_a_volume_is_tried_again_when_its_worker_is_killed(
    two_workers: Any, tmp_path: Path
) -> None:
    address, here, there = two_workers.scheduler_address, tmp_path / "here", tmp_path / "there"
    for _ in volumes_run(here, 30).events():
        pass
    chunks = []
    with closing(volumes_run(there, 30, scheduler=address).events()) as events:
        chunks.append(next(e for e in events if isinstance(e, ChunkFinished)))  # it is stopped
    pids = [next(iter(two_workers.workers.values())).pid]
    for event in volumes_run(there, 30, scheduler=address, resume=True).events():
        if isinstance(event, Progress) and pids:
            os.kill(pids.pop(), signal.SIGKILL)
        chunks += [event] if isinstance(event, ChunkFinished) else []
    assert len({(e.plane, e.y, e.x) for e in chunks}) == len(chunks) == 12
    assert (there / "out.ome.tif").read_bytes() == (here / "out.ome.tif").read_bytes()


def test_the_workers_of_a_cluster_resolve_the_device(
    cluster: Any, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tifffile.imwrite(tmp_path / "in.tif", noise((70, 90), "uint16"))

    def nothing_here(*_: object) -> None:
        raise SettingsError("This computer resolves no device.")

    def run(device: str) -> FileRun:
        settings = DeblurSettings(model=str(tiny_weights), device=device)
        address = cluster.scheduler_address
        return FileRun(tmp_path / "in.tif", tmp_path / "o.zarr", settings, scheduler=address)

    monkeypatch.setattr(devices, "resolve_devices", nothing_here)  # of this process alone
    with pytest.raises(SettingsError, match=r"On a worker: There is no such device .*'cuda:99'"):
        list(run("cuda:99").events())
    assert [path.name for path in tmp_path.glob("*o.zarr*")] == []
    with cluster.get_client() as client:
        (taken,) = client.run(resolve_names, "auto", "auto").values()
    list(run("auto").events())
    made = json.loads((tmp_path / "o.zarr/zarr.json").read_text())
    settings = made["attributes"]["swintormer"]["run"]["settings"]
    assert (settings["device"], settings["precision"]) == taken


def test_a_wrong_scheduler_address_is_refused(tiny_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    tifffile.imwrite(tmp_path / "in.tif", noise((40, 40), "uint8"))
    settings = DeblurSettings(model=str(tiny_weights))
    run = FileRun(tmp_path / "in.tif", tmp_path / "o.tif", settings, scheduler="nowhere at all")
    with pytest.raises(SettingsError, match="No dask scheduler answers"):
        list(run.events())
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix) == ["in.tif"]
