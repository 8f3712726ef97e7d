"""Weights files: a round trip, and messages about wrong files."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.tiny import tiny_card
from napari_swintormer.errors import FileError, OutputError, WeightsError
from napari_swintormer.models.files.card import TrainingData
from napari_swintormer.models.files.released import released_name
from napari_swintormer.models.files.weights import load_weights, read_card, save_weights
from napari_swintormer.models.network.swintormer import Swintormer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "encoder.0.0.attention.qkv.weight"


def rewrite(source: Path, target: Path, change: Callable[[dict, dict], None]) -> Path:
    """Copy a weights file; `change` edits its tensors and the fields of its card."""
    tensors = load_file(source)
    card = json.loads(read_card(source).model_dump_json())
    change(tensors, card)
    save_file(tensors, target, {"swintormer": json.dumps(card)})
    return target


def test_what_is_saved_comes_back(make_weights, tmp_path):
    path = make_weights(
        "full",
        title="Für Bilder",
        training_data=(TrainingData(name="Set A", licence="CC0-1.0", images=12),),
        metrics={"psnr_gain": 1.9},
    )
    card, state = load_weights(path)
    assert card == read_card(path)
    assert card.title == "Für Bilder"
    assert card.metrics == {"psnr_gain": 1.9}
    again = tmp_path / "again.safetensors"
    save_weights(again, dict(reversed(state.items())), card)
    assert again.read_bytes() == path.read_bytes()
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def test_half_precision_files_load_as_float32(tiny_weights, tmp_path):
    def halve(tensors, _card):
        tensors.update({key: tensor.half() for key, tensor in tensors.items()})

    path = rewrite(tiny_weights, tmp_path / "half.safetensors", halve)
    state = load_weights(path)[1]
    full = load_weights(tiny_weights)[1]
    torch.testing.assert_close(state[KEY], full[KEY], rtol=1e-3, atol=1e-6)
    assert state[KEY].dtype == torch.float32


def test_card_is_read_without_torch(tiny_weights):
    program = (
        "import sys; from napari_swintormer.models.files.weights import read_card\n"
        "assert read_card(sys.argv[1]).name == 'tiny'; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tiny_weights)], check=True)


def drop(tensors, card):
    del tensors[KEY]


def add(tensors, card):
    tensors["encoder.9.strange"] = torch.zeros(2)


def reshape(tensors, card):
    tensors[KEY] = tensors[KEY][:5].contiguous()


def poison(tensors, card):
    tensors[KEY][0, 0] = torch.nan


def quantise(tensors, card):
    tensors[KEY] = tensors[KEY].to(torch.int8)


def enlarge(tensors, card):
    card["network"]["dim"] = 10**9


def foreign_field(tensors, card):
    card["run_this"] = "rm"


def from_the_future(tensors, card):
    card["format_version"] = 7


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop, f"lack the key '{KEY}'"),
        (add, "have the key 'encoder.9.strange'"),
        (reshape, f"have the shape (5, 4) at key '{KEY}'"),
        (poison, f"not finite (NaN or inf) at key '{KEY}'"),
        (quantise, f"data type 'I8' at key '{KEY}'"),
        (enlarge, "at key 'network.dim'"),
        (foreign_field, "at key 'run_this'"),
        (from_the_future, "format_version=7"),
    ],
)
def test_wrong_content_is_named_by_file_and_key(tiny_weights, tmp_path, change, says):
    path = rewrite(tiny_weights, tmp_path / "wrong.safetensors", change)
    with pytest.raises(WeightsError) as caught:
        load_weights(path)
    message = str(caught.value)
    assert says in message
    assert str(path) in message
    assert "\n" not in message


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        pickle.dumps({"params": 1}),
        (2**62).to_bytes(8, "little") + b"{}",
        (4).to_bytes(8, "little") + b"[[[[" + b"\x00" * 16,
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        (2).to_bytes(8, "little") + b"{}",
        (17).to_bytes(8, "little") + b'{"__metadata__":3}',
    ],
)
def test_foreign_files_get_one_sentence(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    for read in (load_weights, read_card):
        with pytest.raises(WeightsError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_truncated_files_are_refused(tiny_weights, tmp_path):
    content = tiny_weights.read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in (5, 1000, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"cut\.safetensors"):
            load_weights(path)


def test_pickles_with_code_are_not_executed(tmp_path, capsys):
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match=r"evil\.pth"):
        load_weights(path)
    assert "executed" not in capsys.readouterr().out


def test_missing_file(tmp_path):
    for name in ("no.safetensors", "no.pth"):
        with pytest.raises(FileError, match="no weights file"):
            load_weights(tmp_path / name)


def test_weights_that_do_not_fit_are_never_written(tiny_weights, tmp_path):
    card, state = load_weights(tiny_weights)
    path = tmp_path / "out.safetensors"
    shutil.copy(tiny_weights, path)
    state[KEY] = torch.full_like(state[KEY], torch.inf)
    with pytest.raises(WeightsError, match="not finite"):
        save_weights(path, state, card)
    del state[KEY]
    with pytest.raises(WeightsError, match="lack the key"):
        save_weights(path, state, card)
    assert path.read_bytes() == tiny_weights.read_bytes()
    assert list(tmp_path.glob(".out*")) == []


def test_full_disk_leaves_the_old_file(tiny_weights, tmp_path, monkeypatch):
    card, state = load_weights(tiny_weights)
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"old")

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OutputError, match="The disk is full"):
        save_weights(path, state, card)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["out.safetensors"]


def test_released_weights_get_a_card(tmp_path):
    settings = tiny_card().network.model_copy(update={"window_size": 16, "softmax": "released"})
    network = Swintormer(settings)
    released = {released_name(key): value for key, value in network.state_dict().items()}
    path = tmp_path / "Go Pro+1.pth"
    torch.save({"params": released}, path)
    card, state = load_weights(path)
    assert card.name == "Go-Pro-1"
    assert card.clip_output
    assert card.network == settings
    assert torch.equal(state[KEY], network.state_dict()[KEY])
