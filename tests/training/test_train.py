"""Training learns, resumes without loss, and says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from unittest.mock import Mock

import dask.array as da
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import ndimage

from helpers.tiny import FINDING_NETWORK
from helpers.tiny import TINY_NETWORK as NETWORK
from helpers.train_runs import elsewhere, same, stop_after, weights_of
from napari_swintormer import load_model, train
from napari_swintormer.errors import (
    ModelNotFoundError,
    OutputError,
    TrainingError,
)
from napari_swintormer.events import Notice, Trained
from napari_swintormer.models.files.card import TrainingData
from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.models.network.network_settings import DeconvolutionSettings
from napari_swintormer.training.data import patches
from napari_swintormer.training.loop.checkpoint import load_checkpoint
from napari_swintormer.training.loop.saved_settings import load_settings
from napari_swintormer.training.loop.train import iter_train, learning_rate


def test_a_training_writes_a_model_with_its_card(finished):
    settings, events = finished
    assert [e.done for e in events if getattr(e, "unit", "") == "steps"] == list(range(1, 9))
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
def test_an_interrupted_training_gives_the_same_weights(settings, finished, stop):
    stop_after(settings, stop)
    assert not settings.out.exists()
    assert load_checkpoint(settings.run_folder).step == stop
    resumed = list(iter_train(dataclasses.replace(settings, resume=True)))
    assert next(e for e in resumed if getattr(e, "unit", "") == "steps").done == stop + 1
    assert same(weights_of(settings), weights_of(finished[0]))


def test_a_killed_training_gives_the_same_weights(settings, finished):
    """A kill leaves an older checkpoint, and log lines of later steps with half a line last."""
    stop_after(settings, 3)
    files = [settings.run_folder / name for name in ("checkpoint.pt", "log.jsonl")]
    checkpoint = files[0].read_bytes()
    stop_after(dataclasses.replace(settings, resume=True), 5)
    files[0].write_bytes(checkpoint)
    files[1].write_text(files[1].read_text() + '{"step": 5, "lo')
    list(iter_train(dataclasses.replace(settings, resume=True)))
    assert same(weights_of(settings), weights_of(finished[0]))
    lines = [json.loads(x) for x in files[1].read_text().splitlines()]
    assert [line["step"] for line in lines] == [4, 8]


def test_training_learns(write_images, tmp_path):
    """Pairs with one constant change: it is learned within a few steps."""
    sharp = write_images("sharp", ["a.png", "b.png"], sigma=1)
    blurred = write_images("blurred", ["a.png", "b.png"], sigma=2)
    more = {"batch_size": 4, "patch_size": 32, "learning_rate": 5e-3, "warmup": 5, "held_out": 0.5}
    out = tmp_path / "mine.safetensors"
    train(blurred, sharp, out, network=NETWORK, steps=40, device="cpu", precision="fp32", **more)
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


def test_a_single_small_image_trains_without_validation(settings, write_images, tmp_path):
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
        ({"synthesize": "rain"}, "synthesize must be one of 'defocus'"),
        ({"sharp": ()}, "Training needs sharp images"),
        ({"kinds": ("photo", "photo")}, "2 kinds for 1 folders"),
        ({"blurred": Path()}, "need two folders of sharp images"),
        ({"blurred": Path(), "synthesize": None, "sharp": (Path(),) * 2}, "Add --synthesize"),
        ({"pair_share": 0.5}, "pair_share is for pairs together with a synthesized blur"),
        ({"blurred": Path(), "sharp": (Path(),) * 2, "pair_share": 1.0}, "between 0 and 1"),
        ({"blurred": Path(), "sharp": (Path(),) * 2, "degrade_on": "device"}, "without blurred"),
        ({"kinds": ("painting",)}, "kind must be one of 'auto'"),
        ({"larger_patches": (64, 32)}, "larger_patches must grow"),
        ({"larger_patches": (65,)}, r"multiple of 32 .*got patch_size=65"),
        ({"dual_pixel": Path()}, "dual_pixel takes the place of sharp"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"held_out": 1.0}, "held_out and ema"),
        ({"loss": "l3"}, "There is no such loss"),
        ({"loss": "l1 * 2"}, "weighted sum"),
        ({"parameters": "encoder"}, "parameters must be one of 'all', 'deconvolution', 'decoder'"),
        ({"parameters": "deconvolution"}, "The network has no deconvolution to train"),
        ({"deconvolution": DeconvolutionSettings()}, "adds to a trained model only"),
        ({"keep": "both"}, "keep must be one of"),
        ({"patience": 0}, "patience must be at least 1"),
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


@pytest.fixture
def pairs(write_images):
    """Folders of blurred and sharp images, four each."""
    names = ["a.png", "b.png", "c.png", "d.png"]
    sharp, blurred = write_images("sharp", names, sigma=1), write_images("blurred", names)
    for name in names:
        image = np.asarray(Image.open(sharp / name)).astype(float)
        image = ndimage.gaussian_filter(image, (1.5, 1.5, 0)).round().astype(np.uint8)
        Image.fromarray(image).save(blurred / name)
    return blurred, sharp


@pytest.fixture
def from_pairs(settings, pairs):
    return dataclasses.replace(settings, sharp=(pairs[1],), blurred=pairs[0], synthesize=None)


def test_a_bad_pair_stops_the_training_or_is_skipped_by_name(from_pairs, pairs):
    (pairs[1] / "b.png").unlink()
    image = np.asarray(Image.open(pairs[1] / "c.png"))
    Image.fromarray(np.roll(image, 7, axis=0)).save(pairs[1] / "c.png")
    with pytest.raises(TrainingError, match=r"2 of 4 pairs cannot be .*b\.png has no partner"):
        list(iter_train(from_pairs))
    events = list(iter_train(dataclasses.replace(from_pairs, skip_bad=True, steps=2)))
    skipped = [e.message for e in events if isinstance(e, Notice)]
    assert "no partner" in skipped[0]
    assert "c.png: the sharp image is moved 6.7 px down against" in skipped[1]
    events = list(
        iter_train(
            elsewhere(from_pairs, "moved.safetensors", skip_bad=True, register=True, steps=2)
        )
    )
    assert not [e for e in events if isinstance(e, Notice) and "Skipped: c.png" in e.message]
    only_bad = elsewhere(from_pairs, "bad.safetensors", blurred=pairs[1].parent / "wrong")
    shutil.copytree(pairs[0], only_bad.blurred)
    for file in only_bad.blurred.iterdir():
        Image.new("RGB", (9, 9)).save(file)
    with pytest.raises(TrainingError, match="4 of 4"):
        list(iter_train(dataclasses.replace(only_bad, skip_bad=True)))


def test_pairs_and_synthesized_blur_train_together(from_pairs, write_images, monkeypatch):
    """A network that is told the synthesized blur has to find that of the pairs."""
    more = write_images("more", ["e.png", "f.png", "g.png", "h.png"])
    changes = {"synthesize": "known", "network": FINDING_NETWORK, "pair_share": 0.5, "steps": 4}
    settings = dataclasses.replace(from_pairs, sharp=(*from_pairs.sharp, more), **changes)
    of_pairs = Mock(side_effect=patches.describe_unknown)
    monkeypatch.setattr(patches, "describe_unknown", of_pairs)
    list(iter_train(settings))
    assert 2 + 1 < of_pairs.call_count < 2 + 8  # half of 4 for validation, and some of 8 others
    assert all(t.isfinite().all() for t in weights_of(settings).values())
    told = FINDING_NETWORK.model_copy(update={"deconvolution": None})
    with pytest.raises(TrainingError, match="must be told the blur, which of pairs is not known"):
        list(iter_train(elsewhere(settings, "told.safetensors", network=told)))


def test_arrays_and_files_give_the_same_weights(from_pairs, pairs, tmp_path):
    """One stack of planes in memory, lazily, and in a file."""
    folders = [tmp_path / "stacks" / name for name in ("blurred", "sharp")]
    stacks = []
    for folder, images in zip(folders, pairs, strict=True):
        folder.mkdir(parents=True)
        files = sorted(images.iterdir())
        stacks.append(np.stack([np.asarray(Image.open(f))[..., 0] for f in files]))
        tifffile.imwrite(folder / "image.tif", stacks[-1], photometric="minisblack")
    fields = ("steps", "batch_size", "patch_size", "warmup", "network", "device", "precision")
    more = {name: getattr(from_pairs, name) for name in fields} | {"held_out": 0}
    made = []
    lazy = [da.from_array(stack, chunks=(1, 20, 20)) for stack in stacks]
    for k, (blurred, sharp) in enumerate((folders, stacks, lazy)):
        out = tmp_path / f"{k}.safetensors"
        train(blurred, sharp, out, **more)
        made.append(load_weights(out)[1])
    assert same(made[0], made[1])
    assert same(made[0], made[2])


def test_annotations_reach_the_training(from_pairs, pairs, write_images):
    plain = elsewhere(from_pairs, "plain.safetensors", steps=2)
    list(iter_train(plain))
    masks = plain.out.with_name("masks")
    masks.mkdir()
    for file in pairs[1].iterdir():
        labels = np.zeros((48, 56), np.uint8)
        labels[:, 30:] = 2
        Image.fromarray(labels).save(masks / file.name)
    annotated = dataclasses.replace(from_pairs, annotations=masks, steps=2)
    list(iter_train(annotated))
    assert not same(weights_of(annotated), weights_of(plain))
    assert all(t.isfinite().all() for t in weights_of(annotated).values())


@pytest.mark.parametrize(
    ("parameters", "kept"), [("decoder", ("embed.", "encoder.", "down.")), ("output", "")]
)
def test_only_what_is_asked_for_is_trained(settings, tiny_weights, parameters, kept):
    base = load_weights(tiny_weights)[1]
    part = dataclasses.replace(
        settings, network=None, from_model=str(tiny_weights), parameters=parameters, steps=2
    )
    list(iter_train(part))
    state = weights_of(part)
    changed = {key for key in base if not torch.equal(state[key], base[key])}
    if parameters == "output":
        assert changed == {"output.weight"}
    else:
        assert "output.weight" in changed
        assert {key.split(".")[0] + "." for key in changed}.isdisjoint(kept)
        assert any(key.startswith("decoder.") for key in changed)


def test_a_deconvolution_is_added_and_trained_alone(settings, tiny_weights):
    base = load_weights(tiny_weights)[1]
    alone = dataclasses.replace(
        settings, network=None, from_model=str(tiny_weights), parameters="deconvolution"
    )
    with pytest.raises(TrainingError, match="has no deconvolution to train"):
        list(iter_train(alone))
    given = dataclasses.replace(alone, deconvolution=DeconvolutionSettings(dim=8, dilations=(2,)))
    reports = [event for event in iter_train(given) if isinstance(event, Trained)]
    state = weights_of(given)
    assert all(torch.equal(state[key], base[key]) for key in base)
    assert state["deconvolution.shares.weight"].abs().max() > 0
    # validation looks at what is trained: untrained it leaves the blurred patches as they are
    assert reports[0].psnr == pytest.approx(reports[0].psnr_blurred, abs=1e-3)
    assert reports[-1].psnr != pytest.approx(reports[-1].psnr_blurred, abs=1e-3)


def test_tensorboard_gets_what_the_log_gets(settings):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    list(iter_train(dataclasses.replace(settings, tensorboard=True)))
    board = event_accumulator.EventAccumulator(str(settings.run_folder / "tensorboard"))
    board.Reload()
    lines = [json.loads(x) for x in (settings.run_folder / "log.jsonl").read_text().splitlines()]
    for name in ("loss", "psnr", "learning_rate"):
        shown = [(event.step, event.value) for event in board.Scalars(name)]
        assert shown == [(line["step"], pytest.approx(line[name])) for line in lines]
    assert [image.step for image in board.Images("blurred, restored, sharp")] == [4, 8]


def test_a_run_is_resumed_from_its_folder_alone(settings, tiny_weights):
    """Every setting comes back, and the weights are those of the whole training."""
    further = dataclasses.replace(
        settings,
        steps=5,
        network=None,
        from_model=str(tiny_weights),
        deconvolution=DeconvolutionSettings(dim=8, dilations=(2,)),
        training_data=(TrainingData(name="blobs", licence="CC0", images=4),),
    )
    list(iter_train(further))
    stopped = elsewhere(further, "stopped.safetensors")
    stop_after(stopped, 3)
    assert load_settings(stopped.run_folder) == dataclasses.replace(stopped, resume=True)
    list(iter_train(load_settings(stopped.run_folder)))
    assert same(weights_of(stopped), weights_of(further))

    file = stopped.run_folder / "settings.json"
    values = json.loads(file.read_text())
    for damage in ({"steps": "many"}, {"surprise": 1}, {"training_data": [3]}):
        file.write_text(json.dumps(values | damage))
        with pytest.raises(TrainingError, match="is damaged"):
            load_settings(stopped.run_folder)
    with pytest.raises(TrainingError, match="is not the folder of a training"):
        load_settings(stopped.run_folder.parent)


def test_training_keeps_the_best_weights_and_stops_early(settings, tiny_weights):
    """A learning rate that only destroys: the best model is the one it started from."""
    worse = dataclasses.replace(
        settings,
        network=None,
        from_model=str(tiny_weights),
        learning_rate=0.01,
        ema=0.0,
        steps=50,
        validate_every=2,
        patience=3,
        keep="best",
    )
    events = list(iter_train(worse))
    validations = [e for e in events if isinstance(e, Trained) and e.psnr is not None]
    assert validations[0].step == 0
    assert math.isnan(validations[0].loss)
    assert max(v.psnr for v in validations) == validations[0].psnr
    assert validations[-1].step == 6
    assert any(isinstance(e, Notice) and "Stopped early" in e.message for e in events)
    assert same(weights_of(worse), load_weights(tiny_weights)[1])
    last = load_weights(worse.run_folder / "last.safetensors")[1]
    assert not same(last, load_weights(tiny_weights)[1])


def test_a_stopped_training_leaves_its_best_and_its_last_weights(settings):
    stop_after(settings, 6)
    assert load_weights(settings.run_folder / "best.safetensors")[0].metrics["training steps"] == 4
    assert load_weights(settings.run_folder / "last.safetensors")[0].metrics["training steps"] == 6
    with Image.open(settings.run_folder / "validation" / "step_000004.png") as picture:
        assert picture.size == (96, 32)


def test_a_training_that_diverges_names_the_step(settings):
    with pytest.raises(TrainingError, match=r"loss became nan by step 8 .* lower learning rate"):
        list(iter_train(dataclasses.replace(settings, learning_rate=1e30, validate_every=20)))


@pytest.mark.parametrize("loss", ["charbonnier", "frequency", "decibel", "l1 + 0.1*frequency"])
def test_every_loss_trains(settings, loss):
    other = dataclasses.replace(settings, loss=loss, steps=2)
    losses = [e.loss for e in iter_train(other) if isinstance(e, Trained)]
    low, high = (-50, 0) if loss == "decibel" else (0, 1)
    assert low < losses[0] < high
