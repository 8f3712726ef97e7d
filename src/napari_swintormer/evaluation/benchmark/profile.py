"""Where the time of a whole run goes: CPU time per megapixel of each stage.

While a run goes on, the functions of each stage are replaced by ones that count the CPU time of
their thread. A stage inside another one counts for itself alone. Where several threads of
torch share a tile, those that help are counted by what is left of the process's time, in
proportion, for deconvolution, filter and network.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager
from functools import wraps
from statistics import median
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
import torch

from napari_swintormer.engine import local
from napari_swintormer.engine.blocks import BlockRestoration
from napari_swintormer.engine.devices import resolve_names, resolve_precision
from napari_swintormer.evaluation.methods.cost import count
from napari_swintormer.imaging.intensity import IntensityRange
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.models.blur_filter import KnownBlurRestorer
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.network.deconvolution import LocalDeconvolution
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.runs import blur_job
from napari_swintormer.runs.file import FileRun
from napari_swintormer.runs.job import Job
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling.side_by_side import share_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

STAGES: dict[str, list[tuple[Any, str]]] = {
    "reading": [(Planes, "read"), (Planes, "read_views"), (Planes, "read_all")],
    "intensity": [(Job, "_measure_ranges"), (IntensityRange, "to_unit"), (IntensityRange, "apply")],
    "blur estimation": [(blur_job, "find_blurs"), (blur_job, "measure_powers")],
    "filter": [(KnownBlurRestorer, "filtered")],
    "deconvolution": [(LocalDeconvolution, "forward")],
    "network": [(Swintormer, "forward_features")],
    "blending": [(BlockRestoration, "add"), (BlockRestoration, "parts"), (local, "finish_chunk")],
    "writing": [(Planes, "write")],
}
"""The stages of a run, and the functions that do their work."""

OTHER = "all else"
"""Planning, loading the weights, padding and copies of tiles, the files of the result."""

_CPU = torch.device("cpu")
_HELPED = ("filter", "deconvolution", "network")  # by threads of torch
_SIDE, _QUICK_SIDE = 2048, 1024
_MANY = 100  # tiles


class _Stopwatch:
    """Adds up the CPU seconds of stages, each without the stages inside.

    `beside` are those that other threads took than the one that made the stopwatch.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.beside, self._home = 0.0, get_ident()
        self._inside: defaultdict[int, list[float]] = defaultdict(list)  # by thread
        self._lock = Lock()

    def counting(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, with its time counted."""

        @wraps(function)
        def counted(*args: Any, **kwargs: Any) -> Any:
            stack = self._inside[get_ident()]
            stack.append(0.0)
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.thread_time() - start
                own = taken - stack.pop()
                if stack:
                    stack[-1] += taken
                with self._lock:
                    self.seconds[stage] += own
                    self.beside += own * (get_ident() != self._home)

        return counted


class _Calls:
    """Adds up the pixels that networks restore, and keeps the first batch."""

    def __init__(self) -> None:
        self.pixels, self._lock = 0, Lock()
        self._first: tuple[Swintormer, torch.Tensor] | None = None

    def noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return `Swintormer.forward_features`, with its batches noted."""

        @wraps(function)
        def noted(network: Swintormer, batch: torch.Tensor) -> Any:
            with self._lock:
                self.pixels += batch[:, 0].numel()
                self._first = self._first or (network, batch)
            return function(network, batch)

        return noted

    def count_products(self) -> float:
        """Count the multiply-accumulates of all batches, without those of the deconvolution.

        The batch that was kept stands for all.
        """
        if self._first is None:
            return 0.0
        network, batch = self._first
        counted = count(lambda: network.forward_features(batch))
        deconvolution = network.deconvolution
        if deconvolution is not None and not network.settings.known_blur:
            counted -= count(lambda: deconvolution(batch[:, : network.settings.channels]))
        return counted * self.pixels / batch[:, 0].numel()


@contextmanager
def _noting() -> Iterator[_Calls]:
    calls = _Calls()
    noted = calls.noting(Swintormer.forward_features)
    with patch.object(Swintormer, "forward_features", noted):
        yield calls


@contextmanager
def _watching() -> Iterator[_Stopwatch]:
    watch = _Stopwatch()
    with ExitStack() as patches:
        for stage, functions in STAGES.items():
            for owner, name in functions:
                counted = watch.counting(stage, getattr(owner, name))
                patches.enter_context(patch.object(owner, name, counted))
        yield watch


def profile_run(settings: DeblurSettings, folder: Path, *, quick: bool) -> dict[str, Any]:
    """Profile a run from a TIFF of RGB noise and shapes to OME-Zarr in `folder`.

    Gives CPU seconds per megapixel of the image for each stage, wall seconds per megapixel, and the
    machine's rate of multiply-accumulates in a large product of the same precision. On a CPU,
    ``utilisation`` is the network's own rate as a share of that. A model for a known blur measures
    it on the image.
    """
    card = load_model(settings.model).card
    chosen = DeblurSettings(
        model=settings.model, device=settings.device, precision=settings.precision
    )
    side = _QUICK_SIDE if quick else _SIDE
    source, megapixels = _write_rgb(folder, side), side**2 / 1e6
    run = FileRun(source, folder / "profile.ome.zarr", chosen)
    with _noting() as calls, _watching() as watch:
        start, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
        for _ in run.events():
            pass
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        own = time.thread_time() - own
    shutil.rmtree(run.dst)
    stages = {
        stage: taken / megapixels
        for stage, taken in _shared(watch.seconds, cpu, own + watch.beside).items()
    }
    device, precision = resolve_names(settings.device, settings.precision)
    on_cpu = device == "cpu"
    rate = _products_per_second(resolve_precision(precision, _CPU) if on_cpu else torch.float32)
    macs = calls.count_products() / megapixels
    share = macs / stages["network"] / rate if on_cpu and macs else None
    return {
        "model": card.name,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "megapixels": megapixels,
        "seconds_per_megapixel": wall / megapixels,
        "cpu_seconds_per_megapixel": stages,
        "products_per_second": 1e-9 * rate,
        "products_per_megapixel": 1e-9 * macs,
        "utilisation": share,
    }


def profile_table(profile: dict[str, Any]) -> list[tuple[str, str]]:
    """Turn a profile into lines: the stage, its CPU time and its share."""
    stages = profile["cpu_seconds_per_megapixel"]
    whole = sum(stages.values())
    how = f"{profile['precision']}, {profile['threads']} threads"
    lines = [("model", f"{profile['model']}, {how}")]
    for stage in (*STAGES, OTHER):
        if stage in stages:
            taken = stages[stage]
            lines.append((stage, f"{1e3 * taken:.0f} ms per megapixel, {taken / whole:.1%}"))
    figure = f"{1e3 * whole:.0f} ms of CPU time per megapixel"
    speed = f"{1 / profile['seconds_per_megapixel']:.2f} megapixels per second"
    lines.append(("all", f"{figure}; {speed}"))
    rate = f"{profile['products_per_second']:.0f} 10⁹ multiply-accumulates per second"
    lines.append(("a large matrix product, for comparison", rate))
    if (share := profile["utilisation"]) is not None:
        figure = f"{share:.0%}, {profile['products_per_megapixel']:.1f} 10⁹ per megapixel of image"
        lines.append(("the network's share of that rate", figure))
    return lines


def _shared(stages: dict[str, float], cpu: float, own: float) -> dict[str, float]:
    """Share the time of helping threads among the stages that torch does; add what is left.

    `cpu` is the time of the whole process, `own` that of the threads of Python as far as counted.
    """
    known = dict(stages)
    helping = max(0.0, cpu - own)
    helped = sum(known.get(stage, 0) for stage in _HELPED)
    _, sharing = share_threads(torch.get_num_threads(), _MANY)
    if sharing > 1 and helped:
        known |= {s: known[s] * (1 + helping / helped) for s in _HELPED if s in known}
    return known | {OTHER: max(0.0, cpu - sum(known.values()))}


def _products_per_second(dtype: torch.dtype) -> float:
    """Measure multiply-accumulates per second of CPU time in a large product of matrices."""
    factor, taken = torch.rand(1024, 1024).to(dtype), []
    for _ in range(7):
        start = time.process_time()
        _ = factor @ factor
        taken.append(time.process_time() - start)
    return 1024**3 / median(taken)


def _write_rgb(folder: Path, side: int) -> Path:
    import tifffile

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side]
    shapes = 60 * (np.sin(y / 17) * np.cos(x / 23) + ((x // 40 + y // 56) % 2))
    image = 90 + shapes[..., None] + rng.normal(0, 2, (side, side, 3))
    path = folder / "profile.tif"
    tifffile.imwrite(path, image.clip(0, 255).astype(np.uint8), photometric="rgb")
    return path
