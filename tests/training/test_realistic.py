"""Degradations drawn as real instruments make them."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from napari_swintormer.optics import psf
from napari_swintormer.training.data.patches import DRAWN
from napari_swintormer.training.degradations.camera import Camera
from napari_swintormer.training.degradations.image_formation import depth_optics
from napari_swintormer.training.degradations.realistic import (
    DEGRADATIONS,
    Modality,
    Recording,
    draw_aperture,
    draw_motion,
    draw_recording,
    draw_wide_radius,
)
from napari_swintormer.training.degradations.simple import Degradation
from napari_swintormer.training.settings_check import Synthesis

MODALITIES = get_args(Modality)
SIDE = 24


def patch(degradation, rng, channels=3):
    side = SIDE + 2 * degradation.margin
    return rng.random((channels, side, side), dtype=np.float32)


def test_every_degradation_has_a_name_in_the_settings():
    assert tuple(DRAWN) == get_args(Synthesis)


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_degradation_depends_on_the_generator_only(name, modality):
    for seed in range(4):
        pairs = []
        for _ in range(2):
            rng = np.random.default_rng(seed)
            drawn = DEGRADATIONS[name](modality, rng)
            pairs.append(drawn.degrade(patch(drawn, rng, 1 + 2 * (seed % 2)), rng))
        np.testing.assert_array_equal(pairs[0], pairs[1])
        assert pairs[0][0].shape == pairs[0][1].shape == (1 + 2 * (seed % 2), SIDE, SIDE)
        assert np.isfinite(pairs[0]).all()
        assert pairs[0][0].dtype == pairs[0][1].dtype == np.float32


@pytest.mark.parametrize("draw", [draw_recording, draw_motion])
@pytest.mark.parametrize("modality", MODALITIES)
def test_a_constant_scene_stays_constant(draw, modality):
    """Blur, layers, haze and moving things keep the light: both halves are the same grey."""
    rng = np.random.default_rng(1)
    for _ in range(8):
        drawn = draw(modality, rng, unblurred=0.0)
        quiet = Recording(drawn.optics, Camera(drawn.camera.gamma))
        grey = np.full_like(patch(quiet, rng), 0.4)
        blurred, sharp = quiet.degrade(grey, rng)
        np.testing.assert_allclose(blurred, sharp, atol=2e-3)
        np.testing.assert_allclose(sharp, sharp.mean(), atol=2e-3)


def test_a_glaring_lamp_becomes_an_image_of_the_psf():
    kernel = psf.disk(4)
    lamp = np.full((3, 41, 41), 0.1, np.float32)
    lamp[:, 20, 20] = 1
    dull, glaring = (
        depth_optics((kernel,), glare=g).form(lamp, np.random.default_rng(0)) for g in (1.0, 8.0)
    )
    np.testing.assert_array_equal(dull[1], glaring[1])  # in focus a sensor shows no difference
    assert glaring[0][0, 16, 16] - 0.1 > 7 * (dull[0][0, 16, 16] - 0.1)
    blurred, sharp = depth_optics((kernel,), glare=8.0).form(
        np.full((3, 41, 41), 0.97, np.float32), np.random.default_rng(0)
    )
    np.testing.assert_allclose([blurred, sharp], 1, atol=1e-4)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_sharp_images_are_left_alone(name):
    rng = np.random.default_rng(2)
    drawn = DEGRADATIONS[name]("photo", rng, unblurred=1.0)
    blurred, sharp = drawn.degrade(patch(drawn, rng), rng)
    np.testing.assert_array_equal(blurred, sharp)


def test_the_mixture_is_wide():
    rng = np.random.default_rng(3)
    radii = np.array([draw_wide_radius(rng) for _ in range(1000)])
    assert radii.min() >= 0.3
    assert 15 < radii.max() <= 20
    assert np.mean(radii < 1.2) == pytest.approx(0.2, abs=0.04)
    assert np.mean(radii > 8) == pytest.approx(0.18, abs=0.03)
    psfs = [draw_aperture(rng) for _ in range(60)]
    assert len({psf_of(3.0).tobytes() for psf_of in psfs}) > 35
    assert all(psf_of(0.1).tolist() == [[1.0]] for psf_of in psfs)
    unblurred = [draw_recording("photo", rng).optics is None for _ in range(100)]
    assert 0.1 < np.mean(unblurred) < 0.3


def test_the_simple_mixture_is_the_same_for_all_microscopy():
    one, other = (
        DEGRADATIONS["defocus"](m, np.random.default_rng(4))
        for m in ("fluorescence", "brightfield")
    )
    assert isinstance(one, Degradation)
    assert one.gamma == other.gamma == 1
    np.testing.assert_array_equal(one.psfs, other.psfs)
