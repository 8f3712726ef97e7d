"""Kills a small run with SIGKILL at random moments, resumes it, and compares the bytes.

Every job is killed again and again until it comes to its end alive. Then its result must have the
bytes of a run that nothing happened to. It needs `fork`, as on Linux and macOS::

    python benchmarks/kill_a_run.py --kills 200
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path

import numpy as np
import tifffile
import torch

from napari_swintormer.imaging.store import pyramid, sharding
from napari_swintormer.imaging.store.result import ResultStore
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling import grid

BLOCK = 64
NAMES = ("a.zarr", "a.ome.tif", "a.npy")


class Darker(IdentityRestorer):
    """A restorer whose results are easily told from the input."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles * 0.75


def make_small_blocks() -> None:
    """Let a small image have many chunks, several levels and shards."""
    grid._SMALLEST_BLOCK = grid._BLOCK_MULTIPLE = pyramid._COARSEST = BLOCK
    sharding._MANY_CHUNKS, sharding._SIDE = 4, 2


def run(source: Path, result: Path) -> None:
    """Run, or go on with a run."""
    settings = DeblurSettings(tile_size=64, overlap=8, device="cpu", precision="fp32", batch_size=2)
    for _ in FileRun(source, result, settings, Darker(), resume=True).events():
        pass


def run_and_kill(source: Path, result: Path, after: float | None) -> bool:
    """Run in a process of its own, and kill it after some seconds; say whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(source, result)
            status = 0
        finally:
            os._exit(status)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status):
        sys.exit(f"The run of {result} ended with an error. Its traceback is above.")
    return False


def content(result: Path) -> dict[str, bytes]:
    """Read all files of a result."""
    files = (path for path in (result, *result.rglob("*")) if path.is_file())
    return {path.relative_to(result).as_posix(): path.read_bytes() for path in files}


def check(result: Path, expected: dict[str, bytes]) -> None:
    """End with an error if a result is there and has other bytes."""
    if result.exists() and content(result) != expected:
        sys.exit(f"{result} has other bytes than a run without kills.")


def main() -> None:
    """Kill as often as asked for, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="how often a run is killed")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # a forked process has no other threads
    make_small_blocks()
    moments, kills, jobs, begun = random.Random(chosen.seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = np.random.default_rng(0).integers(100, 60_000, (3 * BLOCK, 4 * BLOCK), np.uint16)
        tifffile.imwrite(folder / "in.tif", pixels)
        expected, seconds = {}, {}
        for name in NAMES:
            whole = folder / "whole" / name
            whole.parent.mkdir(exist_ok=True)
            start = time.monotonic()
            run_and_kill(folder / "in.tif", whole, None)
            seconds[name], expected[name] = time.monotonic() - start, content(whole)
        for name in cycle(NAMES):
            if kills >= chosen.kills:
                break
            jobs += 1
            result = folder / f"job {jobs}" / name
            result.parent.mkdir()
            while not result.exists() or ResultStore.is_unfinished(result):
                after = moments.uniform(0, 1.2 * seconds[name]) if kills < chosen.kills else None
                if run_and_kill(folder / "in.tif", result, after):
                    kills += 1
                    begun += ResultStore.is_unfinished(result)
                check(result, expected[name])
    print(f"{kills} kills in {jobs} jobs, {begun} with a run to resume: the same bytes every time")


if __name__ == "__main__":
    main()
