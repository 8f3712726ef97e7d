"""Runs all measurements and makes one report, as a JSON object and as lines of text."""

from __future__ import annotations

import os
import platform
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from napari_swintormer import __version__
from napari_swintormer.engine.devices import device_name, precision_name
from napari_swintormer.engine.runners import RunnerRecipe
from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.benchmark import measures
from napari_swintormer.evaluation.benchmark.measures import Bench
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.files.card import ForeignCard
from napari_swintormer.models.restorer import Restorer
from napari_swintormer.settings.deblur_settings import UNKNOWN_BLUR

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_swintormer.settings.deblur_settings import DeblurSettings

_PARTS: dict[str, tuple[str, Callable[[Bench], Any]]] = {
    "network": ("the network", measures.network),
    "tiles": ("tile settings", measures.tile_settings),
    "engine": ("the engine, from file to file", measures.engine),
    "others": ("other engines", measures.against_others),
    "growth": ("growth with the image", measures.growth),
    # this comes last, because a device that refuses it may be unusable afterwards
    "graph": ("a CUDA graph of the network", measures.cuda_graph),
}


def run_benchmark(
    settings: DeblurSettings, *, quick: bool, say: Callable[[str], object]
) -> dict[str, Any]:
    """Run all measurements; give a JSON object with ``engine_efficiency`` and a part for each.

    Only model, device and precision of the settings matter. `quick` takes smaller images and fewer
    turns: under a minute on two cores. `say` is called with a sentence before each measurement.
    """
    restorer = load_model(settings.model)
    if isinstance(restorer.card, ForeignCard):
        raise SettingsError(
            f"The benchmark compares this package's network with a plain one (got the model "
            f"{restorer.card.name!r}, a {restorer.card.architecture}). Use `swintormer evaluate "
            "--table complexity` for networks of others."
        )
    recipe = RunnerRecipe(restorer, restorer.sha256, settings.device, settings.precision)
    runner = recipe.make()
    assert isinstance(runner.restorer, Restorer)
    report: dict[str, Any] = {
        "model": restorer.card.name,
        "parameters": sum(p.numel() for p in restorer.parameters()),
        "quick": quick,
        "device": device_name(runner.device),
        "precision": precision_name(runner.dtype),
        "batch_size": runner.batch_size,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "versions": {
            "napari-swintormer": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": version("numpy"),
            "zarr": version("zarr"),
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        where = runner.device, runner.dtype, runner.batch_size, Path(folder)
        # only the tiles and the network are timed, so no blur is measured
        bench = Bench(runner.restorer, replace(settings, blur=UNKNOWN_BLUR), *where, quick)
        measures.warm_up(bench)
        for name, (title, measure) in _PARTS.items():
            say(f"Measuring {title} …")
            report[name] = measure(bench)
    report["engine_efficiency"] = report["engine"]["efficiency"]
    return report


def run_profile(
    settings: DeblurSettings, *, quick: bool, say: Callable[[str], object]
) -> dict[str, Any]:
    """Tell where the time of a whole run goes; give a JSON object with the part ``profile``."""
    from napari_swintormer.evaluation.benchmark.profile import profile_run

    say("Measuring the stages of a run, from file to file …")
    with tempfile.TemporaryDirectory() as folder:
        return {"profile": profile_run(settings, Path(folder), quick=quick)}


def table(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Turn a report into lines: what was measured, and the figure."""
    if (profile := report.get("profile")) is not None:
        from napari_swintormer.evaluation.benchmark.profile import profile_table

        return profile_table(profile)
    model = (
        f"{report['model']}, {report['parameters'] / 1e6:.1f} M parameters, {report['device']}, "
        f"{report['precision']}, {report['threads']} threads"
    )
    network, engine = report["network"], report["engine"]
    size, faster = network["size"], network["times_faster_than_transcription"]
    figure = f"{network['milliseconds']:.0f} ms, {faster:.2f} × faster than plain"
    lines = [("model", model), (f"network, {size} × {size}", figure)]
    for row in report["tiles"]:
        what = f"tiles of {row['tile_size']}, stride {row['stride']}"
        lines.append((what, f"{row['pixels_per_second'] / 1e6:.3f} megapixels per second"))
    figure = f"{engine['seconds']:.1f} s, {engine['efficiency']:.1%} of it the network"
    lines.append((f"engine, {engine['megapixels']:.0f} megapixels", figure))
    lines += _lines_of_others(report["others"])
    if graph := report["graph"]:
        figure = graph.get("refused") or (
            f"{graph['times_faster']:.2f} × faster than forward passes, made in "
            f"{graph['seconds_to_make']:.1f} s"
        )
        lines.append(("CUDA graph of a batch", figure))
    for row in report["growth"]:
        peak = row["peak_bytes"]
        memory = "" if peak is None else f", {peak / 1e6:.0f} MB"
        figure = (
            f"{row['milliseconds_per_megapixel']:.0f} ms per megapixel{memory} "
            f"(planned {row['planned_bytes'] / 1e6:.0f} MB)"
        )
        lines.append((f"all but the network, {row['megapixels']:.0f} megapixels", figure))
    return lines


def _lines_of_others(others: dict[str, Any]) -> list[tuple[str, str]]:
    lines = []
    for name in others.keys() & {"dask", "monai"}:
        row = others[name]
        figure = f"{row['times_slower']:.2f} × the time of the local engine"
        if row.get("peak_bytes"):
            figure += (
                f"; {row['peak_bytes'] / 1e6:.0f} MB of memory against "
                f"{row['own_peak_bytes'] / 1e6:.0f} MB"
            )
        lines.append((f"{name}, largest difference {row['largest_difference']:.0e}", figure))
    return lines
