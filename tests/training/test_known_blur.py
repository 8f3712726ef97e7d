"""Training patches of a known blur: what the network sees beside the image."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.images import texture
from napari_swintormer import load_model, train
from napari_swintormer.optics import psf
from napari_swintormer.optics.inverse_filter import REACH, ImagePower, blur_maps
from napari_swintormer.training.degradations.known_blur import Knowledge, KnownBlur, draw_known

POINT = np.ones((1, 1), np.float32)


@pytest.mark.parametrize("modality", ["photo", "fluorescence", "brightfield"])
def test_what_is_known_of_a_blur_is_a_distribution(modality):
    rng = np.random.default_rng(2)
    for _ in range(12):
        known = draw_known(modality, rng)
        # none are left to the estimator
        assert sum(share for share, _ in known.known.candidates) in (0, pytest.approx(1))
        assert 0 <= known.known.certainty <= 1 + 1e-6
        assert (known.known.gamma == 1) == (modality != "photo")


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
