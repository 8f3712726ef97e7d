"""Measures peak memory and time of a huge TIFF, from file to OME-Zarr, and kills runs on the way.

    python benchmarks/huge_image.py FOLDER [--size 20000] [--layout flat|tiled] [--kills 5]

An identity restorer takes the place of the network. One child process runs without interruption.
Others are killed with SIGKILL at random moments; each continues where the one before was killed,
and the last one completes the result. Both results must have the same files with the same bytes.
FOLDER needs about three times the size of the image. Everything is deleted at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.imaging.store.result import partial_folder
from napari_swintormer.tiling.grid import TileGrid

if TYPE_CHECKING:
    from collections.abc import Iterator

MEMORY_LIMIT = 1.5e9  # bytes, the interpreter, torch and all libraries included
TILE_SIZE, OVERLAP = 512, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, add_help=True)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=20_000, help="side of the image in pixels")
    parser.add_argument("--layout", choices=["flat", "tiled"], default="flat")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--worker", nargs=2, metavar=("SOURCE", "RESULT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(*arguments.worker)
        return
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    try:
        source = folder / "huge.tif"
        write_tiff(source, arguments.size, tiled=arguments.layout == "tiled")
        print(f"{arguments.size} x {arguments.size} uint16, {arguments.layout} TIFF, "
              f"{source.stat().st_size / 1e6:.0f} MB")  # fmt: skip
        whole, resumed = (folder / name / "huge.ome.zarr" for name in ("whole", "resumed"))
        whole.parent.mkdir()
        resumed.parent.mkdir()
        report("uninterrupted", run(source, whole), arguments.size)
        rows, columns = TileGrid((arguments.size,) * 2, TILE_SIZE, OVERLAP).n_blocks
        chunks = rows * columns
        for moment in sorted(random.sample(range(1, chunks - 1), arguments.kills)):
            killed = kill_after(source, resumed, moment + random.random())
            print(f"killed with SIGKILL after {killed} of {chunks} chunks")
        report("resumed", run(source, resumed), arguments.size)
        compare(whole, resumed)
    finally:
        shutil.rmtree(folder)


def write_tiff(path: Path, size: int, *, tiled: bool) -> None:
    """Write smooth shapes with noise and a camera offset of 100, strip by strip."""
    import tifffile

    side = 256
    rng = np.random.default_rng(0)
    noise = rng.poisson(30, (side, size)).astype(np.uint16)
    waves = 2000 * (1 + np.sin(np.arange(size) / 61))

    def strips() -> Iterator[np.ndarray]:
        for top in range(0, size, side):
            rows = np.arange(top, min(top + side, size))
            shapes = (1 + np.sin(rows / 47))[:, None] * waves
            yield 100 + shapes.astype(np.uint16) + np.roll(noise, 37 * top, 1)[: len(rows)]

    def tiles() -> Iterator[np.ndarray]:
        for strip in strips():
            for left in range(0, size, side):
                yield strip[:, left : left + side]

    if tiled:
        layout = {"tile": (side, side), "compression": "zlib", "compressionargs": {"level": 1}}
        tifffile.imwrite(path, tiles(), shape=(size, size), dtype=np.uint16, **layout)
    else:
        tifffile.imwrite(path, strips(), shape=(size, size), dtype=np.uint16, rowsperstrip=side)


def work(source: str, result: str) -> None:
    """Deblur in this process; print time and peak memory."""
    start = time.perf_counter()
    from napari_swintormer import deblur_file
    from napari_swintormer.models.restorer import IdentityRestorer

    deblur_file(
        source,
        result,
        model=IdentityRestorer(),
        tile_size=TILE_SIZE,
        overlap=OVERLAP,
        device="cpu",
        resume=True,
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time()
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak": peak_memory()}))


def peak_memory() -> float:
    """Read the largest resident memory of this process so far, in bytes."""
    try:  # unlike ru_maxrss, this does not include the parent's memory before the exec
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * float(status.split("VmHWM:")[1].split()[0])
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def start_worker(source: Path, result: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, ".", "--worker", str(source), str(result)]
    home = os.environ | {"SWINTORMER_HOME": str(source.parent / "home")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=home)


def run(source: Path, result: Path) -> dict[str, float]:
    worker = start_worker(source, result)
    output, _ = worker.communicate()
    if worker.returncode != 0:
        raise SystemExit(f"the run into {result} failed with code {worker.returncode}")
    return dict(json.loads(output.splitlines()[-1]))


def kill_after(source: Path, result: Path, moment: float) -> int:
    """Start or resume a run, kill it during chunk `moment`, and count the finished chunks."""
    journal = partial_folder(result) / "journal.txt"
    worker = start_worker(source, result)
    while worker.poll() is None:
        written = count_chunks(journal)
        if written >= int(moment):
            time.sleep(moment % 1 * 0.2)  # into the next chunk
            worker.send_signal(signal.SIGKILL)
            worker.communicate()
            return count_chunks(journal)
        time.sleep(0.01)
    raise SystemExit("the run ended before it could be killed")


def count_chunks(journal: Path) -> int:
    """Count the finished chunks of a journal."""
    return journal.read_text().count("\nchunk ") if journal.exists() else 0


def report(title: str, figures: dict[str, float], size: int) -> None:
    per_megapixel = figures["seconds"] / size**2 * 1e9
    print(
        f"{title}: peak memory {figures['peak'] / 1e9:.2f} GB, {figures['seconds']:.1f} s "
        f"({figures['cpu_seconds']:.1f} s of CPU) with imports and pyramid, "
        f"{per_megapixel:.0f} ms per megapixel"
    )
    if figures["peak"] > MEMORY_LIMIT:
        raise SystemExit(f"peak memory is above {MEMORY_LIMIT / 1e9} GB")


def compare(whole: Path, resumed: Path) -> None:
    files = hashes(whole)
    others = hashes(resumed)
    if files != others:
        differing = sorted(dict(files.items() ^ others.items()))
        raise SystemExit(f"the resumed result differs: {', '.join(differing)}")
    print(f"both results have the same {len(files)} files with the same bytes")


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


if __name__ == "__main__":
    main()
