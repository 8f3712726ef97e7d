"""The benchmark measures the model and reports a table and JSON."""

from __future__ import annotations

import json
import mmap
from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

from helpers.tiny import tiny_card
from napari_swintormer.cli import app
from napari_swintormer.evaluation.benchmark import measures
from napari_swintormer.evaluation.benchmark.timing import LiveBytes, peak_bytes, ratio, turn_by_turn
from napari_swintormer.evaluation.benchmark.transcription import Transcription
from napari_swintormer.models.network.network_settings import DeconvolutionSettings
from napari_swintormer.models.network.swintormer import Swintormer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.slow("evaluation/benchmark", "engine")
def test_one_command_writes_table_and_figures(
    make_weights: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measures, "PAPER_TILES", ((64, 32),))
    monkeypatch.setattr(measures, "_SIDES", (256, 512, 1024))
    weights = make_weights("measured", tile_size=512, overlap=64)
    figures = tmp_path / "figures.json"
    command = ["benchmark", "--quick", "--model", str(weights), "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--precision", "fp32", "--json", str(figures)])
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text())
    assert 0 < report["engine_efficiency"] == report["engine"]["efficiency"]
    assert (report["precision"], report["engine"]["tiles"]) == ("fp32", 9)
    assert report["others"]["dask"]["largest_difference"] == 0
    assert [row["tile_size"] for row in report["tiles"]] == [64, 512]
    assert [row["megapixels"] for row in report["growth"]] == [256**2 / 1e6, 512**2 / 1e6]
    assert report["graph"] is None  # there is no GPU in this
    assert "all but the network" in done.output
    assert "faster than plain" in done.output


@pytest.mark.gpu
def test_on_a_gpu_the_benchmark_measures_a_cuda_graph(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = ["benchmark", "--quick", "--device", "cuda", "--json", str(figures)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text())
    assert report["engine_efficiency"] > 0.5
    assert report["graph"]["same_bits"]
    assert report["graph"]["times_faster"] > 0.5


@pytest.mark.parametrize(
    ("deconvolution", "known_blur"),
    [(None, False), (DeconvolutionSettings(), False), (None, True)],
)
@pytest.mark.parametrize("attention", ["mixed", "channel", "window"])
@pytest.mark.parametrize("softmax", ["plain", "released"])
def test_the_transcription_agrees_with_the_network(
    softmax: str, attention: str, deconvolution: DeconvolutionSettings | None, known_blur: bool
) -> None:
    changes = {"softmax": softmax, "attention": attention, "deconvolution": deconvolution}
    changes |= {"known_blur": known_blur}
    sizes = tiny_card(3).network.model_copy(
        update={**changes, "num_blocks": (2, 1, 1, 2), "window_size": 4}
    )
    torch.manual_seed(0)
    network = Swintormer(sizes).eval()
    torch.nn.init.trunc_normal_(network.output.weight, std=0.05)
    if known_blur:
        torch.nn.init.normal_(network.embed_added.weight, std=0.1)
        torch.nn.init.normal_(network.embed_maps.weight, std=0.1)
    elif network.deconvolution is not None:
        torch.nn.init.normal_(network.embed_added.weight, std=0.1)
        torch.nn.init.normal_(network.deconvolution.shares.weight, std=0.1)
    views = torch.rand(1, sizes.in_channels, 2 * sizes.multiple, sizes.multiple)
    with torch.inference_mode():
        expected, restored = Transcription(network)(views), network(views)
    assert (expected - views[:, :3]).std() > 0.01
    torch.testing.assert_close(restored, expected, atol=1e-5, rtol=1e-4)


def test_works_take_turns() -> None:
    order: list[str] = []
    works = {name: lambda name=name: order.append(name) for name in "ab"}
    taken = turn_by_turn(works, 3)
    assert "".join(order) == "ababab"
    assert len(taken["a"]) == 3
    assert ratio([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == 3


def test_peak_memory_is_measured_for_the_call() -> None:
    def fill() -> None:
        with mmap.mmap(-1, 2**28) as pages:  # memory that earlier tests left would not count
            for _ in range(2**8):
                pages.write(bytes(2**20))

    peak = peak_bytes(fill)  # 256 MiB, returned when it is measured
    assert peak is None or 200e6 < peak < 400e6


def test_bytes_are_live_until_the_last_view_is_gone() -> None:
    weights = torch.ones(1000, 1000)
    with LiveBytes() as memory:
        for _ in range(2):  # freed memory that is used again counts again
            product = weights.t() @ weights  # 4 MB; the view of the weights is none of its own
            row = product[0]
            del product
            assert memory.live == 4_000_000
            torch.ones(500_000)
            del row
    assert (memory.peak, memory.live) == (6_000_000, 0)
