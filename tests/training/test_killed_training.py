"""A training that is interrupted and killed goes on without loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from napari_swintormer.cli import app
from napari_swintormer.training.loop.checkpoint import load_checkpoint
from napari_swintormer.training.loop.state import TrainingState

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
PATIENCE = 120  # seconds: only a process that hangs takes so long
# The command line, in a process that kills itself during a step.
KILLED = """
import os, signal, sys
from napari_swintormer.cli import main
from napari_swintormer.training.loop import validation
from napari_swintormer.training.loop.state import TrainingState

validation._PATCHES = 4
update = TrainingState.update

def killed(self, blurred, sharp, learning_rate, step):
    if step == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, blurred, sharp, learning_rate, step)

TrainingState.update = killed
main()
"""


@pytest.fixture
def arguments(write_images, tiny_weights):
    """Arguments of `swintormer train` for a run in a folder."""
    images = write_images("sharp", ["a.png", "b.png", "c.png"], size=(48, 96, 3))

    def arguments(folder, *more):
        options = {
            "sharp": images,
            "synthesize": "defocus",
            "from": tiny_weights,
            "steps": 8,
            "batch-size": 1,
            "patch-size": 32,
            "warmup": 2,
            "checkpoint-every": 5,
            "device": "cpu",
            "precision": "fp32",
            "out": folder / "mine.safetensors",
        }
        return ["train", *(f"--{option}={value}" for option, value in options.items()), *more]

    return arguments


def test_a_training_that_is_interrupted_and_killed_gives_the_same_weights(
    arguments, tmp_path, monkeypatch
):
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    out, run = folder / "mine.safetensors", folder / "mine.run"
    assert CliRunner().invoke(app, arguments(whole)).exit_code == 0

    # Ctrl-C during the third step: a sentence, and a checkpoint after that step.
    update = TrainingState.update

    def interrupted(self, blurred, sharp, learning_rate, step):
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return update(self, blurred, sharp, learning_rate, step)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "update", interrupted)
        stopped = CliRunner().invoke(app, arguments(folder))
    assert stopped.exit_code == 130
    assert "--resume" in stopped.stderr
    assert f"The best weights so far are in {run / 'best.safetensors'}" in stopped.stderr
    assert "Traceback" not in stopped.output
    assert (run / "last.safetensors").exists()
    assert load_checkpoint(run).step == 3

    # The next process is killed during the eighth step, after its checkpoint.
    killed = subprocess.run(
        [sys.executable, "-W", "error", "-c", KILLED, *arguments(folder, "--resume")],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=PATIENCE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert load_checkpoint(run).step == 5
    assert not out.exists()

    assert CliRunner().invoke(app, arguments(folder, "--resume")).exit_code == 0
    assert out.read_bytes() == (whole / "mine.safetensors").read_bytes()
