"""The compact prior: its result, its cost, and the agreement of tiles."""

from __future__ import annotations

import json

import dask.array as da
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

from helpers.tiny import (
    TINY_NETWORK,
    random_network,
    sample_prior,
    sample_tiles,
    tiny_card,
    tiny_prior_card,
)
from napari_swintormer import deblur, load_model
from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.benchmark.timing import LiveBytes
from napari_swintormer.evaluation.methods.cost import count
from napari_swintormer.models.files.card import ModelCard
from napari_swintormer.models.files.weights import load_weights, save_weights
from napari_swintormer.models.prior.compact import CompactPrior, build_network
from napari_swintormer.models.prior.noise import TileNoise, TileOrigin
from napari_swintormer.models.prior.prior_settings import CompactPriorSettings, LdmPriorSettings
from napari_swintormer.models.prior.sampling import SamplingPlan, sample
from napari_swintormer.models.restorer import PriorUse, Restorer
from napari_swintormer.models.stepwise import run_to_end
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.training.train_presets import NETWORKS

TINY = CompactPriorSettings(encoder=TINY_NETWORK)


@pytest.fixture(scope="module")
def card():
    return tiny_prior_card()


@pytest.fixture(scope="module")
def file(card, tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "with-prior.safetensors"
    save_weights(path, random_network(card).state_dict(), card)
    return path


@pytest.fixture(scope="module")
def restorer(file):
    return load_model(file)


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 60_000, (150, 171), dtype=np.uint16)


def largest_difference(a, b):
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def test_a_file_holds_network_and_prior(file, card, restorer):
    found, state = load_weights(file)
    assert found == card
    assert any(key.startswith("prior.denoiser.") for key in state)
    for key, value in restorer.network.state_dict().items():
        assert torch.equal(value, state[key])


def test_a_model_without_prior_keeps_its_card(make_weights):
    with safe_open(make_weights(), framework="pt") as file:
        assert "prior" not in json.loads(file.metadata()["swintormer"])


def test_equal_seeds_give_equal_bits_and_other_seeds_other_samples(image, file):
    one = deblur(image, file, precision="fp32", seed=3)
    assert np.array_equal(one, deblur(image, file, precision="fp32", seed=3))
    for other in (
        {"seed": 4},
        {"seed": 3, "num_inference_steps": 1},
        {"seed": 3, "prior": "off"},
    ):
        assert largest_difference(one, deblur(image, file, precision="fp32", **other)) > 20


@pytest.mark.parametrize("chunks", [(150, 171), (40, 64), (1, 171)])
def test_chunks_change_nothing(image, file, chunks):
    whole = deblur(image, file, precision="fp32")
    lazy = deblur(da.from_array(image, chunks=chunks), file, precision="fp32")
    assert np.array_equal(whole, lazy.compute())


def test_the_batch_size_changes_nothing(image, file):
    whole = deblur(image, file, precision="fp32")
    assert largest_difference(whole, deblur(image, file, precision="fp32", batch_size=4)) <= 1


def test_each_plane_has_its_own_noise(image, file):
    stack = deblur(np.stack([image, image]), file, axes="ZYX", precision="fp32")
    assert largest_difference(stack[0], stack[1]) > 20


def test_the_prior_is_left_out(image, file, card, restorer):
    tiles = torch.rand(1, 3, 64, 64)
    off = restorer.with_prior(PriorUse(source="off"))
    nothing = torch.zeros(1, card.network.prior_channels, 64, 64)
    wanted = restorer.network(torch.cat([tiles, nothing], dim=1))
    torch.testing.assert_close(off(tiles), wanted)
    assert not off.needs_origins
    seeds = [deblur(image, file, prior="off", seed=seed, precision="fp32") for seed in (0, 1)]
    assert np.array_equal(*seeds)


@pytest.mark.parametrize("corner", [(0, 40), (3, 21), (17, 0), (8, 8)])
def test_tiles_agree_away_from_their_borders(restorer, corner, monkeypatch):
    """Latents and noise lie on one grid, so a tile inside another tile samples the same.

    The encoder's windows lie on a grid of the tile, so the encoder is replaced here.
    """

    def blind(images):
        channels = 4 * TINY_NETWORK.dim
        features = images.new_zeros(1, images.shape[2] // 4, images.shape[3] // 4, channels)
        return features, torch.zeros_like(torch.stack([images, images]))

    monkeypatch.setattr(restorer.network.prior.blurred_encoder, "forward", blind)
    image = torch.rand(1, 3, 240, 240)
    reach = 40  # pixels that all convolutions together reach
    y, x = corner
    whole = sample_tiles(restorer, image, [TileOrigin(0, 100, 200)])
    cut, origin = image[..., y : y + 192, x : x + 192], TileOrigin(0, 100 + y, 200 + x)
    part = sample_tiles(restorer, cut, [origin])
    inner = slice(reach, 192 - reach)
    torch.testing.assert_close(
        part[..., inner, inner], whole[..., y : y + 192, x : x + 192][..., inner, inner]
    )


def test_seams_are_no_rougher_than_the_rest(restorer, file):
    """Without overlap, the prior varies across a seam as much as elsewhere."""
    image = np.random.default_rng(1).random((3, 256, 256)).astype(np.float32)
    image = torch.nn.functional.avg_pool2d(torch.from_numpy(image), 9, 1, 4)[None]
    tiles = [(y, x) for y in range(0, 256, 64) for x in range(0, 256, 64)]
    sampled = torch.zeros(3, 256, 256)
    for y, x in tiles:
        tile = image[..., y : y + 64, x : x + 64]
        own = sample_tiles(restorer, tile, [TileOrigin(0, y, x)])
        sampled[:, y : y + 64, x : x + 64] = own[0]
    jumps = (sampled[..., 1:] - sampled[..., :-1]).abs().mean(dim=(0, 1))
    column = torch.arange(255)
    seam = column % 64 == 63
    grid = (column % 4 == 3) & ~seam  # neighbours in two pixels of the latent, as at a seam
    assert float(jumps[seam].mean() / jumps[grid].mean()) < 1.15


def test_all_steps_cost_a_fraction_of_the_network():
    network = NETWORKS["small"].model_copy(update={"prior_channels": 3})
    prior = CompactPriorSettings(encoder=NETWORKS["small"])
    card = tiny_card().model_copy(update={"network": network, "prior": prior})
    restorer = build_network(card.network, card.prior).eval()

    def macs(run):
        with torch.inference_mode():
            return count(run)

    # the size of the shipped models' tiles
    images, noise = torch.rand(1, 3, 512, 512), TileNoise(0, [TileOrigin(0, 0, 0)], 4)
    alone = macs(lambda: restorer(torch.rand(1, 6, 512, 512)))
    assert alone > 4e9
    assert macs(lambda: sample_prior(restorer.prior, images, noise, 1)) / alone < 0.45
    assert macs(lambda: sample_prior(restorer.prior, images, noise, 8)) / alone < 0.8


def test_a_tile_off_the_grid_of_the_latents_costs_no_more(restorer):
    def flops(y, x):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            restorer(tile, [TileOrigin(0, y, x)])
        return counter.get_total_flops()

    tile = torch.rand(1, 3, 128, 128)
    flops(0, 0)  # makes what is kept
    assert flops(8, 16) == flops(3, 6)


def test_a_tile_with_prior_takes_hardly_more_memory():
    network = NETWORKS["small"].model_copy(update={"prior_channels": 3})
    prior = CompactPriorSettings(encoder=NETWORKS["small"])
    card = tiny_card().model_copy(update={"network": network, "prior": prior})
    restorer = Restorer(card, build_network(card.network, card.prior).state_dict())
    tile = torch.rand(1, 3, 128, 128)

    def peak(**use):
        with torch.inference_mode(), LiveBytes() as memory:
            restorer.with_prior(PriorUse(**use))(tile)
        return memory.peak

    peak()  # makes what is kept
    alone = peak(source="off")
    assert alone > 128 * 128 * 16 * 15
    assert peak() < 1.1 * alone
    assert peak(samples=4, uncertainty=True) < 1.5 * alone


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "unipc"])
def test_every_solver_samples(solver):
    settings = TINY.model_copy(update={"solver": solver})
    prior = CompactPrior(settings).eval()
    images = torch.rand(1, 3, 32, 64)
    noise = TileNoise(0, [TileOrigin(0, 0, 0)], 4)
    for steps in (1, 3, 8):
        sampled = sample_prior(prior, images, noise, steps)
        assert sampled.shape == (1, settings.prior_channels, 32, 64)


def test_an_untrained_denoiser_returns_the_guess_at_half_the_size():
    prior = CompactPrior(TINY).eval()
    images, noise = torch.rand(1, 3, 64, 64), TileNoise(0, [TileOrigin(0, 0, 0)], 4)
    half = torch.nn.functional.avg_pool2d(images, 2)
    change = prior.blurred_encoder.body(half) - half
    enlarged = torch.nn.functional.interpolate(change, scale_factor=2, mode="bilinear")
    assert change.any()
    for steps in (1, 4):
        sampled = sample_prior(prior, images, noise, steps)
        torch.testing.assert_close(sampled, prior.decode(prior.encode(enlarged)))


def test_the_autoencoder_is_linear():
    prior = CompactPrior(TINY).eval()
    prior.scale.uniform_(0.01, 0.1)
    missing = torch.randn(2, 3, 32, 32)
    assert not prior.encode(torch.zeros_like(missing)).any()
    one, other = prior.decode(prior.encode(missing))
    mean = prior.decode(prior.encode(missing.mean(dim=0, keepdim=True)))[0]
    torch.testing.assert_close(mean, (one + other) / 2)


def test_a_prior_of_zero_changes_nothing():
    """With a prior of zero the network restores as it does from the image alone."""
    card = tiny_prior_card()
    network = random_network(card)
    plain = build_network(card.network.model_copy(update={"prior_channels": 0}), None)
    own = {key: value for key, value in network.state_dict().items() if key in plain.state_dict()}
    plain.load_state_dict(own | {"embed.weight": network.embed.weight[:, :12]})
    image, prior = torch.rand(2, 1, 3, 64, 64)
    nothing = torch.zeros_like(image)
    torch.testing.assert_close(network(torch.cat([image, nothing], dim=1)), plain(image))
    with_prior = network(torch.cat([image, 0.1 * prior], dim=1))
    assert (with_prior - plain(image)).abs().mean() > 1e-3


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"num_inference_steps": 0}, "from 1 to 399"),
        ({"num_inference_steps": 400}, "from 1 to 399"),
        ({"prior": "CompVis/anything"}, "prior='off'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_impossible_options_of_the_prior_are_refused(image, file, wish, says):
    with pytest.raises(SettingsError, match=says):
        deblur(image, file, **wish)


@pytest.mark.parametrize("wish", [{"num_inference_steps": 4}, {"prior": "CompVis/anything"}])
def test_a_model_without_prior_refuses_options_of_a_prior(image, tiny_weights, wish):
    with pytest.raises(SettingsError, match="no prior to sample"):
        deblur(image, tiny_weights, **wish)


def test_every_model_accepts_prior_off(image, tiny_weights):
    plain = deblur(image, tiny_weights, precision="fp32")
    assert np.array_equal(plain, deblur(image, tiny_weights, precision="fp32", prior="off"))


def test_a_card_whose_prior_does_not_fit_is_refused(card):
    fields = card.model_dump() | {
        "prior": TINY.model_copy(
            update={"encoder": TINY_NETWORK.model_copy(update={"channels": 5})}
        ).model_dump()
    }
    with pytest.raises(ValidationError, match=r"must be \(3, 3\)"):
        ModelCard.model_validate(fields)


def test_the_papers_prior_in_a_restorer(tmp_path, image):
    """A network for the paper's prior samples it from a folder of the user."""
    from napari_swintormer.models.prior.ldm import build_denoiser

    denoiser = build_denoiser(
        {
            "in_channels": 6,
            "out_channels": 3,
            "block_out_channels": (32, 32),
            "layers_per_block": 1,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 32,
        }
    )
    denoiser.save_pretrained(tmp_path)
    card = tiny_card()
    network = card.network.model_copy(update={"prior_channels": 3})
    prior = LdmPriorSettings(window=48, shift=24, num_inference_steps=2)
    card = card.model_copy(update={"network": network, "prior": prior})
    state = build_network(card.network, card.prior).state_dict()
    state["output.weight"] = 50 * state["output.weight"]
    restorer = Restorer(card, state)
    save_weights(tmp_path / "model.safetensors", state, card)
    wishes = DeblurSettings(str(tmp_path / "model.safetensors"), prior=str(tmp_path))
    job = prepare(image, wishes).load()
    assert len(job.provenance()["prior_sha256"]) == 64
    assert "a prior of 2 steps" in job.describe()
    use = {"prior": str(tmp_path), "precision": "fp32"}
    small = image[:64, :90]
    one = deblur(small, restorer, **use)
    assert np.array_equal(one, deblur(small, restorer, **use))
    lazy = deblur(da.from_array(small, chunks=(20, 30)), restorer, **use)
    assert np.array_equal(one, lazy.compute())
    assert largest_difference(one, deblur(small, restorer, seed=1, **use)) > 0
    assert largest_difference(one, deblur(small, restorer, prior="off")) > 0


def test_training_noises_latents_as_sampling_does():
    """With a perfect denoiser, the latents of a sampling equal those of training."""
    prior = CompactPrior(TINY)
    clean, noise = torch.randn(2, 1, 16, 8, 8)
    plan = SamplingPlan.trailing(prior.schedule, prior.settings.start, 4, prediction="clean")
    first, *times = (torch.tensor([t]) for t in plan.times)
    z = prior.schedule.diffuse(torch.zeros_like(clean), first, noise)
    torch.testing.assert_close(prior.diffuse(clean, first, noise), z)
    asked = []

    def always_right(z, _t):
        asked.append(z)
        yield
        return clean

    run_to_end(sample(always_right, z, plan, lambda _step, like: like))
    for t, z in zip(times, asked[1:], strict=True):
        torch.testing.assert_close(prior.diffuse(clean, t, noise), z)
