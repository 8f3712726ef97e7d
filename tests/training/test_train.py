"""Training learns, resumes without loss, and says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from napari_swintormer import load_model, train
from napari_swintormer.errors import ModelNotFoundError, OutputError, TrainingError
from napari_swintormer.events import Notice, Progress, Trained
from napari_swintormer.models.settings import SwintormerSettings
from napari_swintormer.models.weights import load_weights
from napari_swintormer.training.checkpoint import load_checkpoint
from napari_swintormer.training.settings import TrainSettings
from napari_swintormer.training.train import iter_train, learning_rate

NETWORK = SwintormerSettings(
    dim=4,
    num_blocks=(1, 1, 1, 1),
    num_heads=(1, 1, 1, 1),
    num_refinement_blocks=0,
    window_size=2,
)


@pytest.fixture
def settings(write_images, tmp_path):
    """A training of eight steps on four images, that validates and saves on the way."""
    return TrainSettings(
        sharp=(write_images("sharp", ["a.png", "b.png", "c.png", "d.png"]),),
        out=tmp_path / "mine.safetensors",
        synthesize="defocus",
        network=NETWORK,
        steps=8,
        batch_size=2,
        patch_size=32,
        learning_rate=1e-3,
        warmup=2,
        held_out=0.25,
        device="cpu",
        precision="fp32",
        validate_every=4,
        checkpoint_every=3,
        title="Mine",
    )


def elsewhere(settings, name, **changes):
    return dataclasses.replace(settings, out=settings.out.with_name(name), **changes)


def weights_of(settings):
    return load_weights(settings.out)[1]


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_training_writes_a_model_that_says_what_it_is(settings):
    events = list(iter_train(settings))
    assert [e.done for e in events if isinstance(e, Progress)] == list(range(1, 9))
    validations = [e for e in events if isinstance(e, Trained) and e.psnr is not None]
    assert [e.step for e in validations] == [4, 8]
    model = load_model(str(settings.out))
    assert (model.card.name, model.card.title) == ("mine", "Mine")
    assert model.card.network == NETWORK
    assert model.card.metrics["validation PSNR, dB"] == pytest.approx(validations[1].psnr, abs=1e-3)
    lines = [json.loads(x) for x in (settings.run_folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8]
    assert lines[1]["psnr_blurred"] == pytest.approx(validations[1].psnr_blurred, abs=1e-3)


@pytest.mark.parametrize("stop", [2, 6])
def test_an_interrupted_training_gives_the_same_weights(settings, stop):
    list(iter_train(settings))
    interrupted = elsewhere(settings, "interrupted.safetensors")
    events = iter_train(interrupted)
    while not (isinstance(e := next(events), Progress) and e.done == stop):
        pass
    events.close()
    assert not interrupted.out.exists()
    assert load_checkpoint(interrupted.run_folder).step == stop
    resumed = list(iter_train(dataclasses.replace(interrupted, resume=True)))
    assert next(e for e in resumed if isinstance(e, Progress)).done == stop + 1
    assert same(weights_of(interrupted), weights_of(settings))


def test_a_killed_training_gives_the_same_weights(settings, tmp_path):
    """A kill leaves an older checkpoint and log lines of later steps, the last one half."""
    list(iter_train(settings))
    killed = elsewhere(settings, "killed.safetensors")
    events = iter_train(killed)
    while not (isinstance(e := next(events), Progress) and e.done == 5):
        pass
    checkpoint = (killed.run_folder / "checkpoint.pt").read_bytes()
    log = (killed.run_folder / "log.jsonl").read_text()
    events.close()
    (killed.run_folder / "checkpoint.pt").write_bytes(checkpoint)
    (killed.run_folder / "log.jsonl").write_text(log + '{"step": 5, "lo')
    assert load_checkpoint(killed.run_folder).step == 3
    list(iter_train(dataclasses.replace(killed, resume=True)))
    assert same(weights_of(killed), weights_of(settings))
    lines = [json.loads(x) for x in (killed.run_folder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8]


def test_training_learns(write_images, tmp_path):
    """Pairs with one constant change: it is learned within a few steps."""
    sharp = write_images("sharp", ["a.png", "b.png"], sigma=1)
    blurred = write_images("blurred", ["a.png", "b.png"], sigma=2)
    more = {"batch_size": 4, "patch_size": 32, "learning_rate": 5e-3, "warmup": 5, "held_out": 0.5}
    out = tmp_path / "mine.safetensors"
    train(blurred, sharp, out, network=NETWORK, steps=60, device="cpu", precision="fp32", **more)
    metrics = load_weights(out)[0].metrics
    gain = metrics["validation PSNR, dB"] - metrics["validation PSNR of the blurred patches, dB"]
    assert gain > 0.3


def test_a_model_is_trained_further(settings, tiny_weights, tmp_path):
    further = dataclasses.replace(
        settings, network=None, from_model=str(tiny_weights), steps=1, learning_rate=1e-9
    )
    list(iter_train(further))
    base_card, base = load_weights(tiny_weights)
    card, state = load_weights(further.out)
    assert card.network == base_card.network
    assert card.tile_size == base_card.tile_size
    assert card.name == "mine"
    for key, tensor in state.items():
        torch.testing.assert_close(tensor, base[key], rtol=0, atol=1e-6)
    with pytest.raises(ModelNotFoundError):
        list(iter_train(dataclasses.replace(further, from_model="no-such-model")))
    with pytest.raises(TrainingError, match="keeps its network"):
        list(iter_train(dataclasses.replace(further, network=NETWORK)))


def test_one_image_is_trained_on_without_validation(settings, write_images, tmp_path):
    alone = dataclasses.replace(settings, sharp=(write_images("one", ["a.png"]),), steps=2)
    events = list(iter_train(alone))
    assert isinstance(events[0], Notice)
    assert [e.psnr for e in events if isinstance(e, Trained)] == [None]


def test_a_resumed_training_keeps_its_settings_and_images(settings, write_images):
    with pytest.raises(TrainingError, match="There is no checkpoint"):
        list(iter_train(dataclasses.replace(settings, resume=True)))
    list(iter_train(dataclasses.replace(settings, steps=2)))
    with pytest.raises(TrainingError, match="There is a training in"):
        list(iter_train(settings))
    with pytest.raises(TrainingError, match=r"was started with steps=2, .* \(got steps=8\)"):
        list(iter_train(dataclasses.replace(settings, resume=True)))
    write_images("sharp", ["e.png"])
    with pytest.raises(TrainingError, match="was started with images="):
        list(iter_train(dataclasses.replace(settings, steps=2, resume=True)))
    checkpoint = settings.run_folder / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="is damaged"):
        list(iter_train(dataclasses.replace(settings, steps=2, resume=True)))


def test_a_model_is_never_overwritten(settings):
    settings.out.write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        list(iter_train(settings))
    assert settings.out.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"synthesize": None}, r"got neither"),
        ({"synthesize": "rain"}, "cannot be synthesized"),
        ({"sharp": ()}, "Training needs sharp images"),
        ({"kinds": ("photo", "photo")}, "2 kinds for 1 folders"),
        ({"kinds": ("painting",)}, "There is no such kind"),
        ({"precision": "fp16"}, "'fp32' or 'bf16'"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"held_out": 1.0}, "held_out and ema"),
        ({"patch_size": 33}, "patch_size must be a multiple of 32"),
    ],
)
def test_wrong_settings_end_in_one_sentence(settings, changes, message):
    with pytest.raises(TrainingError, match=message):
        list(iter_train(dataclasses.replace(settings, **changes)))


def test_weights_files_have_their_suffix(tmp_path):
    with pytest.raises(TrainingError, match=r"must end in \.safetensors \(got model.pth\)"):
        train(sharp=tmp_path, out=tmp_path / "model.pth", synthesize="defocus")
    with pytest.raises(TrainingError, match="'small', 'paper'"):
        train(sharp=tmp_path, synthesize="defocus", network="huge")


def test_the_learning_rate_rises_and_falls(settings):
    long = dataclasses.replace(settings, steps=1000, warmup=100, learning_rate=1e-3)
    rates = [learning_rate(step, long) for step in range(1000)]
    peak = rates.index(max(rates))
    assert peak in (99, 100)
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[550] == pytest.approx(5e-4, rel=0.01)
    assert math.isclose(rates[-1], 1e-6, abs_tol=1e-8)
