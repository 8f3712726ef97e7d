"""Costs of the published network, of the paper's prior and of models."""

import pytest
import torch

from napari_swintormer.evaluation.benchmark import complexity
from napari_swintormer.evaluation.benchmark.complexity import Cost, complexity_table, prior_step
from napari_swintormer.evaluation.benchmark.transcription import Transcription
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.network.swintormer import Swintormer


def test_the_published_default_costs_what_its_table_counts():
    network = Swintormer(complexity.PUBLISHED)
    views = torch.rand(1, 6, 256, 256)
    macs = complexity.count(lambda: Transcription(network)(views))
    cost = Cost("published", sum(p.numel() for p in network.parameters()), macs, 256)
    assert cost.parameters / 1e6 == pytest.approx(25.18, abs=0.005)
    assert cost.macs / 1e9 == pytest.approx(33.15, abs=0.005)


def test_a_step_of_the_full_size_prior_costs_twenty_networks():
    step = prior_step()
    assert step.parameters / 1e6 == pytest.approx(113.62, abs=0.005)
    assert step.macs / 1e9 == pytest.approx(651, abs=0.5)


def test_overlap_and_padding_count_per_megapixel():
    cost = Cost("", 1, 256**2, 256)  # one multiply-accumulate per pixel
    assert cost.macs_per_megapixel(512, 512) == pytest.approx(1e6)
    assert cost.macs_per_megapixel(512, 256) == pytest.approx(4e6)
    assert cost.macs_per_megapixel(300, 300) == pytest.approx(1e6 * (512 / 300) ** 2)


def test_the_table_shows_networks_priors_and_models(tiny_weights, monkeypatch):
    small = load_model(tiny_weights).card.network
    monkeypatch.setattr(complexity, "PUBLISHED", small)
    monkeypatch.setattr(complexity, "PUBLISHED_TEXT", small)
    monkeypatch.setattr(complexity, "SIDE", 64)
    monkeypatch.setattr(complexity, "prior_step", lambda: Cost("one step", 10**6, 10**9, 8))
    text = complexity_table([load_model(tiny_weights)] * 2, torch.device("cpu"))
    lines = [line.split("|") for line in text.splitlines() if line.startswith("| tiny |")]
    assert len(lines) == 2
    # whatever memory the first left behind; more than the widest of its tensors
    assert lines[0][5] == lines[1][5]
    assert float(lines[0][5]) * 1e6 > 32**2 * 2 * small.dim * 4 * small.ffn_expansion
    parameters = sum(p.numel() for p in Swintormer(small).parameters())
    assert float(lines[0][2]) == pytest.approx(parameters / 1e6, abs=0.006)
    assert "| T = 50 | 0.05 |" in text
