"""A training in a process of its own that is interrupted and killed goes on without loss."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from napari_swintormer.training.loop.checkpoint import load_checkpoint

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
PATIENCE = 120  # seconds: only a process that hangs takes so long
STEPS = 140  # the one checkpoint on the way is due after 100


@pytest.fixture
def start(write_images, tiny_weights):
    """Start `swintormer train`, which writes into a folder."""
    images = write_images("sharp", ["a.png", "b.png", "c.png"], size=(48, 96, 3))
    processes = []

    def start(folder, *more):
        options = {
            "sharp": images,
            "synthesize": "defocus",
            "from": tiny_weights,
            "steps": STEPS,
            "batch-size": 1,
            "patch-size": 32,
            "warmup": 5,
            "device": "cpu",
            "precision": "fp32",
            "out": folder / "mine.safetensors",
        }
        arguments = [f"--{option}={value}" for option, value in options.items()]
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "napari_swintormer", "train", *arguments, *more],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def send_when(process, number, happened):
    """Send a signal as soon as something happened; give exit code and errors."""
    deadline = time.monotonic() + PATIENCE
    while not happened() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, errors


def test_a_training_that_is_interrupted_and_killed_gives_the_same_weights(start, tmp_path):
    whole = start(tmp_path / "whole")  # side by side with the others
    folder = tmp_path / "stopped"
    out, run = folder / "mine.safetensors", folder / "mine.run"
    log, checkpoint = run / "log.jsonl", run / "checkpoint.pt"

    # Ctrl-C after the line of step 50: a sentence, and a checkpoint of the step at hand.
    code, errors = send_when(
        start(folder),
        signal.SIGINT,
        lambda: log.exists() and log.read_text().count("\n") > 0,
    )
    assert code == 130, errors
    assert "--resume" in errors
    assert f"The best weights so far are in {run / 'best.safetensors'}" in errors
    assert "Traceback" not in errors
    assert (run / "last.safetensors").exists()
    assert load_checkpoint(run).step < 100
    early = checkpoint.stat().st_mtime_ns

    # The next process is killed between its checkpoint and its end.
    code, errors = send_when(
        start(folder, "--resume"),
        signal.SIGKILL,
        lambda: checkpoint.stat().st_mtime_ns != early,
    )
    assert code == -signal.SIGKILL, errors
    assert load_checkpoint(run).step == 100
    assert not out.exists()

    for process in (start(folder, "--resume"), whole):
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, errors
    assert out.read_bytes() == (tmp_path / "whole" / "mine.safetensors").read_bytes()
