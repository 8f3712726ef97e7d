"""Two processes train as one does, and one of them writes."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys

import pytest
import torch

from napari_swintormer import load_model
from napari_swintormer.models.files.weights import read_card
from napari_swintormer.training.loop.processes import Processes
from napari_swintormer.training.loop.train import iter_train
from napari_swintormer.training.train_settings import TrainSettings

PATIENCE = 180  # seconds: only a process that hangs takes so long
# The command line, with few patches for validation.
PROGRAM = """
from napari_swintormer.cli import main
from napari_swintormer.training.loop import validation

validation._PATCHES = 4
main()
"""


@pytest.mark.parametrize("patches", [1, 2, 7, 8])
def test_every_patch_belongs_to_one_process(patches):
    for count in (1, 2, 3, 5):
        shares = [Processes(number, count).share(patches) for number in range(count)]
        assert [patch for share in shares for patch in share] == list(range(patches))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.slow("training/loop")
def test_two_processes_make_the_weights_of_one(settings, tiny_weights, write_images):
    alone = dataclasses.replace(
        settings,
        sharp=(write_images("wide", ["a.png", "b.png"], size=(48, 96, 3)),),
        from_model=str(tiny_weights),
        network=None,
        batch_size=3,
        learning_rate=1e-5,
        steps=3,
        held_out=TrainSettings.held_out,
    )
    list(iter_train(alone))
    out = alone.out.with_name("together.safetensors")
    options = {
        "sharp": alone.sharp[0],
        "synthesize": "defocus",
        "from": tiny_weights,
        "lr": alone.learning_rate,
        "out": out,
        "validate-every": 2,
        "patience": 9,
    }
    same = ("steps", "batch_size", "patch_size", "warmup", "device", "precision")
    options |= {name.replace("_", "-"): getattr(alone, name) for name in same}
    command = [sys.executable, "-W", "error", "-c", PROGRAM, "train"]
    command += [f"--{name}={value}" for name, value in options.items()]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        subprocess.Popen(
            command,
            env=os.environ | told | {"RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    assert "step 2:" in errors[0]
    assert not errors[1]

    # Rounding is all that differs. It is seen in what the models do: where gradients vanish, Adam
    # moves parameters by the sign of a rounding error.
    tiles = torch.rand(2, 3, 64, 64)
    before, one, two = (load_model(file)(tiles) for file in (tiny_weights, alone.out, out))
    assert (one - two).norm() < 1e-3 * (one - before).norm()
    assert read_card(out).metrics == pytest.approx(read_card(alone.out).metrics, abs=2e-3)
