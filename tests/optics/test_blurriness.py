"""The estimated width of a blur grows with the true one, and tells where and how."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, uniform_filter1d

from napari_swintormer.optics.blurriness import LARGEST, measure_blurriness

N = 256


def blocks(seed=0, n=40):
    """Draw rectangles and discs of random grey: edges of every direction."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:N, :N]
    image = np.full((N, N), 100.0, np.float32)
    for _ in range(n):
        cy, cx, r = rng.uniform(0, N), rng.uniform(0, N), rng.uniform(12, 50)
        inside = (y - cy) ** 2 + (x - cx) ** 2 < r**2
        if rng.random() < 0.5:
            inside = (abs(y - cy) < r) & (abs(x - cx) < r)
        image[inside] = rng.uniform(0, 250)
    return image


@pytest.mark.parametrize("noise", [0, 2])
def test_the_width_grows_with_the_blur_and_is_about_right(noise):
    rng = np.random.default_rng(1)
    found = []
    for true in (0.7, 1.0, 1.5, 2.0, 3.0, 4.0):
        image = gaussian_filter(blocks(), true) + rng.normal(0, noise, (N, N))
        found.append(measure_blurriness(image).width)
        assert found[-1] == pytest.approx(true, rel=0.25, abs=0.3)
    assert found == sorted(found)


def test_less_than_a_pixel_counts_as_sharp():
    """A sharp micrograph has edges of 0.7 to 0.9 pixels, whatever direction they seem to have."""
    for width in (0.4, 0.75):
        said = measure_blurriness(gaussian_filter(blocks(), width)).describe()
        assert said.startswith("Looks sharp: edges are about 0.")
        assert "less than a pixel" in said
    assert "blurred" in measure_blurriness(gaussian_filter(blocks(), 1.6)).describe()


def test_regions_tell_where():
    sharp = blocks(2, 120)
    image = np.concatenate([sharp[:, :128], gaussian_filter(sharp, 3)[:, 128:]], axis=1)
    blur = measure_blurriness(image, 64)
    left, right = blur.regions[:, 0], blur.regions[:, 3]
    assert np.nanmax(left) < 1.2 < 2 < np.nanmin(right)


@pytest.mark.parametrize(("axis", "angle"), [(1, 0), (0, 90)])
def test_motion_is_told_from_defocus(axis, angle):
    motion = measure_blurriness(uniform_filter1d(blocks(), 13, axis))
    assert (motion.kind, motion.angle) == ("motion", angle)
    assert f"{angle}°" in motion.describe()
    assert measure_blurriness(gaussian_filter(blocks(), 3)).kind == "defocus"
    assert measure_blurriness(blocks()).kind == "sharp"


def test_depth_is_not_motion():
    """Blurred stripes above sharp ones of the other direction: each is what it is."""
    y, x = np.mgrid[:N, :N]
    image = np.where(y < 112, x // 16 % 2, np.where(y < 144, 0, y // 16 % 2)) * 200.0
    image[:128] = gaussian_filter(image, 3)[:128]
    blur = measure_blurriness(image)
    assert blur.kind != "motion"
    assert "sharp in places and blurred in others" in blur.describe()


def test_texture_does_not_make_a_blurred_image_sharp():
    rng = np.random.default_rng(3)
    texture = blocks() + gaussian_filter(rng.normal(0, 1, (N, N)), 1) * 60
    assert measure_blurriness(texture).kind == "sharp"
    assert measure_blurriness(gaussian_filter(texture, 1.2)).kind == "defocus"


def test_motion_along_a_diagonal_has_its_angle():
    image, moved = blocks(), np.zeros((N, N), np.float32)
    for step in range(-6, 7):  # right and up
        moved += np.roll(image, (-step, step), (0, 1)) / 13
    assert measure_blurriness(moved).angle == 45


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from(["uint8", "uint16", "float32"]),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.booleans(),
)
def test_any_image_has_an_answer_in_the_range(dtype, shape, flat):
    rng = np.random.default_rng(0)
    image = (np.zeros(shape) if flat else rng.uniform(0, 250, (3, *shape))).astype(dtype)
    blur = measure_blurriness(image, 32)
    assert blur.regions.shape == (-(-shape[0] // 32), -(-shape[1] // 32))
    assert blur.width is None or 0 <= blur.width <= LARGEST
    assert blur.describe().endswith(".")
    assert not flat or blur.width is None


def test_brightness_and_contrast_do_not_matter():
    image = gaussian_filter(blocks(), 2)
    assert measure_blurriness(image * 0.01 + 7).width == pytest.approx(
        measure_blurriness(image).width, abs=0.02
    )
