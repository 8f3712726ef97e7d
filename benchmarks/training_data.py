"""Measures how long training waits for its patches, and its memory on huge pairs.

    python benchmarks/training_data.py FOLDER [--steps 30] [--size 20000] [--networks small paper]
        [--batch-size 8] [--patch-size 256]

The wait: the training's own sampler and step run on pairs of 2048 x 2048 pixels, 16 bit, in TIFF
files; the time of waiting for the next batch is a share of all, after five steps that fill the
cache. The memory: `train` runs on two pairs of SIZE x SIZE pixels in a process of its own, which
prints its peak. FOLDER needs room for four images of that size (800 MB each). Everything is deleted
at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MEMORY_LIMIT = 2e9  # bytes, the interpreter, torch and all libraries included
WAIT_LIMITS = {"small": 0.30, "paper": 0.10}
FILL = 5  # steps before the clock starts
INNER = ((16, 2032), (16, 2032))  # what images moved by a part of a pixel have in common
STEPS, VALIDATE_EVERY = 20, 10  # of the training on huge pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--size", type=int, default=20_000, help="side of the huge pairs in pixels")
    parser.add_argument("--networks", nargs="*", choices=WAIT_LIMITS, default=list(WAIT_LIMITS))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--patch-size", type=int, default=256)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        train_on(options.folder)
        return
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        print(f"load of the machine at the start: {os.getloadavg()[0]:.1f}")
        write_pairs(folder / "usual", 4, 2048)
        for name in options.networks:
            measure_wait(folder / "usual", name, options)
        if options.size:
            write_pairs(folder / "huge", 2, options.size)
            measure_memory(folder / "huge", options.size)
        print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}")
    finally:
        shutil.rmtree(folder)


def write_pairs(folder: Path, count: int, size: int) -> None:
    """Write pairs of shapes with fine structure; the blurred ones average 4 x 4 pixels of it."""
    import tifffile
    from scipy.ndimage import uniform_filter

    for name in ("sharp", "blurred"):
        (folder / name).mkdir(parents=True)
    side = 250
    waves = np.sin(np.arange(size) / 61)
    for number in range(count):
        rng = np.random.default_rng(number)
        texture = rng.poisson(30, (side, size))
        soft = uniform_filter(texture.astype(np.float32), 4, mode="wrap")

        def strips(detail):
            for top in range(0, size, side):
                rows = np.arange(top, min(top + side, size))
                shapes = 2000 * (2 + np.sin(rows / 47)[:, None] + waves)
                yield (shapes + 20 * np.roll(detail, 37 * top, 1)[: len(rows)]).astype(np.uint16)

        for name, detail in (("sharp", texture), ("blurred", soft)):
            path = folder / name / f"image_{number}.tif"
            layout = {"shape": (size, size), "dtype": np.uint16, "rowsperstrip": side}
            tifffile.imwrite(path, strips(detail), **layout)


def measure_wait(folder: Path, name: str, options: argparse.Namespace) -> None:
    """Print the share of the training time that is spent waiting for patches."""
    import dataclasses

    import torch

    from napari_swintormer.engine.devices import resolve_device, resolve_precision
    from napari_swintormer.training.data.dataset import find_plane_pairs
    from napari_swintormer.training.data.patches import PatchSampler, batches
    from napari_swintormer.training.loop.initial_model import start_model
    from napari_swintormer.training.loop.state import TrainingState
    from napari_swintormer.training.train_presets import NETWORKS
    from napari_swintormer.training.train_settings import TrainSettings

    settings = TrainSettings(
        sharp=(folder / "sharp",),
        blurred=folder / "blurred",
        out=folder / f"{name}.safetensors",
        network=NETWORKS[name],
        batch_size=options.batch_size,
        patch_size=options.patch_size,
    )
    device = resolve_device(options.device)
    precision = resolve_precision("auto", device)
    card, weights = start_model(settings)
    scenes, *_ = find_plane_pairs(settings, card.network.channels)
    scenes = [dataclasses.replace(s, shift=(0.3, 0.4), region=INNER) for s in scenes]
    state = TrainingState(card, weights, settings, device, precision)
    sampler = PatchSampler(
        scenes, settings.patch_size, card.network.channels, card.intensity, settings.seed
    )
    stop = FILL + options.steps
    numbers = range(settings.batch_size)
    source = batches(
        sampler, range(stop), settings.workers, lambda _: (settings.patch_size, numbers)
    )
    waited = 0.0
    for step in range(stop):
        if step == FILL:
            synchronize(device)
            began, waited = time.perf_counter(), 0.0
        asked = time.perf_counter()
        blurred, sharp = next(source)
        waited += time.perf_counter() - asked
        state.update(torch.from_numpy(blurred), torch.from_numpy(sharp), 1e-4, step)
        synchronize(device)
    seconds = time.perf_counter() - began
    source.close()
    alone = time.perf_counter()
    for index in range(settings.batch_size):
        sampler.draw(stop, index)
    alone = time.perf_counter() - alone
    parameters = sum(p.numel() for p in state.network.parameters()) / 1e6
    print(
        f"{name} ({parameters:.1f} M parameters), {settings.batch_size} patches of "
        f"{settings.patch_size} pixels, {device.type}, {torch.get_num_threads()} threads, "
        f"{precision}: {1e3 * seconds / options.steps:.0f} ms a step, waiting for data "
        f"{waited / seconds:.2%}; a batch alone takes {1e3 * alone:.0f} ms"
    )
    if waited / seconds > WAIT_LIMITS[name]:
        raise SystemExit(f"the network waits longer than {WAIT_LIMITS[name]:.0%} of the time")


def synchronize(device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_memory(folder: Path, size: int) -> None:
    """Train on huge pairs in a process of its own and print its peak memory."""
    size_on_disk = sum(f.stat().st_size for f in folder.rglob("*.tif"))
    command = [sys.executable, __file__, str(folder), "--worker"]
    home = os.environ | {"SWINTORMER_HOME": str(folder / "home")}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=home).stdout
    figures = json.loads(output.splitlines()[-1])
    print(
        f"two pairs of {size} x {size} pixels ({size_on_disk / 1e9:.1f} GB): peak memory "
        f"{figures['peak'] / 1e9:.2f} GB, {figures['seconds']:.0f} s with imports, pair check, "
        f"{STEPS} steps and {STEPS // VALIDATE_EVERY} validations"
    )
    if figures["peak"] > MEMORY_LIMIT:
        raise SystemExit(f"peak memory is above {MEMORY_LIMIT / 1e9:g} GB")


def train_on(folder: Path) -> None:
    """Train the small network in this process; print time and peak memory."""
    start = time.perf_counter()
    from huge_image import peak_memory

    from napari_swintormer import train

    train(
        folder / "blurred",
        folder / "sharp",
        folder / "huge.safetensors",
        network="small",
        steps=STEPS,
        validate_every=VALIDATE_EVERY,
    )
    print(json.dumps({"seconds": time.perf_counter() - start, "peak": peak_memory()}))


if __name__ == "__main__":
    main()
