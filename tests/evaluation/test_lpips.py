"""LPIPS with generated parameters, against its definition in plain layers."""

from __future__ import annotations

import csv
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from napari_swintormer.cli import app
from napari_swintormer.evaluation.metrics import lpips as lpips_module
from napari_swintormer.evaluation.metrics.lpips import lpips, missing_lpips


@pytest.fixture(autouse=True)
def _nothing_kept():
    lpips_module._distance.cache_clear()
    yield
    lpips_module._distance.cache_clear()


@pytest.fixture
def parameters(monkeypatch):
    """Write files like the published ones, with random numbers; give AlexNet and the weights."""
    layers = nn.Sequential(  # as torchvision puts them together
        *(nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )
    weights = [torch.rand(1, wider, 1, 1) for wider in (64, 192, 384, 256, 256)]
    content = {
        "alexnet": {f"features.{key}": value for key, value in layers.state_dict().items()},
        "weights": {f"lin{n}.model.1.weight": weight for n, weight in enumerate(weights)},
    }
    content["alexnet"]["classifier.1.bias"] = torch.zeros(9)
    for key, state in content.items():
        file = lpips_module._published(key).file
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, file)
        name, url, _, size = lpips_module._FILES[key]
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        monkeypatch.setitem(lpips_module._FILES, key, (name, url, sha256, size))
    return layers, weights


@torch.no_grad()
def _definition(layers, weights, one, other):
    """Compute equation 1: weighted squared differences of unit features, averaged over pixels."""
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    features = []
    for image in (one, other):
        x = ((torch.from_numpy(image) * 2 - 1 - shift) / scale).permute(2, 0, 1)[None].float()
        normalised = []
        for layer in layers:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                normalised.append(x / x.square().sum(dim=1, keepdim=True).sqrt().add(1e-10))
        features.append(normalised)
    pairs = zip(weights, *features, strict=True)
    return float(sum((w * (a - b) ** 2).sum(dim=1).mean() for w, a, b in pairs))


def test_lpips_agrees_with_the_definition_of_the_paper(parameters):
    assert missing_lpips() is None
    one, other = np.random.default_rng(0).random((2, 70, 90, 3))
    wanted = _definition(*parameters, one, other)
    assert wanted > 0.01
    found = lpips(100 + 50 * one, 100 + 50 * other, black=100, data_range=50)
    assert found == pytest.approx(wanted, rel=1e-4)
    assert lpips(one, one, black=0, data_range=1) == 0
    grey = [np.repeat(image[..., :1], 3, axis=2) for image in (one, other)]
    wanted = _definition(*parameters, *grey)
    assert lpips(one[..., 0], other[..., 0], black=0, data_range=1) == pytest.approx(wanted, 1e-4)
    assert np.isnan(lpips(one[:31], other[:31], black=0, data_range=1))


@pytest.fixture
def pair(tmp_path):
    for folder in ("blurred", "sharp"):
        (tmp_path / folder).mkdir()
        pixels = np.random.default_rng(len(folder)).integers(0, 256, (50, 60, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    return tmp_path


def _evaluate(pair):
    options = ["--out", str(pair / "out"), "-m", "blurred", "--metric", "lpips"]
    return CliRunner().invoke(app, ["evaluate", f"folders={pair}", *options])


@pytest.mark.usefixtures("parameters")
def test_the_evaluation_has_a_column_for_lpips(pair):
    assert _evaluate(pair).exit_code == 0
    with (pair / "out" / "scores.csv").open(encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert 0.01 < float(row["lpips"]) < 10
    assert "LPIPS" in (pair / "out" / "report.md").read_text(encoding="utf-8")


def test_without_its_parameters_lpips_is_left_out_with_a_sentence(pair, monkeypatch):
    _, _, *rest = lpips_module._FILES["alexnet"]
    monkeypatch.setenv("NO_PROXY", "*")
    url = "http://127.0.0.1:9/alexnet.pth"  # no server listens there
    monkeypatch.setitem(lpips_module._FILES, "alexnet", ("AlexNet", url, *rest))
    result = _evaluate(pair)
    assert result.exit_code == 0
    said = " ".join(result.stderr.split())
    assert "LPIPS is left out. The parameters of AlexNet (233 MB) cannot be fetched" in said
    assert "put it there" in said
    assert "lpips" not in (pair / "out" / "scores.csv").read_text(encoding="utf-8")
