"""The measurements of `swintormer benchmark`; each function makes a part of the report."""

from __future__ import annotations

import shutil
import statistics
import time
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import numpy as np
import torch

from napari_swintormer.engine import graph, local
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.evaluation.benchmark.timing import peak_bytes, ratio, seconds, turn_by_turn
from napari_swintormer.evaluation.benchmark.transcription import Transcription
from napari_swintormer.events import Progress
from napari_swintormer.imaging.intensity import IntensityRange
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.models.restorer import IdentityRestorer, Restorer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.tiling.plan import Plan

PAPER_TILES = ((512, 220), (256, 220), (512, 384))
"""Tile size and stride of the paper's table."""

_SIDES = (1024, 2048, 4096, 8192)  # pixels, of the images that show the growth


class _Tiles(NamedTuple):
    tile_size: int
    overlap: int
    batch_size: int


_SMALL_OVERLAP = _Tiles(512, 64, 1)
_UNLIMITED = IntensityRange(0, 1, -np.inf, np.inf)


@dataclass(frozen=True)
class Bench:
    """The model that is measured, and where."""

    restorer: Restorer  # on its device
    settings: DeblurSettings  # device and precision as the user named them
    device: torch.device
    dtype: torch.dtype
    batch_size: int
    folder: Path  # for the files of the runs; empty
    quick: bool  # measure on smaller images

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        """Restore tiles on the device, wait, and bring the result back to where the tiles were."""
        home = tiles.device
        restored = self.start(tiles.to(self.device))
        self.wait()
        return restored.to(home)

    def start(self, tiles: torch.Tensor) -> torch.Tensor:
        """Start to restore tiles that are on the device, without waiting for the result."""
        lower = self.dtype != torch.float32
        autocast = torch.autocast(self.device.type, self.dtype if lower else None, enabled=lower)
        with torch.inference_mode(), autocast:
            restored: torch.Tensor = self.restorer(tiles)
        return restored

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def tiles(self, size: int, n: int = 1) -> torch.Tensor:
        """Make `n` grey tiles of noise on the device."""
        return torch.rand(n, 1, size, size).to(self.device)


def warm_up(bench: Bench) -> None:
    """Import what a run from file to file needs, so that no measurement includes it."""
    source, result = write_tiff(bench.folder, 64), bench.folder / "warm.ome.zarr"
    settings = DeblurSettings(tile_size=64, overlap=0, device="cpu")
    for _ in FileRun(source, result, settings, IdentityRestorer()).events():
        pass
    shutil.rmtree(result)


def network(bench: Bench) -> dict[str, Any]:
    """Compare a forward pass of the network with a plain transcription of the paper, in turns."""
    measured = bench.restorer.network.for_unclear
    sizes = measured.settings
    size = max(256, sizes.multiple)
    views = torch.rand(1, sizes.in_channels, size, size).to(bench.device)
    plain = Transcription(measured)

    def transcription() -> None:
        with torch.inference_mode():
            plain(measured.filtered(views) if sizes.known_blur else views)
        bench.wait()

    tiles = torch.rand(1, sizes.channels, size, size).to(bench.device)
    works = {"transcription": transcription, "network": lambda: bench.forward(tiles)}
    turn_by_turn(works, 1)
    taken = turn_by_turn(works, 3 if bench.quick else 9)
    return {
        "size": size,
        "milliseconds": 1e3 * statistics.median(taken["network"]),
        "times_faster_than_transcription": ratio(taken["transcription"], taken["network"]),
    }


def tile_settings(bench: Bench) -> list[dict[str, Any]]:
    """Measure pixels per second of a large image, for the paper's tiles and the model's."""
    card = bench.restorer.card
    settings = dict.fromkeys((*PAPER_TILES, (card.tile_size, card.tile_size - card.overlap)))
    tiles = {size: bench.tiles(size, bench.batch_size) for size, _ in settings}
    works = {str(size): lambda t=t: bench.forward(t) for size, t in tiles.items()}
    turn_by_turn(works, 1)
    taken = turn_by_turn(works, 2 if bench.quick else 7)
    return [
        {
            "tile_size": size,
            "stride": stride,
            "pixels_per_second": bench.batch_size * stride**2 / statistics.median(taken[str(size)]),
        }
        for size, stride in settings
    ]


def engine(bench: Bench) -> dict[str, Any]:
    """Divide the time of the network alone by the time of a whole run, from TIFF to OME-Zarr.

    Every few batches the run pauses while the network is timed on tiles of the same size. So both
    times come from the same state of the machine.
    """
    side = 1024 if bench.quick else 4096
    source = write_tiff(bench.folder, side)
    run = FileRun(source, bench.folder / "engine.ome.zarr", bench.settings, bench.restorer)
    alone = bench.tiles(min(bench.restorer.card.tile_size, side), bench.batch_size)
    bench.forward(alone)
    pure: list[float] = []
    paused, batches, progress = 0.0, 0, None
    start = time.perf_counter()
    for event in run.events():
        if isinstance(event, Progress) and event.unit == "tiles":
            progress, batches = event, batches + 1
            if batches % 5 == 1:
                paused -= time.perf_counter()
                bench.wait()
                pure.append(seconds(lambda: bench.forward(alone)))
                paused += time.perf_counter()
    wall = time.perf_counter() - start - paused
    assert progress is not None
    shutil.rmtree(run.dst)
    return {
        "megapixels": side**2 / 1e6,
        "tiles": progress.total,
        "seconds": wall,
        "efficiency": statistics.fmean(pure) / bench.batch_size * progress.total / wall,
    }


def against_others(bench: Bench) -> dict[str, Any]:
    """Compare the local engine with the dask engine on threads, and with MONAI if it is installed.

    All work on the same tiles of the same image; MONAI with its sliding window.
    """
    import dask.array as da

    card = bench.restorer.card
    side = 2 * card.tile_size if bench.quick else 5 * card.tile_size
    image = np.random.default_rng(0).random((side, side), np.float32)
    tiles = _Tiles(card.tile_size, card.overlap, bench.batch_size)
    plan = _plan(image, tiles)
    device, precision = bench.settings.device, bench.settings.precision
    recipe = RunnerRecipe(bench.restorer, uuid4().hex, device, precision, bench.batch_size)
    results: dict[str, NDArray[np.float32]] = {}

    def local_engine() -> None:
        results["local"] = _run_locally(plan, image, recipe)

    def dask_engine() -> None:
        chunked = Planes(da.from_array(image, chunks=1000), "YX", 1)
        results["dask"] = graph.lazy(plan, chunked, [_UNLIMITED], recipe)[0].compute()

    def monai_engine() -> None:
        results["monai"] = _run_monai(bench.forward, image, tiles)

    works = {"local": local_engine, "dask": dask_engine}
    if find_spec("monai"):
        works["monai"] = monai_engine
    turn_by_turn(works, 1)  # the first turn includes imports
    taken = turn_by_turn(works, 1 if bench.quick else 3)
    report: dict[str, Any] = {"megapixels": side**2 / 1e6}
    for name in list(works)[1:]:
        difference = np.abs(results[name] - results["local"]).max()
        report[name] = {
            "times_slower": ratio(taken[name], taken["local"]),
            "largest_difference": float(difference),
        }
    if "monai" in works:
        report["monai"] |= _memory_of_monai(bench)
    return report


def _memory_of_monai(bench: Bench) -> dict[str, Any]:
    """Measure the peak memory of both engines, beyond the image, with an identity restorer."""
    side = 4096 if bench.quick else 8192
    image = np.random.default_rng(0).random((side, side), np.float32)
    plan = _plan(image, _SMALL_OVERLAP)
    recipe = RunnerRecipe(IdentityRestorer(), uuid4().hex, "cpu", "fp32", 1)
    own = peak_bytes(lambda: _run_locally(plan, image, recipe))
    other = peak_bytes(lambda: _run_monai(IdentityRestorer(), image, _SMALL_OVERLAP))
    return {"memory_megapixels": side**2 / 1e6, "own_peak_bytes": own, "peak_bytes": other}


def growth(bench: Bench) -> list[dict[str, Any]]:
    """Measure time and peak memory of everything but the network, for images of several sizes."""
    rows = []
    settings = DeblurSettings(tile_size=512, overlap=64, device="cpu")
    for side in _SIDES[:-1] if bench.quick else _SIDES:
        source = write_tiff(bench.folder, side)
        run = FileRun(source, bench.folder / "growth.ome.zarr", settings, IdentityRestorer())
        taken: list[float] = []

        def work(run: FileRun = run, taken: list[float] = taken) -> None:
            taken.append(seconds(lambda: [None for _ in run.events()]))

        peak = peak_bytes(work)
        plan = _plan(np.empty((side, side), np.uint16), _SMALL_OVERLAP)
        rows.append(
            {
                "megapixels": side**2 / 1e6,
                "milliseconds_per_megapixel": taken[0] / side**2 * 1e9,
                "peak_bytes": peak,
                "planned_bytes": plan.host_bytes,
            }
        )
        shutil.rmtree(run.dst)
    return rows


def cuda_graph(bench: Bench) -> dict[str, Any] | None:
    """Compare forward passes of a batch with replays of its CUDA graph; None without CUDA.

    A graph computes the same bits, so only the time decides whether runs should use one.
    """
    if bench.device.type != "cuda":
        return None
    tiles = bench.tiles(bench.restorer.card.tile_size, bench.batch_size)
    before = time.perf_counter()
    try:
        graph, restored = _capture(bench, tiles)
    except RuntimeError as error:  # some operation cannot be part of a graph
        return {"refused": str(error)}
    graph.replay()
    bench.wait()
    made = time.perf_counter() - before
    same = torch.equal(restored, bench.forward(tiles))

    def replay() -> None:
        graph.replay()
        bench.wait()

    taken = turn_by_turn({"forward": lambda: bench.forward(tiles), "graph": replay}, 20)
    saved = statistics.median(taken["forward"]) - statistics.median(taken["graph"])
    return {
        "batch_size": bench.batch_size,
        "seconds_to_make": made,
        "times_faster": ratio(taken["forward"], taken["graph"]),
        "same_bits": same,
        "pays_from_tiles": bench.batch_size * made / saved if saved > 0 else None,
    }


def _capture(bench: Bench, tiles: torch.Tensor) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
    side = torch.cuda.Stream(bench.device)  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream(bench.device))
    with torch.cuda.stream(side):
        for _ in range(3):  # kernels are chosen and workspaces made before the capture
            bench.start(tiles)
    torch.cuda.current_stream(bench.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        restored = bench.start(tiles)
    return graph, restored


def write_tiff(folder: Path, side: int) -> Path:
    """Write smooth shapes with noise as a flat 16-bit TIFF, unless the file exists."""
    import tifffile

    path = folder / f"{side}.tif"
    if not path.exists():
        tifffile.imwrite(path, _strips(side), shape=(side, side), dtype=np.uint16, rowsperstrip=256)
    return path


def _strips(side: int) -> Iterator[NDArray[np.uint16]]:
    rng = np.random.default_rng(0)
    waves = 1 + np.sin(np.arange(side) / 61)
    for top in range(0, side, 256):
        rows = np.arange(top, min(top + 256, side))[:, None]
        shapes = 1000 * (1 + np.sin(rows / 47)) * waves
        yield (100 + shapes + rng.poisson(30, shapes.shape)).astype(np.uint16)


def _plan(image: NDArray[Any], tiles: _Tiles) -> Plan:
    height, width = image.shape
    return make_plan((height, width), dtype=image.dtype, **tiles._asdict())


def _run_locally(
    plan: Plan, image: NDArray[np.float32], recipe: RunnerRecipe
) -> NDArray[np.float32]:
    out = np.empty_like(image)
    for _ in local.run(plan, Planes(image, "YX", 1), [_UNLIMITED], recipe.make(), out):
        pass
    return out


def _run_monai(
    forward: Callable[[torch.Tensor], torch.Tensor], image: NDArray[np.float32], tiles: _Tiles
) -> NDArray[np.float32]:
    from monai.inferers import sliding_window_inference

    size, overlap, batch_size = tiles
    whole = torch.from_numpy(image)[None, None]
    with torch.inference_mode():
        restored = sliding_window_inference(
            whole, size, batch_size, forward, overlap=overlap / size, mode="constant"
        )
    result: NDArray[np.float32] = restored[0, 0].numpy()
    return result
