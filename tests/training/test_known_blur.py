"""Training patches of a known blur: what the network sees beside the image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from helpers.images import texture
from helpers.tiny import FINDING_NETWORK, random_network, tiny_card, tiny_prior_card
from helpers.train_runs import elsewhere
from napari_swintormer import load_model, train
from napari_swintormer.events import Notice
from napari_swintormer.models.blur_filter import KnownBlurRestorer
from napari_swintormer.models.files.weights import load_weights, save_weights
from napari_swintormer.models.stepwise import run_to_end
from napari_swintormer.optics import psf
from napari_swintormer.optics.inverse_filter import REACH, ImagePower, blur_maps
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.training.degradations.known_blur import Knowledge, KnownBlur, draw_known
from napari_swintormer.training.degradations.known_field import DepthScene, draw_places
from napari_swintormer.training.loop.train import iter_train

POINT = np.ones((1, 1), np.float32)


@pytest.mark.parametrize("modality", ["photo", "fluorescence", "brightfield"])
def test_what_is_known_of_a_blur_is_a_distribution(modality):
    rng = np.random.default_rng(2)
    for _ in range(12):
        known = draw_known(modality, rng)
        # none are left to the estimator
        assert sum(share for share, _ in known.known.candidates) in (0, pytest.approx(1))
        assert 0 <= known.known.certainty <= 1 + 1e-6
        assert (known.known.gamma == 1) == (modality != "photo" or known.grey)


def test_a_patch_is_filtered_as_in_a_run_and_loses_its_margin():
    recording = draw_known("photo", np.random.default_rng(0)).recording
    image = np.stack([texture(64 + 2 * REACH, 64 + 2 * REACH)] * 3)
    inner = image[:, REACH:-REACH, REACH:-REACH]
    sharp = KnownBlur(recording, Knowledge(((1.0, POINT),), 0.7, 1)).describe(image)
    assert sharp.shape == (6, 64, 64)
    np.testing.assert_allclose(sharp[:3], inner, atol=1e-4)  # a point blurs nothing
    assert sharp[4, 0, 0] == np.float32(0.7)
    blurred = KnownBlur(recording, Knowledge(((1.0, psf.disk(3)),), 1, 2.2)).describe(image)
    assert np.abs(blurred[:3] - inner).max() > 0.01


class Seen(torch.nn.Module):
    """Stands behind the filter, and remembers what a network is given."""

    multiple, card = 1, tiny_card()

    def samples_prior(self, radius, *, unclear):
        return False

    def in_steps(self, tiles, origins, continued):
        yield
        self.continued = continued
        return tiles


def scene():
    """Draw patches until one shows a scene in depth, and record it."""
    for seed in range(99):
        rng = np.random.default_rng(seed)
        drawn = draw_known("photo", rng, 0)
        if isinstance(drawn.recording, DepthScene):
            side = 64 + 2 * drawn.margin
            image, _, known = drawn.record(np.stack([texture(side, side)] * 3), rng)
            return image.clip(0, 1).astype(np.float32), known
    raise AssertionError("no scene in 99 patches")


def test_a_scene_is_described_by_its_field_as_in_a_run_and_the_same_again():
    image, known = scene()
    described, (again, same) = known.describe(image), scene()
    np.testing.assert_array_equal(described, same.describe(again))
    plane, tile = known.known.of(image), torch.from_numpy(image)[None]
    assert plane.found.field is not None
    seen = Seen()
    run_to_end(KnownBlurRestorer({0: plane}, (64, 64), 3, seen).in_steps(tile))
    np.testing.assert_array_equal(described[:3], seen.continued.tiles[0])
    np.testing.assert_array_equal(described[3:], seen.continued.maps[0])
    assert np.ptp(described[3]) > 0  # the size changes from pixel to pixel


def test_what_is_known_of_places_follows_their_true_radius():
    """Over many fields the expected radius rises with the true one, in spite of the errors."""
    radius = np.full((128, 256), 0.3, np.float32)
    radius[:, 128:] = 6
    left, right = [], []
    for seed in range(20):
        places = draw_places(radius, np.random.default_rng(seed))
        np.testing.assert_allclose(places.shares.sum(axis=0), 1, rtol=1e-5)
        left.append(places.shares[0, :, 0].mean())
        right.append(places.shares[0, :, -1].mean())
    assert np.mean(left) > 0.7 > 0.5 > np.mean(right)
    assert np.ptp(left) > 0.1  # and it is not always right
    assert np.ptp(right) > 0.1


def test_a_device_draws_no_scene():
    rng = np.random.default_rng(0)
    drawn = [draw_known("photo", rng, 0, on_device=True) for _ in range(40)]
    assert not any(isinstance(d.recording, DepthScene) for d in drawn)


def test_the_maps_tell_size_certainty_and_noise():
    coarse, fine = blur_maps(8, 1, ImagePower(0.01, 1)), blur_maps(1, 1, ImagePower(0.001, 1))
    assert coarse[0] > fine[0] == 0
    assert coarse[2] > fine[2]


def test_a_network_for_a_known_blur_is_trained_from_another_one(
    tmp_path, write_images, tiny_weights
):
    out = tmp_path / "known.safetensors"
    train(
        sharp=write_images("sharp", ["a.png"], (96, 96, 3)),
        synthesize="known",
        from_model=tiny_weights,
        out=out,
        steps=2,
        batch_size=1,
        patch_size=32,
        held_out=0,
        device="cpu",
    )
    assert load_model(out).card.network.known_blur


def test_of_two_networks_the_one_for_the_blur_at_hand_is_trained(settings, tmp_path):
    card = tiny_prior_card(encoder=FINDING_NETWORK)
    changes = {"prior_channels": 3, "unclear": True}
    card = card.model_copy(update={"network": FINDING_NETWORK.model_copy(update=changes)})
    begin = tmp_path / "two.safetensors"
    save_weights(begin, random_network(card).state_dict(), card)
    before = load_weights(begin)[1]
    made = {"from_model": str(begin), "network": None, "steps": 1, "synthesize": "all"}
    settings = dataclasses.replace(settings, **made)
    list(iter_train(settings))
    trained, after = load_weights(settings.out)
    assert (trained.network, trained.prior, trained.blur) == (card.network, card.prior, "auto")
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("unclear.") for name in changed)
    alone = card.model_copy(
        update={"prior": None, "network": card.network.model_copy(update={"prior_channels": 0})}
    )
    kept = {n: v for n, v in before.items() if not n.startswith("prior.")}
    save_weights(begin, kept, alone)
    told = elsewhere(settings, "told.safetensors", synthesize="known", batch_size=8)
    list(iter_train(told))
    after = load_weights(told.out)[1]
    assert all(torch.equal(v, kept[n]) for n, v in after.items() if n.startswith("unclear."))
    assert not torch.equal(after["output.weight"], kept["output.weight"])


def test_without_a_told_blur_the_network_learns_to_find_it(settings, tmp_path):
    """The model is then used like that; a prior, which fits the old network, is left out."""
    card = tiny_prior_card(encoder=FINDING_NETWORK)
    network = FINDING_NETWORK.model_copy(update={"prior_channels": 3})
    card = card.model_copy(update={"network": network})
    save_weights(tmp_path / "begin.safetensors", random_network(card).state_dict(), card)
    begin = {"from_model": str(tmp_path / "begin.safetensors"), "network": None, "steps": 1}
    settings = dataclasses.replace(settings, **begin)
    said = [event.message for event in iter_train(settings) if isinstance(event, Notice)]
    assert any(sentence.startswith("The new model has no prior") for sentence in said)
    trained = load_model(settings.out).card
    assert (trained.prior, trained.network, trained.blur) == (None, FINDING_NETWORK, "unknown")
    job = prepare(np.zeros((40, 40), np.uint16), DeblurSettings(model=str(settings.out)))
    assert job.wish == "unknown"
