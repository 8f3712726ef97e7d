"""Measures peak memory and time of a large stack, from OME-TIFF to OME-Zarr, and kills a run.

    python benchmarks/huge_stack.py FOLDER [--shape 64 2048 2048] [--iterations 3] [--memory 4]

One child process restores the stack as a volume without interruption. Another is killed with
SIGKILL on the way, and a third continues where it was killed. Both results must have the same files
with the same bytes, and no process may take more memory than the limit. The flux of the result is
compared with that of the stack, whose content is uneven. FOLDER needs about forty times the size of
the stack. Everything is deleted at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from huge_image import compare, peak_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

MICROSCOPE = {"na": 1.4, "immersion": "oil", "wavelength": 520}
SIZES = {"PhysicalSizeX": 0.09, "PhysicalSizeY": 0.09, "PhysicalSizeZ": 0.25}
SEED = 0


def main() -> None:
    """Run, kill, resume and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", type=int, nargs=3, default=[64, 2048, 2048], metavar="N")
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--memory", type=float, default=4.0, help="limit in GB (10^9 bytes)")
    parser.add_argument("--region", type=int, help="bytes of a region, to divide smaller stacks")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        work(*chosen.worker, chosen.iterations, chosen.region)
        return
    folder = Path(tempfile.mkdtemp(prefix="huge-stack-", dir=chosen.folder))
    try:
        check(folder, chosen)
    finally:
        shutil.rmtree(folder)


def check(folder: Path, chosen: argparse.Namespace) -> None:
    """Make the stack and both results in a folder, and print what they took."""
    source = folder / "in.ome.tif"
    whole, resumed = (folder / name / "out.ome.zarr" for name in ("whole", "resumed"))
    for result in (whole, resumed):
        result.parent.mkdir()
    units = {f"{name}Unit": "µm" for name in SIZES}
    shape = tuple(chosen.shape)
    tifffile.imwrite(
        source,
        planes(shape),
        shape=shape,
        dtype=np.uint16,
        metadata={"axes": "ZYX"} | SIZES | units,
    )
    figures = [run(source, whole, chosen)]
    print(text("uninterrupted", figures[0], shape, chosen.iterations), flush=True)
    kill(source, resumed, 0.5 * figures[0]["seconds"], chosen)
    figures.append(run(source, resumed, chosen))
    print(text("resumed", figures[1], shape, chosen.iterations), flush=True)
    compare(whole, resumed)
    before, after = (flux(path) for path in (source, whole))
    print(f"flux after to before: {after / before:.4f}")
    if max(each["peak"] for each in figures) > 1e9 * chosen.memory:
        raise SystemExit(f"peak memory is above {chosen.memory} GB")


def planes(shape: tuple[int, int, int]) -> Iterator[np.ndarray]:
    """Make a stack of uneven content: cells that grow brighter to one corner, haze and noise."""
    depth, height, width = shape
    rng = np.random.default_rng(SEED)
    y, x = np.arange(height)[:, None], np.arange(width)
    light = (y / height + x / width) ** 2  # bright and crowded in one corner, empty in the other
    for z in range(depth):
        cells = (np.sin(y / 23 + z / 9) * np.sin(x / 31 - z / 7) > 0.9) * np.sin(x / 3) ** 2
        signal = light * (900 * cells + 60 * (1 + np.sin(y / 400 + z / 20)))
        yield (100 + rng.poisson(signal + 5)).astype(np.uint16)


def flux(path: Path) -> float:
    """Sum the counts of a file above the camera's offset of 100."""
    from napari_swintormer.imaging.formats.reading import open_image

    with open_image(path, "ZYX") as image:
        return sum(
            float(np.asarray(image.data[z]).astype(np.float64).sum()) - 100 * image.data[z].size
            for z in range(image.data.shape[0])
        )


def work(source: str, result: str, iterations: int, region: int | None) -> None:
    """Restore the stack in this process; print time and peak memory."""
    start = time.perf_counter()
    from napari_swintormer import deblur_file
    from napari_swintormer.tiling import stack_regions

    if region is not None:
        stack_regions.REGION_BYTES = region
    deblur_file(
        source,
        result,
        depth="volume",
        iterations=iterations,
        device="cpu",
        resume=True,
        **MICROSCOPE,
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time()
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak": peak_memory()}))


def start(source: Path, result: Path, chosen: argparse.Namespace) -> subprocess.Popen[str]:
    """Start a child that makes or continues a result."""
    command = [sys.executable, __file__, ".", "--worker", str(source), str(result)]
    command += ["--iterations", str(chosen.iterations)]
    command += ["--region", str(chosen.region)] if chosen.region else []
    home = os.environ | {"SWINTORMER_HOME": str(source.parent / "home")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=home)


def run(source: Path, result: Path, chosen: argparse.Namespace) -> dict[str, float]:
    """Make or continue a result; give time and peak memory."""
    child = start(source, result, chosen)
    output, _ = child.communicate()
    if child.returncode != 0:
        raise SystemExit(f"the run into {result} failed with code {child.returncode}")
    return dict(json.loads(output.splitlines()[-1]))


def kill(source: Path, result: Path, moment: float, chosen: argparse.Namespace) -> None:
    """Kill a run in the middle of its second iteration, or after `moment` seconds."""
    child, begun = start(source, result, chosen), time.monotonic()
    state = result.parent / f".{result.name}.stack" / "stack-0" / "state.json"
    while child.poll() is None:
        known = json.loads(state.read_text()) if state.exists() else {"iterations": 0}
        if known["iterations"] > 0:
            time.sleep(moment / 8)  # into the next iteration
        if known["iterations"] > 0 or (not state.exists() and time.monotonic() - begun > moment):
            child.send_signal(signal.SIGKILL)
            child.communicate()
            print(
                f"killed with SIGKILL after {known['iterations']} iterations and a part", flush=True
            )
            return
        time.sleep(0.05)
    raise SystemExit("the run ended before it could be killed")


def text(title: str, figures: dict[str, float], shape: tuple[int, ...], iterations: int) -> str:
    """Describe a run in one line."""
    voxels = float(np.prod(shape)) * iterations
    return (
        f"{title}: peak memory {figures['peak'] / 1e9:.2f} GB, {figures['seconds']:.0f} s "
        f"({figures['cpu_seconds']:.0f} s of CPU, {1e6 * figures['cpu_seconds'] / voxels:.3f} µs "
        "per voxel and iteration, all in)"
    )


if __name__ == "__main__":
    main()
