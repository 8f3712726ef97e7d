"""What a model file holds is decided from its content, without torch and without running it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from napari_swintormer.errors import WeightsError
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.files.card import ForeignNetwork, foreign_card
from napari_swintormer.models.files.kinds import Kind, detect
from napari_swintormer.models.files.weights import save_weights

WEIGHT = torch.zeros(2, 2)
RELEASED = {"params": {"latent.0.attn.cpb_mlp.0.weight": WEIGHT}}
PRIOR = {"state_dict": {"model.diffusion_model.out.2.weight": WEIGHT}, "global_step": 3}


def imported(path):
    network = ForeignNetwork(kind="spandrel", architecture="NAFNet", channels=3)
    save_weights(path, {"intro.weight": WEIGHT}, foreign_card(path, network))


def archive(entry):
    def write(path):
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(entry, "")

    return write


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize(
    ("name", "write", "kind"),
    [
        ("a.safetensors", imported, Kind.IMPORTED),
        ("a.safetensors", lambda path: save_file({"a": WEIGHT}, path), Kind.TENSORS),
        ("a.safetensors", lambda path: path.write_bytes(b"no header"), Kind.UNKNOWN),
        ("a.safetensors", lambda path: None, Kind.UNKNOWN),
        ("a.pth", lambda path: torch.save(RELEASED, path), Kind.RELEASED),
        (
            "a.pth",
            lambda path: torch.save(RELEASED, path, _use_new_zipfile_serialization=False),
            Kind.RELEASED,
        ),
        ("a.pth", lambda path: torch.save({"intro.weight": WEIGHT}, path), Kind.STATE_DICT),
        ("a.ckpt", lambda path: torch.save(PRIOR, path), Kind.PRIOR),
        ("a.ckpt", lambda path: torch.save({"input_blocks.0.0.weight": WEIGHT}, path), Kind.PRIOR),
        ("a.pth", lambda path: path.write_bytes(pickle.dumps(Evil())), Kind.STATE_DICT),
        ("a.pth", lambda path: None, Kind.STATE_DICT),
        ("a.pt", archive("a/code/__torch__.py"), Kind.TORCHSCRIPT),
        ("a.pt2", archive("a/archive_format"), Kind.EXPORTED),
    ],
)
def test_each_kind_is_detected(tmp_path, name, write, kind, capsys):
    write(tmp_path / name)
    assert detect(tmp_path / name) is kind
    assert capsys.readouterr().out == ""


def test_own_weights_are_detected(tiny_weights):
    assert detect(tiny_weights) is Kind.OWN


def test_detection_needs_no_torch(tmp_path):
    torch.save(RELEASED, tmp_path / "a.pth")
    program = (
        "import sys; from pathlib import Path\n"
        "from napari_swintormer.models.files.kinds import Kind, detect\n"
        "assert detect(Path(sys.argv[1])) is Kind.RELEASED; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.pth")], check=True)


def test_a_prior_is_not_taken_for_a_model(tmp_path):
    torch.save(PRIOR, tmp_path / "prior.ckpt")
    with pytest.raises(WeightsError, match="is a latent diffusion model"):
        load_model(tmp_path / "prior.ckpt")
