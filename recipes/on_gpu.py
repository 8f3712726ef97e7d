"""Use fifteen minutes on one GPU: its tests, the benchmark, and a network for a known blur.

    python recipes/on_gpu.py pack --photo PHOTOS --microscopy MICROSCOPY --out sharp.npz
    python recipes/on_gpu.py run --data sharp.npz --minutes 14 --out results
    python recipes/on_gpu.py join results --out swintormer-large.safetensors

`pack` puts sharp crops into one file of at most 58 MB. `run` trains without napari, diffusers,
zarr and dask. It ends in time, writes the weights every minute in files of at most 15 MB, and says
in `summary.json` what was done and what failed. `join` makes a model of these files. With
`--size small --device cpu` all of this runs anywhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import torch

    from napari_swintormer.models.files.card import ModelCard
    from napari_swintormer.training.data.pairs import ImagePair
    from napari_swintormer.training.train_settings import TrainSettings

PACK_BYTES, SHARD_BYTES = 58 * 10**6, 15 * 10**6
CROP = 480  # pixels: a patch of 256 with all that its blur, camera and filter reach
PARTS = ("tests", "benchmark", "train")
SHARE = {"tests": 0.2, "benchmark": 0.15}  # of the minutes, at most
PROBE_STEPS = 30
MODELS = ("swintormer",)
SIDE, TILES, TIMED = 512, 8, 8  # pixels of a tile, tiles in a batch, batches that are timed
ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("pack", help="put sharp crops into one file")
    make.add_argument("--photo", type=Path, help="folder of sharp photos")
    make.add_argument("--microscopy", type=Path, help="folder of sharp microscopy")
    make.add_argument("--out", type=Path, required=True, help="file to write, ending in .npz")
    make.add_argument("--megabytes", type=float, default=PACK_BYTES / 1e6)
    make.set_defaults(run=pack)
    use = commands.add_parser("run", help="tests, benchmark and training on this computer")
    use.add_argument("--data", type=Path, required=True, help="file of `pack`")
    use.add_argument("--out", type=Path, required=True, help="folder of the results")
    use.add_argument("--minutes", type=float, default=14, help="time for everything")
    use.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    use.add_argument("--size", choices=["small", "large"], default="large")
    use.add_argument("--from", dest="base", help="weights for a known blur to start from")
    use.add_argument("--device", default="cuda")
    use.add_argument("--batch-size", type=int, default=16)
    use.add_argument("--patch-size", type=int, default=256)
    use.add_argument("--lr", type=float, default=4e-4)
    use.add_argument("--steps", type=int, default=10**6, help="at most this many steps")
    use.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    use.add_argument("--seed", type=int, default=1)
    use.set_defaults(run=run)
    whole = commands.add_parser("join", help="make a model of the weights of `run`")
    whole.add_argument("folder", type=Path)
    whole.add_argument("--out", type=Path, required=True, help="weights file to write")
    whole.set_defaults(run=join)
    options = parser.parse_args()
    options.run(options)


# Data: crops of all images in turn, until the file is full.


def pack(options: argparse.Namespace) -> None:
    """Write crops of photos and micrographs, in equal shares of bytes."""
    import zipfile

    given = {"photo": options.photo, "microscopy": options.microscopy}
    folders = {kind: folder for kind, folder in given.items() if folder is not None}
    if not folders:
        raise SystemExit("Give a folder with --photo or --microscopy.")
    count = 0
    with zipfile.ZipFile(options.out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
        for number, (kind, folder) in enumerate(folders.items(), start=1):
            end = options.megabytes * 1e6 * number / len(folders)
            for name, crop in crops(folder):
                entry = f"{kind}-{name}"
                with file.open(f"{entry}.npy", "w") as stream:
                    np.lib.format.write_array(stream, crop)
                count += 1
                if file.start_dir > end - crop.nbytes:  # the next one may not fit
                    break
    print(f"{count} crops, {options.out.stat().st_size / 1e6:.1f} MB in {options.out}")


def crops(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Give the middle of all images, with groups of like names in turn."""
    from itertools import zip_longest

    from napari_swintormer.training.data.listing import list_images
    from napari_swintormer.training.data.pairs import ImagePair, sharp_planes
    from napari_swintormer.training.data.sources import open_planes

    groups: dict[str, list[Any]] = {}
    for file in list_images(folder):
        for plane in sharp_planes(ImagePair(file), 3):
            groups.setdefault(plane.group, []).append(plane)
    for turn in zip_longest(*groups.values()):
        for plane in turn:
            if plane is None:
                continue
            y, x = (slice(max(0, (n - CROP) // 2), (n + CROP) // 2) for n in plane.shape)
            with open_planes(plane.sharp, 3) as planes:
                crop = np.moveaxis(planes.read(plane.plane, y, x), 0, -1)
            yield f"{plane.sharp.stem}-{plane.plane}", np.ascontiguousarray(crop)


def read_pack(file: Path) -> tuple[ImagePair, ...]:
    """Read the crops as images whose blur is synthesized."""
    from napari_swintormer.training.data.pairs import ImagePair
    from napari_swintormer.training.data.sources import ArrayImage

    pairs = []
    with np.load(file) as crops:
        for entry in crops.files:
            kind, _, name = entry.partition("-")
            axes, data = "YXS", crops[entry]
            if data.shape[-1] == 1:
                axes, data = "YX", data[..., 0]
            pairs.append(ImagePair(ArrayImage(name, data, axes), kind=kind, folder=kind))
    return tuple(pairs)


# The run: every part has its share of the minutes, and every part ends with files.


def run(options: argparse.Namespace) -> None:
    """Run the parts one after the other; what fails is said in the summary."""
    begin = time.monotonic()
    end = begin + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {"command": sys.argv[1:], "python": sys.version}

    def give_up() -> None:
        """End a run that hangs; the files of every minute before are there."""
        summary["failed"] = "ended by the clock"
        (options.out / "summary.json").write_text(json.dumps(summary, indent=1))
        os._exit(1)

    clock = threading.Timer(60 * options.minutes, give_up)
    clock.daemon = True
    clock.start()
    for part in options.parts:
        started = time.monotonic()
        try:
            summary[part] = DO[part](options, end)
        except Exception:  # the other parts still run, and the summary says why
            summary[part] = {"failed": traceback.format_exc()}
        summary[part]["seconds"] = round(time.monotonic() - started, 1)
        (options.out / "summary.json").write_text(json.dumps(summary, indent=1))
        print(f"{part}: {json.dumps(summary[part])[:2000]}", flush=True)
    clock.cancel()


def run_tests(options: argparse.Namespace, end: float) -> dict[str, Any]:
    """Run the tests that need a GPU; without the settings for plugins that may be missing."""
    command = [
        *(sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rs", "--tb=short"),
        *("-o", "addopts=--import-mode=importlib", "-o", "filterwarnings=default"),
        *("--continue-on-collection-errors", "--ignore=tests/plugin", "tests"),
    ]
    return in_process(command, "tests.txt", options, SHARE["tests"], end)


def run_benchmark(options: argparse.Namespace, end: float) -> dict[str, Any]:
    """Measure the models, then run the benchmark of the package, which needs zarr and dask."""
    speeds = {}
    for name in MODELS:
        for precision in ("bf16", "fp32"):
            speeds[f"{name}, {precision}"] = megapixels_per_second(name, options.device, precision)
    command = [sys.executable, "-m", "napari_swintormer", "benchmark", "--quick", "--json"]
    command += ["--device", options.device]
    done = in_process(command, "benchmark.json", options, SHARE["benchmark"], end)
    return done | {"megapixels_per_second": speeds}


def megapixels_per_second(name: str, device: str, precision: str) -> float:
    """Time batches of tiles of 512 pixels from the memory of the CPU and back."""
    from napari_swintormer.engine.protocol import Tile
    from napari_swintormer.engine.runners import RunnerRecipe
    from napari_swintormer.models.catalogue import load_model
    from napari_swintormer.models.prior.noise import TileOrigin

    runner = RunnerRecipe(load_model(name), name, device, precision, TILES).make()
    tile = Tile(np.full((3, SIDE, SIDE), 0.5, np.float32), TileOrigin(0, 0, 0))
    for batches in (2, TIMED):  # the first ones make everything ready
        start = time.monotonic()
        for _ in runner.changes([[tile] * TILES] * batches):
            pass
    return round(TIMED * TILES * SIDE**2 / 1e6 / (time.monotonic() - start), 3)


def in_process(
    command: list[str], name: str, options: argparse.Namespace, share: float, end: float
) -> dict[str, Any]:
    """Run a command for at most a share of the minutes; its output goes into a file."""
    limit = min(60 * options.minutes * share, end - time.monotonic())
    before = os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), before])}
    done: dict[str, Any] = {"file": name}
    with open(options.out / name, "w") as output, open(options.out / f"{name}.log", "w") as log:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=output, stderr=log, timeout=limit
            ).returncode
            done["exit_code"] = code
        except subprocess.TimeoutExpired:
            done["failed"] = f"stopped after {limit:.0f} s"
    log_file = options.out / f"{name}.log"
    if log_file.stat().st_size:
        done["log"] = log_file.read_text()[-2000:]
    log_file.unlink()
    return done


def run_training(options: argparse.Namespace, end: float) -> dict[str, Any]:
    """Measure the speed of a step, then train for as many steps as there is time for."""
    from napari_swintormer.training.loop.train import iter_train

    pairs, done = read_pack(options.data), {}
    with TemporaryDirectory() as folder:
        few = min(PROBE_STEPS, options.steps)
        probe = settings(options, pairs, Path(folder) / "probe.safetensors", few)
        seconds = seconds_per_step(iter_train(probe), end)
        left = end - time.monotonic() - 20  # the last weights take a moment
        steps = min(options.steps, max(1, int(0.92 * left / seconds)))
        chosen = settings(options, pairs, Path(folder) / "model.safetensors", steps, seconds)
        done = {"images": len(pairs), "steps": steps, "seconds_per_step": round(seconds, 4)}
        return done | follow(chosen, options.out, end - 15)


def seconds_per_step(events: Any, end: float) -> float:
    """Time the second half of a short training."""
    from napari_swintormer.events import Progress

    times = []
    with closing(events):
        for event in events:
            if isinstance(event, Progress) and event.unit == "steps":
                times.append(time.monotonic())
                if times[-1] > end - 30:
                    break
    if len(times) < 2:
        return 1.0
    half = times[len(times) // 2 :] if len(times) > 3 else times
    return max(1e-4, (half[-1] - half[0]) / max(1, len(half) - 1))


def settings(
    options: argparse.Namespace,
    pairs: tuple[ImagePair, ...],
    out: Path,
    steps: int,
    seconds: float = 1.0,
) -> TrainSettings:
    """Make the settings of a training that saves about once a minute."""
    from napari_swintormer.training.train_presets import NETWORKS
    from napari_swintormer.training.train_settings import TrainSettings

    network = NETWORKS["small" if options.size == "small" else "paper"]
    network = network.model_copy(update={"deconvolution": None, "known_blur": True})
    minute = max(1, round(50 / seconds))
    return TrainSettings(
        pairs=pairs,
        out=out,
        synthesize="known",
        degrade_on="device",
        network=None if options.base else network,
        from_model=options.base,
        steps=steps,
        batch_size=options.batch_size,
        patch_size=options.patch_size,
        learning_rate=options.lr,
        warmup=min(200, max(1, steps // 10)),
        loss="l1 + 0.002 * decibel",
        seed=options.seed,
        device=options.device,
        workers=options.workers,
        worker_processes=True,
        checkpoint_every=minute,
        validate_every=4 * minute,
        title="A blur that is known, large" if options.size == "large" else "",
    )


def follow(chosen: TrainSettings, out: Path, end: float) -> dict[str, Any]:
    """Train until the steps or the time are over, and keep the weights of every checkpoint."""
    from napari_swintormer.events import Progress
    from napari_swintormer.models.files.weights import load_weights
    from napari_swintormer.training.loop.checkpoint import load_checkpoint
    from napari_swintormer.training.loop.start import start_training
    from napari_swintormer.training.loop.train import iter_train

    card, step, why = start_training(chosen).card, 0, "finished"
    with closing(iter_train(chosen)) as events:
        for event in events:
            if not (isinstance(event, Progress) and event.unit == "steps"):
                continue
            # the checkpoint of a step is written before the next one
            if step and step % chosen.checkpoint_every == 0:
                write_shards(load_checkpoint(chosen.run_folder).ema, card, step, out)
                copy_log(chosen, out)
            step = event.done
            if time.monotonic() > end:
                why = "stopped in time"
                break
    card, state = load_weights(chosen.run_folder / "last.safetensors")
    write_shards(state, card, step, out)
    copy_log(chosen, out)
    return {"done": step, "why": why, "metrics": card.metrics}


def copy_log(chosen: TrainSettings, out: Path) -> None:
    (out / "log.jsonl").write_bytes((chosen.run_folder / "log.jsonl").read_bytes())


# Weights in several small files of half precision.


def write_shards(
    state: Mapping[str, torch.Tensor], card: ModelCard, step: int, folder: Path
) -> None:
    """Write all weights in float16; the new files take the place of the old ones at once."""
    import torch
    from safetensors.torch import save_file

    shards: list[dict[str, torch.Tensor]] = [{}]
    size = 0
    for name, tensor in state.items():
        half = tensor.detach().cpu().to(torch.float16).contiguous()
        if shards[-1] and size + half.nbytes > SHARD_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = half
        size += half.nbytes
    names = [f"weights-{k}-of-{len(shards)}.safetensors" for k in range(1, len(shards) + 1)]
    told = {"card": card.model_dump_json(), "step": str(step)}
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, folder / f"{name}.partial", told)
    for name in names:
        (folder / f"{name}.partial").replace(folder / name)


def join(options: argparse.Namespace) -> None:
    """Make one weights file of the files of a run."""
    from safetensors import safe_open

    from napari_swintormer.models.files.card import ModelCard, card_name
    from napari_swintormer.models.files.weights import save_weights

    files = sorted(options.folder.glob("weights-*-of-*.safetensors"))
    if not files or len(files) != int(files[0].stem.rpartition("-")[2]):
        raise SystemExit(f"{options.folder} has {len(files)} files of weights, which is not all.")
    state, steps = {}, set()
    for file in files:
        with safe_open(file, "pt") as shard:
            told = shard.metadata()
            steps.add(told["step"])
            state |= {name: shard.get_tensor(name).float() for name in shard.keys()}  # noqa: SIM118
    if len(steps) != 1:
        raise SystemExit(f"The files in {options.folder} are of different steps: {sorted(steps)}.")
    card = ModelCard.model_validate_json(told["card"])
    save_weights(options.out, state, card.model_copy(update={"name": card_name(options.out, "m")}))
    print(f"{options.out}: {sum(t.numel() for t in state.values()) / 1e6:.1f} M parameters")


DO = {"tests": run_tests, "benchmark": run_benchmark, "train": run_training}

if __name__ == "__main__":
    main()
