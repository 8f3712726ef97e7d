"""The profile of a run counts every stage once, and the cost of a network counts every product."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

from helpers.tiny import tiny_card
from napari_swintormer.cli import app
from napari_swintormer.evaluation.benchmark import profile
from napari_swintormer.evaluation.benchmark.transcription import Transcription
from napari_swintormer.evaluation.methods.cost import count
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.network import products
from napari_swintormer.models.network.network_settings import DeconvolutionSettings
from napari_swintormer.models.network.swintormer import Swintormer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_the_command_tells_each_stage(
    make_weights: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profile, "_QUICK_SIDE", 96)
    sizes = tiny_card().network.model_copy(update={"deconvolution": DeconvolutionSettings()})
    weights = make_weights("profiled", network=sizes, tile_size=64, overlap=16)
    figures = tmp_path / "figures.json"
    command = ["benchmark", "--profile", "--quick", "--model", str(weights), "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--json", str(figures)])
    assert done.exit_code == 0, done.output
    told = json.loads(figures.read_text())["profile"]
    stages = told["cpu_seconds_per_megapixel"]
    used = set(profile.STAGES) - {"blur estimation", "filter"}
    assert set(stages) == used | {profile.OTHER}
    assert all(stages[name] > 0 for name in ("deconvolution", "network", "intensity", "blending"))
    assert "the network's share of that rate" in done.output
    network = load_model(str(weights)).network
    x = torch.rand(1, 3, 64, 64)
    # four tiles of 64 pixels cover the image of 96
    macs = count(lambda: network.forward_features(x)) - count(lambda: network.deconvolution(x))
    macs *= 4 / told["megapixels"]
    assert told["products_per_megapixel"] == pytest.approx(1e-9 * macs)
    seconds = stages["network"] * told["products_per_second"]
    assert told["utilisation"] == pytest.approx(told["products_per_megapixel"] / seconds)
    # nothing stays replaced
    assert Swintormer.forward_features.__code__.co_filename.endswith("swintormer.py")


def test_a_stage_inside_another_counts_for_itself() -> None:
    watch = profile._Stopwatch()

    def work() -> None:
        start = time.thread_time()
        while time.thread_time() < start + 0.02:
            pass

    inner = watch.counting("inner", work)
    start = time.thread_time()
    watch.counting("outer", lambda: (inner(), inner(), work()))()
    whole = time.thread_time() - start
    assert watch.seconds["inner"] > watch.seconds["outer"] > 0.015
    assert sum(watch.seconds.values()) <= whole


def test_helping_threads_are_shared_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = {"reading": 1.0, "network": 6.0, "deconvolution": 2.0}
    # threads of Python took 10 s, helpers 4 s
    monkeypatch.setattr(torch, "get_num_threads", lambda: 12)
    shared = profile._shared(stages, 14.0, 10.0)
    assert shared == {"reading": 1, "network": 9, "deconvolution": 3, profile.OTHER: 1}
    # two tiles side by side have a thread each, and nobody helps
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert profile._shared(stages, 14.0, 10.0) == stages | {profile.OTHER: 5}


def test_products_are_counted_whichever_routine_makes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, x = Swintormer(tiny_card().network).eval(), torch.rand(1, 3, 64, 64)
    count(lambda: network(x))  # prepares the weights
    here = count(lambda: network(x))
    monkeypatch.setattr(products, "has_onednn", lambda: False)
    assert here == count(lambda: network(x))
    assert here == pytest.approx(count(lambda: Transcription(network)(x)), rel=0.3)
