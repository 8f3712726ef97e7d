"""A camera's noise, colours and files are those that it says."""

from __future__ import annotations

import numpy as np
import pytest

from napari_swintormer.training.degradations.camera import (
    MARGIN,
    Camera,
    SensorNoise,
    draw_noise,
    through_mosaic,
)

SIDE = 48


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def even(light, side=SIDE + 2 * MARGIN):
    return np.full((3, side, side), light, np.float32)


@pytest.mark.parametrize("width", [0.0, 0.8])
def test_noise_is_as_strong_as_it_says(rng, width):
    noise = SensorNoise(read=0.01, shot=0.05**2, width=width)
    for light in (0.0, 0.5):
        added = noise.add(even(light, 128), rng) - light
        assert added.std() == pytest.approx(np.hypot(0.01, 0.05 * light**0.5), rel=0.05)
    neighbours = np.corrcoef(added[0, :-1].ravel(), added[0, 1:].ravel())[0, 1]
    assert (neighbours > 0.3) == (width > 0)


def test_drawn_noise_is_within_its_ends(rng):
    drawn = [draw_noise((0.001, 0.01), (0.002, 0.1), rng) for _ in range(300)]
    noisy = [n for n in drawn if n.read]
    assert 0.04 < 1 - len(noisy) / len(drawn) < 0.18
    assert 0.001 <= min(n.read for n in noisy) <= max(n.read for n in noisy) <= 0.01
    assert np.median([n.shot**0.5 for n in noisy]) == pytest.approx(0.014, rel=0.3)


def test_a_mosaic_keeps_even_colours_and_blurs_small_ones(rng):
    colour = np.array([0.2, 0.5, 0.8], np.float32)[:, None, None] * np.ones((3, 20, 24), np.float32)
    np.testing.assert_allclose(
        through_mosaic(colour, rng)[:, 2:-2, 2:-2], colour[:, 2:-2, 2:-2], atol=1e-6
    )
    lamp = np.zeros((3, 21, 21), np.float32)
    lamp[:, 10, 10] = 1
    seen = through_mosaic(lamp, rng)
    assert not np.array_equal(seen, lamp)
    assert seen.sum() <= 4  # one colour of four pixels saw it


def test_the_file_rounds_and_the_curve_is_undone_by_light(rng):
    light = even(0.25)
    image = Camera(gamma=2.0, levels=256).develop(light, rng)
    assert image.shape == (3, SIDE, SIDE)
    np.testing.assert_allclose(image, np.round(0.5 * 255) / 255, atol=1e-6)
    ramp = np.linspace(0, 1, SIDE + 2 * MARGIN, dtype=np.float32) * even(1.0)
    read = Camera(jpeg_quality=95).develop(ramp.copy(), rng)
    np.testing.assert_allclose(read, ramp[:, MARGIN:-MARGIN, MARGIN:-MARGIN], atol=0.02)


def test_sharpening_steepens_an_edge(rng):
    step = even(0.3)
    step[:, :, 30:] = 0.6
    image = Camera(sharpening=0.8).develop(step, rng)
    assert image.max() > 0.62
    assert image.min() < 0.28
    np.testing.assert_allclose(image[:, :, :5], 0.3, atol=1e-4)
