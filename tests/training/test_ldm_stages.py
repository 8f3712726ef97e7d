"""The paper's recipe at a tiny size: train its prior, sample it once, train the network with it."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import VQModel
from PIL import Image
from scipy import ndimage

from helpers.images import write_blobs
from helpers.tiny import TINY_NETWORK
from helpers.train_runs import elsewhere, same, stop_after, train, weights_of
from napari_swintormer import deblur
from napari_swintormer.errors import FileError, OutputError, TrainingError, WeightsError
from napari_swintormer.events import Notice, Progress
from napari_swintormer.models.files.weights import read_card
from napari_swintormer.models.prior import ldm
from napari_swintormer.models.prior.ldm import NOTHING, build_denoiser, load_prior
from napari_swintormer.models.prior.prior_settings import LdmPriorSettings
from napari_swintormer.training.loop import ldm_plan
from napari_swintormer.training.loop.train import iter_train
from napari_swintormer.training.train_settings import TrainSettings

NAMES = ["a.png", "b.png", "c.png"]
HEADS = {"attention_head_dim": 8, "norm_num_groups": 4}
PRIOR = LdmPriorSettings(num_inference_steps=2, window=32, shift=16)


@pytest.fixture(scope="module", autouse=True)
def _small():
    """Train a denoiser of 35 000 parameters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ldm, "_SMALL", ldm._SMALL | {"block_out_channels": (8, 8, 16)} | HEADS)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Sharp and blurred images; the two views of a dual-pixel camera lie a pixel apart."""
    folder = tmp_path_factory.mktemp("pairs")
    sharp = write_blobs(folder / "target", NAMES, (44, 64, 3))
    for name, shift in (("inputR", -0.5), ("inputL", 0.5), ("inputC", 0)):
        (folder / name).mkdir()
        for file in sharp.iterdir():
            soft = ndimage.gaussian_filter(np.asarray(Image.open(file), np.float32), (1.5, 1.5, 0))
            soft = ndimage.shift(soft, (0, shift, 0), mode="nearest").round().clip(0, 255)
            Image.fromarray(soft.astype(np.uint8)).save(folder / name / file.name)
    return folder


@pytest.fixture(scope="module")
def whole(folders, tmp_path_factory):
    """Settings and events of a finished training of both stages, from nothing."""
    settings = TrainSettings(
        sharp=(folders / "target",),
        blurred=folders / "inputC",
        out=tmp_path_factory.mktemp("whole") / "mine.safetensors",
        network=TINY_NETWORK.model_copy(update={"dim": 8}),
        stage="prior",
        prior=PRIOR,
        prior_source=NOTHING,
        steps=40,
        batch_size=4,
        patch_size=32,
        learning_rate=4e-3,
        clip=1.0,
        warmup=4,
        ema=0.9,
        held_out=0.25,
        device="cpu",
        precision="fp32",
    )
    return settings, list(iter_train(settings))


@pytest.fixture
def second(whole, tmp_path):
    """Settings of a short second stage, which continues from the finished first one."""
    return dataclasses.replace(
        whole[0],
        out=tmp_path / "second.safetensors",
        stage="network",
        prior_source=str(whole[0].run_folder / "denoiser.safetensors"),
        prior_cache=whole[0].latents,
        steps=3,
    )


def test_the_recipe_gives_a_network_that_deblurs(whole, folders):
    settings, events = whole
    *_, last = map(json.loads, (settings.run_folder / "log.jsonl").read_text().splitlines())
    assert last["psnr"] - last["psnr_blurred"] > 0.5
    (plan,) = [e.message for e in events if isinstance(e, Notice) and "Plan" in e.message]
    for part in ("training the denoiser", "sampling the prior of 3 images", "GB on disk"):
        assert part in plan
    units = [e.unit for e in events if isinstance(e, Progress)]
    assert list(dict.fromkeys(units)) == ["pairs", "steps", "priors"]
    assert list(iter_train(dataclasses.replace(settings, resume=True))) == []  # all is done

    prior = str(settings.run_folder / "denoiser.safetensors")
    blurred = np.asarray(Image.open(folders / "inputC" / "a.png"))
    restored = deblur(blurred, settings.out, prior=prior, precision="fp32")
    assert (restored != deblur(blurred, settings.out, prior="off", precision="fp32")).any()
    with pytest.raises(FileError, match="lies in a file of its own"):
        deblur(blurred, settings.out)


def test_both_stages_are_one_training(whole, second):
    """The first stage as a training of its own gives the denoiser of the whole training."""
    first = elsewhere(
        second,
        "denoiser.safetensors",
        stage="denoiser",
        prior_source=NOTHING,
        prior_cache=None,
        network=None,
        steps=10,
    )
    stop_after(first, 4)
    list(iter_train(dataclasses.replace(first, resume=True)))
    states = [
        load_prior(str(file), PRIOR).denoiser.state_dict() for file in (first.out, prior_of(second))
    ]
    assert same(*states)


def prior_of(settings):
    return settings.prior_source


def test_priors_are_sampled_once(second):
    before = {file: file.stat().st_mtime_ns for file in second.latents.glob("*.npy")}
    assert len(before) == 3
    events = list(iter_train(second))
    assert not [e for e in events if getattr(e, "unit", "") == "priors"]
    assert {file: file.stat().st_mtime_ns for file in second.latents.glob("*")} == before
    # stopped in its steps and resumed, it gives the same weights
    stopped = elsewhere(second, "stopped.safetensors")
    stop_after(stopped, 1)
    assert same(train(dataclasses.replace(stopped, resume=True))[1], weights_of(second))


def test_a_stopped_sampling_continues_and_its_key_knows_the_steps(second, tmp_path):
    other = dataclasses.replace(second, num_inference_steps=3, prior_cache=tmp_path / "three")
    events = iter_train(other)
    priors = (e for e in events if isinstance(e, Progress) and e.unit == "priors")
    event = next(e for e in priors if e.done)
    assert event.total == 3
    assert event.steps == 3 * 2 * 3  # steps, and windows of 32 every 16 pixels of 48 x 64
    events.close()
    (first,) = other.latents.iterdir()
    written = first.stat().st_mtime_ns
    list(iter_train(other))
    assert first.stat().st_mtime_ns == written
    names = {file.name for file in other.latents.iterdir()}
    assert len(names) == 3
    assert not names & {file.name for file in second.latents.iterdir()}
    assert np.load(first).shape == (3, 44, 64)
    assert read_card(other.out).prior.num_inference_steps == 3


def test_a_dual_pixel_network_takes_both_views_and_the_prior(second, folders):
    settings = dataclasses.replace(
        second, sharp=(), blurred=None, dual_pixel=folders, prior_cache=None
    )
    card, _ = train(settings)
    assert (card.network.views, card.network.in_channels) == (2, 9)
    right, left = (np.asarray(Image.open(folders / f"input{x}" / "a.png")) for x in "RL")
    results = [
        deblur(right, settings.out, second_view=left, prior=prior, precision="fp32")
        for prior in (second.prior_source, "off")
    ]
    assert (results[0] != results[1]).any()


def test_a_denoiser_learns_from_the_latents_of_a_frozen_autoencoder(second, tmp_path):
    """Sizes of denoiser and autoencoder are those of the folder."""
    folder = tmp_path / "ldm"
    sizes = {"layers_per_block": 1, "norm_num_groups": 4, "block_out_channels": (8, 8, 8)}
    denoiser = build_denoiser(
        sizes
        | {"in_channels": 6, "out_channels": 3, "attention_head_dim": 8}
        | {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
    )
    autoencoder = VQModel(
        **sizes,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
    )
    denoiser.save_pretrained(folder / "unet")
    autoencoder.save_pretrained(folder / "vqvae")
    settings = elsewhere(
        second,
        "denoiser.safetensors",
        stage="denoiser",
        prior_source=str(folder),
        prior_cache=None,
        network=None,
    )
    list(iter_train(settings))
    after = load_prior(str(settings.out), PRIOR).denoiser
    assert after.config.block_out_channels == (8, 8, 8)
    assert not same(after.state_dict(), denoiser.state_dict())


def test_another_prior_than_that_of_the_training_is_refused(whole, tmp_path):
    settings, _ = whole
    other = load_prior(str(settings.run_folder / "denoiser.safetensors"), PRIOR).denoiser
    with torch.no_grad():
        other.conv_out.bias += 1
    ldm.save_denoiser(tmp_path / "other.safetensors", other)
    image = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(WeightsError, match="was trained with another prior"):
        deblur(image, settings.out, prior=str(tmp_path / "other.safetensors"))
    with pytest.raises(WeightsError, match="holds no prior"):
        deblur(image, settings.out, prior=str(settings.out))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stage": "joint"}, "has the stages denoiser, network and prior"),
        ({"prior_source": NOTHING}, "needs a trained prior"),
        ({"blurred": None, "synthesize": "defocus"}, "must be blurred already"),
        ({"stage": "denoiser", "patch_size": 36}, "must be a multiple of 8"),
        ({"stage": "denoiser"}, "Leave from_model and network out"),
        ({"prior": None}, "prior_source goes with the paper's prior .* Add prior='ldm'"),
        ({"num_inference_steps": 1000}, "num_inference_steps must be less than 1000"),
    ],
)
def test_what_does_not_fit_the_prior_is_refused(second, changes, says):
    changes = {"network": None, **changes} if changes.get("patch_size") else changes
    with pytest.raises(TrainingError, match=says):
        list(iter_train(dataclasses.replace(second, **changes)))


def test_a_disk_that_is_too_small_is_found_before_anything_runs(second, monkeypatch):
    monkeypatch.setattr(ldm_plan.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=r"needs 0.0 GB in .* \(got 0.0 GB free\)"):
        next(iter_train(second))
    assert not second.run_folder.exists()
