"""The recipe for fifteen minutes on a GPU: its data, its files of weights, and a tiny run."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from helpers.images import write_blobs
from helpers.tiny import tiny_card
from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.models.network.swintormer import Swintormer

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "recipes" / "on_gpu.py"
# Packages that a computer with a GPU often lacks; nothing but napari's plugin and files needs them.
HIDDEN = """import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"diffusers", "napari", "dask", "zarr", "qtpy", "imagecodecs"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
"""


@pytest.fixture(scope="module")
def recipe():
    spec = importlib.util.spec_from_file_location("on_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def packed(recipe, tmp_path):
    folder = write_blobs(tmp_path / "photos", ["a1.png", "a2.png", "b1.png"], (200, 220, 3))
    out = tmp_path / "sharp.npz"
    recipe.pack(Namespace(photo=folder, microscopy=None, out=out, megabytes=1.0))
    return out


def test_a_pack_holds_crops_of_all_groups_and_keeps_to_its_size(recipe, packed, tmp_path):
    pairs = recipe.read_pack(packed)
    assert [(p.name, p.kind, p.sharp.data.shape) for p in pairs] == [
        (f"{name}-0", "photo", (200, 220, 3)) for name in ("a1", "b1", "a2")
    ]
    small = tmp_path / "small.npz"
    recipe.pack(Namespace(photo=tmp_path / "photos", microscopy=None, out=small, megabytes=0.2))
    assert len(recipe.read_pack(small)) < 3
    assert small.stat().st_size < 200_000


def test_the_files_of_weights_make_the_model_again(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "SHARD_BYTES", 30_000)
    card = tiny_card()
    state = Swintormer(card.network).state_dict()
    recipe.write_shards(state, card, 7, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) > 2
    assert max(file.stat().st_size for file in files) < 40_000
    out = tmp_path / "mine.safetensors"
    recipe.join(Namespace(folder=tmp_path, out=out))
    found, joined = load_weights(out)
    assert (found.name, found.network) == ("mine", card.network)
    for name, tensor in state.items():
        torch.testing.assert_close(joined[name], tensor.half().float(), rtol=0, atol=0)
    files[0].unlink()
    with pytest.raises(SystemExit, match="which is not all"):
        recipe.join(Namespace(folder=tmp_path, out=out))


@pytest.mark.slow("training/loop", "recipes/on_gpu.py")
def test_a_tiny_run_needs_few_packages_and_leaves_its_files(packed, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDDEN)
    command = [sys.executable, SCRIPT, "run", "--data", packed, "--out", tmp_path / "out"]
    command += ["--parts", "train", "--size", "small", "--device", "cpu", "--minutes", "5"]
    command += ["--steps", "2", "--workers", "1"]
    command += ["--patch-size", "128", "--batch-size", "1"]
    places = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": places}, timeout=280)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["train"]["done"], summary["train"]["why"]) == (2, "finished")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *("summary.json", "log.jsonl", "weights-1-of-1.safetensors")
    }
