"""The stages of a training with prior: each learns, and changes its own parts only."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from helpers.images import write_blobs
from helpers.tiny import tiny_card
from helpers.train_runs import elsewhere, outcome, stop_after, train, weights_of
from napari_swintormer import deblur, load_model
from napari_swintormer.errors import TrainingError
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


@pytest.fixture(scope="module")
def first_stage(tmp_path_factory, tiny_weights):
    """Settings of a finished first stage, which began with a model without prior."""
    folder = tmp_path_factory.mktemp("stages")
    settings = TrainSettings(
        sharp=(write_blobs(folder / "sharp", ["a.png", "b.png", "c.png", "d.png"]),),
        out=folder / "autoencoder.safetensors",
        synthesize="defocus",
        from_model=str(tiny_weights),
        stage="autoencoder",
        prior=PRIOR,
        steps=3,
        batch_size=2,
        patch_size=32,
        learning_rate=5e-3,
        warmup=2,
        clip=1.0,
        ema=0.8,
        held_out=0.25,
        device="cpu",
        precision="fp32",
        validate_every=3,
        checkpoint_every=2,
    )
    train(settings)
    return settings


@pytest.fixture
def settings(first_stage, tmp_path):
    """Settings of the first stage, for a run of one's own."""
    return dataclasses.replace(first_stage, out=tmp_path / "autoencoder.safetensors")


@pytest.fixture
def follow(tmp_path):
    """Make the settings of the stage after a finished one."""

    def follow(settings, stage, **changes):
        return dataclasses.replace(
            settings,
            stage=stage,
            prior=None,
            from_model=str(settings.out),
            out=tmp_path / f"{stage}.safetensors",
            **changes,
        )

    return follow


@pytest.fixture
def rng_image():
    return np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)


def changed_parts(before, after):
    """Parts of a model that differ: those of the prior, and `network` for all others."""
    return {
        key.split(".")[1] if key.startswith("prior.") else "network"
        for key in after
        if not torch.equal(before[key], after[key])
    }


def test_every_stage_trains_its_own_parts(first_stage, follow, tiny_weights, rng_image):
    card, state = load_weights(first_stage.out)
    assert card.prior == PRIOR
    assert card.network.prior_channels == 3
    base = load_weights(tiny_weights)[1]
    own = {key: value for key, value in state.items() if not key.startswith("prior.")}
    assert all(torch.equal(own[key], base[key]) for key in base if key != "embed.weight")
    assert torch.equal(own["embed.weight"][:, :12], base["embed.weight"])
    assert not own["embed.weight"][:, 12:].any()
    # the encoder of the blurred image begins with the weights of the network
    body = "prior.blurred_encoder.body."
    encoder = {key.removeprefix(body): state[key] for key in state if key.startswith(body)}
    assert encoder.keys() == base.keys()
    assert all(torch.equal(encoder[key], base[key]) for key in encoder)

    expected = {
        "denoiser": {"blurred_encoder", "denoiser"},
        "network": {"network"},
        "joint": {"network", "blurred_encoder", "denoiser"},
    }
    one = first_stage
    for stage, parts in expected.items():
        one = follow(one, stage)
        card, after = train(one)
        assert changed_parts(state, after) == parts
        state = after
    assert {f"stage {stage}, steps" for stage in STAGES} <= card.metrics.keys()
    assert {f"stage {stage}, validation PSNR, dB" for stage in STAGES} <= card.metrics.keys()
    # and the model deblurs, with its prior or without
    restored = deblur(rng_image, one.out, precision="fp32")
    assert (restored == deblur(rng_image, one.out, precision="fp32")).all()
    assert (restored != deblur(rng_image, one.out, prior="off", precision="fp32")).any()


def gain(settings):
    """PSNR of a stage over that of the blurred patches, in dB."""
    *_, last = map(json.loads, (settings.run_folder / "log.jsonl").read_text().splitlines())
    return last["psnr"] - last["psnr_blurred"]


def test_autoencoder_and_denoiser_learn(settings, follow, tmp_path):
    sharp = write_blobs(tmp_path / "fine", ["a.png", "b.png", "c.png", "d.png"], (96, 96, 3))
    blurred = tmp_path / "soft"
    blurred.mkdir()
    for file in sharp.iterdir():
        soft = ndimage.gaussian_filter(np.asarray(Image.open(file)), (1.5, 1.5, 0))
        Image.fromarray(soft).save(blurred / file.name)
    encoder = PRIOR.encoder.model_copy(update={"dim": 16})
    settings = dataclasses.replace(
        settings,
        sharp=(sharp,),
        blurred=blurred,
        synthesize=None,
        prior=PRIOR.model_copy(update={"encoder": encoder, "num_inference_steps": 1}),
        steps=40,
        batch_size=4,
        validate_every=40,
        checkpoint_every=40,
    )
    train(settings)
    assert gain(settings) > 3  # the sharp image comes back out of its latent
    denoiser = follow(settings, "denoiser")
    train(denoiser)
    assert gain(denoiser) > 0.6  # and out of the sampled latent; untrained it changes nothing


def test_the_latent_has_a_mean_square_of_1(first_stage, follow):
    card, _ = start_with_prior(follow(first_stage, "denoiser"))
    pairs, *_ = outcome(find_plane_pairs(first_stage, 3))
    blurred, sharp = PatchSampler(pairs, 32, 3, card.intensity, 0).draw_validation(4)
    latent = load_model(first_stage.out).network.prior.encode(torch.from_numpy(sharp - blurred))
    torch.testing.assert_close(latent.square().mean(dim=(0, 2, 3)), torch.ones(16))


def test_an_interrupted_first_stage_gives_the_same_weights(first_stage, settings):
    stop_after(settings, 2)
    assert not settings.out.exists()
    load_model(settings.run_folder / "last.safetensors")
    _, state = train(dataclasses.replace(settings, resume=True))
    assert not changed_parts(weights_of(first_stage), state)


def test_an_interrupted_last_stage_gives_the_same_weights(first_stage, follow):
    joint = follow(first_stage, "joint", steps=2)
    _, wanted = train(joint)
    stopped = elsewhere(joint, "stopped.safetensors")
    stop_after(stopped, 1)
    _, state = train(dataclasses.replace(stopped, resume=True))
    assert not changed_parts(wanted, state)


def test_a_network_with_a_deconvolution_gets_a_prior(settings, follow, rng_image, tmp_path):
    """Its prior deconvolves the image at half and at a quarter of the size."""
    card = tiny_card()
    network = Swintormer(card.network)
    given, weights = with_deconvolution(
        card, network.state_dict(), DeconvolutionSettings(dim=8, dilations=(2,)), seed=0
    )
    base = tmp_path / "base.safetensors"
    save_weights(base, weights, given)
    first = dataclasses.replace(settings, from_model=str(base), prior=None, steps=1)
    train(first)
    joint = follow(first, "joint", steps=2)
    card, state = train(joint)
    assert card.prior.encoder == card.network.model_copy(update={"prior_channels": 0})
    for part in ("", "prior.blurred_encoder.body."):
        assert state[f"{part}deconvolution.shares.weight"].abs().max() > 0
    assert (deblur(rng_image, joint.out) != deblur(rng_image, joint.out, prior="off")).any()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stage": "everything"}, "stage must be one of 'network'"),
        ({"stage": "denoiser"}, "Train --stage autoencoder first"),
        ({"from_model": None}, "needs a model to start from"),
        ({"loss": "charbonnier"}, "losses and parameters of its own .* Leave loss out"),
    ],
)
def test_stages_in_the_wrong_order_are_refused(settings, change, says):
    with pytest.raises(TrainingError, match=says):
        list(iter_train(dataclasses.replace(settings, **change)))


def test_the_best_weights_are_kept(first_stage, follow):
    """The learning rate is far too high, so the best weights are those of the start."""
    spoilt = {"learning_rate": 0.1, "clip": 100.0, "patience": 1, "validate_every": 1}
    joint = follow(first_stage, "joint", keep="best", **spoilt)
    events = list(iter_train(joint))
    assert "Stopped early" in events[-2].message
    assert not changed_parts(weights_of(first_stage), weights_of(joint))


def test_annotations_are_refused(settings, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    for file in settings.sharp[0].iterdir():
        labels = np.ones(np.asarray(Image.open(file)).shape[:2], np.uint8)
        Image.fromarray(labels).save(masks / file.name)
    with pytest.raises(TrainingError, match="cannot be trained with annotations"):
        list(iter_train(dataclasses.replace(settings, annotations=masks)))


def test_all_stages_are_one_training(settings):
    """Stopped in its second stage and resumed, it gives the weights of the four single stages."""
    whole = elsewhere(
        settings,
        "whole.safetensors",
        stage="prior",
        steps=6,
        warmup=1,
        clip=0.01,
        learning_rate=3e-4,
    )
    stop_after(whole, 2)
    with pytest.raises(TrainingError, match="There is a training"):
        list(iter_train(whole))
    events = list(iter_train(dataclasses.replace(whole, resume=True)))
    assert {e.total for e in events if getattr(e, "unit", "") == "steps"} == {7}
    card, state = load_weights(whole.out)
    assert {f"stage {stage}, steps" for stage in STAGES} <= card.metrics.keys()

    plan = {"autoencoder": (1, 2e-3, 1.0), "denoiser": (2, 3e-4, 0.01)}
    plan |= {"network": (1, 3e-4, 0.01), "joint": (3, 3e-4, 0.01)}
    model = settings.from_model
    for stage, (steps, rate, clip) in plan.items():
        one = elsewhere(
            whole,
            f"{stage}.safetensors",
            stage=stage,
            prior=PRIOR if stage == "autoencoder" else None,
            from_model=model,
            steps=steps,
            learning_rate=rate,
            clip=clip,
        )
        _, wanted = train(one)
        model = str(one.out)
    assert not changed_parts(wanted, state)


@pytest.mark.parametrize("stage", ["denoiser", "joint"])
def test_fewer_patches_at_once_make_the_same_step(first_stage, follow, stage):
    """Every patch keeps the noise that it has among all patches."""
    settings = follow(first_stage, stage, batch_size=4)
    card, weights = start_with_prior(settings)
    networks = []
    for at_once in (4, 1):
        state = TrainingState(
            card, weights, settings, torch.device("cpu"), torch.float32, PRIOR_STAGES[stage]
        )
        state._at_once = at_once
        torch.manual_seed(0)
        blurred, sharp = torch.rand(2, 4, 3, 32, 32)
        state.update(blurred, sharp, 1e-3, 3)
        networks.append(state.network)
    # compared as a whole: where its sums cancel, processors round a gradient differently
    for one, other in zip(*(network.parameters() for network in networks), strict=True):
        if one.grad is not None:
            off = torch.linalg.vector_norm(one.grad - other.grad)
            assert off <= 1e-3 * torch.linalg.vector_norm(one.grad) + 1e-6


def test_a_prior_for_a_known_blur_leaves_its_network_alone(settings, follow):
    first = dataclasses.replace(settings, synthesize="wide", steps=1, prior=None)
    train(first)
    card, state = load_weights(first.out)
    assert card.network.known_blur
    assert card.network.deconvolution is card.prior.encoder.deconvolution is None
    joint = follow(first, "joint", steps=2)
    train(joint)
    assert changed_parts(state, load_weights(joint.out)[1]) == {"blurred_encoder", "denoiser"}
    with pytest.raises(TrainingError, match="does not learn with its prior"):
        train(follow(first, "network"))
