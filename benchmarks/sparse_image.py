"""Measures memory and time for a plane of 100 000 x 100 000 pixels against one of 16 megapixels.

    python benchmarks/sparse_image.py FOLDER [--size 100000] [--repeats 3]

The large image is a sparse Zarr array of uint8. A run over all of it is planned. Its journal
claims every chunk except the first row and a corner below, so only these are restored, by an
identity restorer. The small image is restored whole. Child processes take turns. The time is per
megapixel of tiles, because the tiles of a single row overlap the rows beside it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from huge_image import peak_memory

MEMORY_LIMIT = 2e9  # bytes, the interpreter, torch and all libraries included
SMALL = 4096
TILE_SIZE, OVERLAP, BLOCK = 512, 256, 1024
CORNER = 4  # blocks along Y and X


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=100_000, help="side of the image in pixels")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", nargs=2, metavar=("SOURCE", "RESULT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*map(Path, arguments.worker))
        return
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        for side in (SMALL, arguments.size):
            write_zarr(folder / f"{side}.zarr", side)
        figures: dict[int, list[dict[str, float]]] = {SMALL: [], arguments.size: []}
        for _ in range(arguments.repeats):
            for side in figures:
                figures[side].append(run(folder / f"{side}.zarr", folder / "result.zarr"))
    finally:
        shutil.rmtree(folder)
    times = {side: report(side, runs) for side, runs in figures.items()}
    both = zip(("time", "CPU time"), times[arguments.size], times[SMALL], strict=True)
    for kind, large, small in both:
        print(f"{kind} per megapixel, large to small: {large / small:.2f}")
    peak = max(run["peak"] for run in figures[arguments.size])
    if peak > MEMORY_LIMIT:
        raise SystemExit(f"peak memory is above {MEMORY_LIMIT / 1e9} GB")


def wanted(rows: int, columns: int) -> set[tuple[int, int]]:
    """List the chunks that are restored: the first row, and the lower left corner."""
    corner = {(rows - 1 - i, j) for i in range(min(CORNER, rows)) for j in range(CORNER)}
    return {(0, column) for column in range(columns)} | corner


def write_zarr(path: Path, side: int) -> None:
    """Write shapes with noise: in a large image only where it is restored."""
    import zarr

    rng = np.random.default_rng(0)
    array = zarr.create_array(path, shape=(side, side), dtype="uint8", chunks=(BLOCK, BLOCK))
    waves = 60 * (1 + np.outer(np.sin(np.arange(BLOCK) / 47), np.sin(np.arange(BLOCK) / 61)))
    texture = rng.poisson(20 + waves).clip(0, 255).astype(np.uint8)
    blocks = -(-side // BLOCK)
    for row, column in np.ndindex(blocks, blocks):
        if side > SMALL and 1 < row < blocks - CORNER - 1:
            continue
        y, x = (slice(i * BLOCK, min((i + 1) * BLOCK, side)) for i in (row, column))
        height, width = y.stop - y.start, x.stop - x.start
        array[y, x] = np.roll(texture, (37 * row, 53 * column), (0, 1))[:height, :width]


def work(source: Path, result: Path) -> None:
    """Restore in this process; print time and peak memory."""
    from napari_swintormer.events import ChunkFinished, Progress
    from napari_swintormer.imaging.formats.reading import open_image
    from napari_swintormer.imaging.store.result import ResultStore
    from napari_swintormer.models.restorer import IdentityRestorer
    from napari_swintormer.runs.planning import prepare
    from napari_swintormer.settings.deblur_settings import DeblurSettings

    settings = DeblurSettings(tile_size=TILE_SIZE, overlap=OVERLAP, batch_size=1, device="cpu")
    with open_image(source) as image:
        job = prepare(image.data, settings, IdentityRestorer())
        grid, shape = job.plan.grid, image.data.shape
        if job.ranges[0].gain == 0:
            raise SystemExit("the sample of the image shows no structure; nothing would be done")
        store = ResultStore.create(result, shape, image.data.dtype, "YX", grid.block_size, {})
        left_out = set()
        if shape[0] > SMALL:
            left_out = {(0, *block) for block in set(grid.blocks()) - wanted(*grid.n_blocks)}
        first = chunks = tiles = 0
        start, cpu_start = time.perf_counter(), time.process_time()
        for event in job.run(store.array, Partly(store, left_out)):
            if isinstance(event, Progress):
                first = first or event.done - 1
                tiles = event.done - first
            elif isinstance(event, ChunkFinished):
                chunks += 1
                region: Any = tuple(slice(*side) for side in (event.y, event.x))
                if chunks % 10 == 0 and (store.array[region] != image.data[region]).any():
                    raise SystemExit("the identity changed pixels")
        figures = {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - cpu_start,
        }
        store.discard()
    print(json.dumps(figures | {"tiles": tiles, "chunks": chunks, "peak": peak_memory()}))


class Partly:
    """A journal that claims the chunks that are left out."""

    batch_size = 1

    def __init__(self, store: Any, left_out: set[tuple[int, int, int]]) -> None:
        self.mark, self._left_out = store.mark, left_out

    def finished(self) -> set[tuple[int, int, int]]:
        return self._left_out


def run(source: Path, result: Path) -> dict[str, float]:
    """Restore in a process of its own."""
    command = [sys.executable, __file__, ".", "--worker", str(source), str(result)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def report(side: int, runs: list[dict[str, float]]) -> tuple[float, float]:
    """Print the figures of equal runs; return milliseconds per megapixel, by clock and by CPU.

    If other programs share the cores, the CPU time tells more.
    """
    megapixels = runs[0]["tiles"] * TILE_SIZE**2 / 1e6
    times, cpu_times = (
        [1e3 * run[kind] / megapixels for run in runs] for kind in ("seconds", "cpu_seconds")
    )
    print(
        f"{side} x {side} uint8: {runs[0]['chunks']} chunks from {megapixels:.0f} megapixels of "
        f"tiles in {median(run['seconds'] for run in runs):.1f} s; per megapixel "
        f"{median(times):.1f} ms ({min(times):.1f} to {max(times):.1f}), "
        f"{median(cpu_times):.1f} ms of CPU ({min(cpu_times):.1f} to {max(cpu_times):.1f}); "
        f"peak memory {max(run['peak'] for run in runs) / 1e9:.2f} GB"
    )
    return median(times), median(cpu_times)


if __name__ == "__main__":
    main()
