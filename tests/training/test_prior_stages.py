"""The stages of a training with prior: each learns, and each leaves alone what is not its own."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from helpers.tiny import tiny_card
from napari_swintormer import deblur, load_model
from napari_swintormer.errors import TrainingError
from napari_swintormer.events import Progress
from napari_swintormer.models.files.weights import load_weights, save_weights
from napari_swintormer.models.network.network_settings import DeconvolutionSettings
from napari_swintormer.models.network.swintormer import Swintormer
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings
from napari_swintormer.training.data.dataset import find_plane_pairs
from napari_swintormer.training.data.patches import PatchSampler
from napari_swintormer.training.loop.initial_model import with_deconvolution
from napari_swintormer.training.loop.prior_stages import start_with_prior
from napari_swintormer.training.loop.stage import PRIOR_STAGES
from napari_swintormer.training.loop.state import TrainingState
from napari_swintormer.training.loop.train import iter_train
from napari_swintormer.training.train_settings import TrainSettings

STAGES = ["autoencoder", "denoiser", "network", "joint"]
PRIOR = CompactPriorSettings(encoder=tiny_card().network, num_inference_steps=2)


@pytest.fixture
def settings(write_images, tmp_path, tiny_weights):
    """The first stage, from a model without prior."""
    return TrainSettings(
        sharp=(write_images("sharp", ["a.png", "b.png", "c.png", "d.png"]),),
        out=tmp_path / "autoencoder.safetensors",
        synthesize="defocus",
        from_model=str(tiny_weights),
        stage="autoencoder",
        prior=PRIOR,
        steps=8,
        batch_size=2,
        patch_size=32,
        learning_rate=5e-3,
        warmup=2,
        clip=1.0,
        ema=0.8,
        held_out=0.25,
        device="cpu",
        precision="fp32",
        validate_every=8,
        checkpoint_every=3,
    )


def follow(settings, stage, **changes):
    """Settings of the stage after that of `settings`."""
    return dataclasses.replace(
        settings,
        stage=stage,
        prior=None,
        from_model=str(settings.out),
        out=settings.out.with_name(f"{stage}.safetensors"),
        **changes,
    )


def train(settings):
    list(iter_train(settings))
    return load_weights(settings.out)


def changed_parts(before, after):
    """Which parts of a model differ: those of the prior, and `network` for all others."""
    return {
        key.split(".")[1] if key.startswith("prior.") else "network"
        for key in after
        if not torch.equal(before[key], after[key])
    }


def test_every_stage_trains_its_own_parts(settings, tiny_weights):
    one = dataclasses.replace(settings, steps=3)
    card, state = train(one)
    assert card.prior == PRIOR
    assert card.network.prior_channels == 3
    base = load_weights(tiny_weights)[1]
    own = {key: value for key, value in state.items() if not key.startswith("prior.")}
    assert all(torch.equal(own[key], base[key]) for key in base if key != "embed.weight")
    assert torch.equal(own["embed.weight"][:, :12], base["embed.weight"])
    assert not own["embed.weight"][:, 12:].any()
    # the encoder of the blurred image begins as what the network knows
    body = "prior.blurred_encoder.body."
    seeing = {key.removeprefix(body): state[key] for key in state if key.startswith(body)}
    assert seeing.keys() == base.keys()
    assert all(torch.equal(seeing[key], base[key]) for key in seeing)

    expected = {
        "denoiser": {"blurred_encoder", "denoiser"},
        "network": {"network"},
        "joint": {"network", "blurred_encoder", "denoiser"},
    }
    for stage, parts in expected.items():
        one = follow(one, stage)
        card, after = train(one)
        assert changed_parts(state, after) == parts
        state = after
    assert {f"stage {stage}, steps" for stage in STAGES} <= card.metrics.keys()
    assert {f"stage {stage}, validation PSNR, dB" for stage in STAGES} <= card.metrics.keys()


def gain(settings):
    """What a stage has brought over the blurred patches, in dB."""
    *_, last = map(json.loads, (settings.run_folder / "log.jsonl").read_text().splitlines())
    return last["psnr"] - last["psnr_blurred"]


def test_autoencoder_and_denoiser_learn(settings, write_images):
    sharp = write_images("fine", [f"{letter}.png" for letter in "abcdefgh"], (160, 160, 3))
    blurred = sharp.with_name("soft")
    blurred.mkdir()
    for file in sharp.iterdir():
        soft = ndimage.gaussian_filter(np.asarray(Image.open(file)), (1.5, 1.5, 0))
        Image.fromarray(soft).save(blurred / file.name)
    pairs = {
        "sharp": (sharp,),
        "blurred": blurred,
        "synthesize": None,
        "steps": 100,
        "batch_size": 4,
        "learning_rate": 3e-3,
        "validate_every": 25,
        "checkpoint_every": 100,
    }
    encoder = PRIOR.encoder.model_copy(update={"dim": 16})
    prior = PRIOR.model_copy(update={"encoder": encoder, "num_inference_steps": 1})
    settings = dataclasses.replace(settings, prior=prior, **pairs)
    train(settings)
    # the sharp image comes back out of its latent
    assert gain(settings) > 3
    denoiser = follow(settings, "denoiser")
    train(denoiser)
    # and out of the sampled one; at first the denoiser answers that nothing is missing
    assert gain(denoiser) > 0.6


def test_the_latent_is_brought_to_mean_square_1(settings):
    train(settings)
    card, _ = start_with_prior(follow(settings, "denoiser"))
    scenes, *_ = find_plane_pairs(settings, 3)
    blurred, sharp = PatchSampler(scenes, 32, 3, card.intensity, 0).draw_validation(48)
    latent = load_model(settings.out).network.prior.encode(torch.from_numpy(sharp - blurred))
    torch.testing.assert_close(latent.square().mean(dim=(0, 2, 3)), torch.ones(16))


@pytest.mark.parametrize("stage", ["autoencoder", "joint"])
def test_an_interrupted_stage_gives_the_same_weights(settings, stage):
    if stage == "joint":
        train(settings)
        settings = follow(settings, "joint")
    _, wanted = train(settings)
    interrupted = dataclasses.replace(settings, out=settings.out.with_name("stopped.safetensors"))
    events = iter_train(interrupted)
    while not (isinstance(e := next(events), Progress) and e.done == 5):
        pass
    events.close()
    assert not interrupted.out.exists()
    load_model(interrupted.run_folder / "last.safetensors")
    _, state = train(dataclasses.replace(interrupted, resume=True))
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_a_trained_model_deblurs(settings, rng_image):
    train(settings)
    joint = follow(settings, "joint")
    train(joint)
    one = deblur(rng_image, joint.out, precision="fp32")
    assert (one == deblur(rng_image, joint.out, precision="fp32")).all()
    assert (one != deblur(rng_image, joint.out, prior="off", precision="fp32")).any()


def test_a_network_that_deconvolves_gets_a_prior_too(settings, rng_image, tmp_path):
    """Its prior then sees the image deconvolved at half and at a quarter of the size."""
    card = tiny_card()
    network = Swintormer(card.network)
    given, weights = with_deconvolution(
        card, network.state_dict(), DeconvolutionSettings(dim=8, dilations=(2,)), seed=0
    )
    base = tmp_path / "base.safetensors"
    save_weights(base, weights, given)
    first = dataclasses.replace(settings, from_model=str(base), prior=None, steps=2)
    train(first)
    joint = follow(first, "joint")
    card, state = train(joint)
    assert card.prior.encoder == card.network.model_copy(update={"prior_channels": 0})
    for part in ("", "prior.blurred_encoder.body."):
        assert state[f"{part}deconvolution.shares.weight"].abs().max() > 0
    assert (deblur(rng_image, joint.out) != deblur(rng_image, joint.out, prior="off")).any()


@pytest.fixture
def rng_image():
    return np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stage": "everything"}, "stage must be one of 'network'"),
        ({"stage": "denoiser"}, "Train --stage autoencoder first"),
        ({"from_model": None}, "needs a model to start from"),
        ({"loss": "charbonnier"}, "losses and parameters of its own .* Leave loss out"),
    ],
)
def test_stages_out_of_order_are_refused(settings, change, says):
    with pytest.raises(TrainingError, match=says):
        list(iter_train(dataclasses.replace(settings, **change)))


def test_the_best_weights_are_kept(settings):
    """A rate that spoils everything: the best are those that training started from."""
    train(settings)
    spoilt = {"learning_rate": 0.1, "clip": 100.0, "patience": 1, "validate_every": 2}
    joint = follow(settings, "joint", keep="best", **spoilt)
    events = list(iter_train(joint))
    assert "Stopped early" in events[-2].message
    before, after = (load_weights(s.out)[1] for s in (settings, joint))
    assert changed_parts(before, after) == set()


def test_annotations_are_refused(settings):
    masks = settings.out.with_name("masks")
    masks.mkdir()
    for file in settings.sharp[0].iterdir():
        labels = np.ones(np.asarray(Image.open(file)).shape[:2], np.uint8)
        Image.fromarray(labels).save(masks / file.name)
    with pytest.raises(TrainingError, match="cannot be trained with annotations"):
        list(iter_train(dataclasses.replace(settings, annotations=masks)))


def test_all_stages_are_one_training(settings, monkeypatch):
    """Stopped in its second stage and resumed, it makes what the four stages make one by one."""
    monkeypatch.setattr("napari_swintormer.training.loop.validation._PATCHES", 2)
    monkeypatch.setattr("napari_swintormer.training.loop.trainer._FINISHING_PATCHES", 4)
    whole = dataclasses.replace(
        settings,
        stage="prior",
        steps=10,
        warmup=1,
        clip=0.01,
        learning_rate=3e-4,
        out=settings.out.with_name("whole.safetensors"),
    )
    events = iter_train(whole)
    while not (isinstance(e := next(events), Progress) and e.done == 3):
        pass
    assert e.total == 10
    events.close()
    with pytest.raises(TrainingError, match="There is a training"):
        list(iter_train(whole))
    card, state = train(dataclasses.replace(whole, resume=True))
    assert {f"stage {stage}, steps" for stage in STAGES} <= card.metrics.keys()

    plan = {"autoencoder": (1, 2e-3, 1.0), "denoiser": (3, 3e-4, 0.01)}
    plan |= {"network": (1, 3e-4, 0.01), "joint": (5, 3e-4, 0.01)}
    model = settings.from_model
    for stage, (steps, rate, clip) in plan.items():
        out = settings.out.with_name(f"{stage}.safetensors")
        one = dataclasses.replace(
            whole,
            stage=stage,
            prior=PRIOR if stage == "autoencoder" else None,
            from_model=model,
            out=out,
            steps=steps,
            learning_rate=rate,
            clip=clip,
        )
        _, wanted = train(one)
        model = str(out)
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_fewer_patches_at_once_are_the_same_step(settings):
    """Every patch keeps the noise that it has among all of them."""
    train(settings)
    for stage in ("denoiser", "joint"):
        one = follow(settings, stage, batch_size=4)
        states = []
        for at_once in (4, 1):
            card, weights = start_with_prior(one)
            state = TrainingState(
                card, weights, one, torch.device("cpu"), torch.float32, PRIOR_STAGES[stage]
            )
            state._at_once = at_once
            torch.manual_seed(0)
            blurred, sharp = torch.rand(2, 4, 3, 32, 32)
            state.update(blurred, sharp, 1e-3, 3)
            states.append(state.network)
        # of the whole gradient: where its sums cancel, processors round them differently
        for one_, other in zip(*(n.parameters() for n in states), strict=True):
            if one_.grad is not None:
                off = torch.linalg.vector_norm(one_.grad - other.grad)
                assert off <= 1e-3 * torch.linalg.vector_norm(one_.grad) + 1e-6
