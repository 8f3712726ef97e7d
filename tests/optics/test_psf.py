"""PSFs of every kind keep the light and stay centred; those of lenses grow with their radius."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j1

from napari_swintormer.optics import psf
from napari_swintormer.optics.psf_kinds import PSF_KINDS


def polygon(radius):
    return psf.polygon(radius, 7, 0.3)


def defocus(radius):
    return psf.defocus(radius, 0.6)


def cats_eye(radius):
    return psf.cats_eye(radius, 0.15)


FAMILIES = [psf.disk, psf.gaussian, polygon, cats_eye, defocus]


def grid_of(kernel):
    half = len(kernel) // 2
    return np.mgrid[-half : half + 1, -half : half + 1]


def centre(kernel):
    """Centre of mass (y, x) in pixels, relative to the middle pixel."""
    y, x = grid_of(kernel)
    return (kernel * y).sum(), (kernel * x).sum()


def radius_of(kernel):
    """Radius in pixels of the disk of equal variance."""
    return 2 * np.sqrt((kernel * (grid_of(kernel) ** 2).sum(0)).sum() / 2)


def assert_is_psf(kernel, size, negative_lobes=False):
    assert kernel.dtype == np.float32
    assert kernel.shape == (len(kernel),) * 2
    assert len(kernel) % 2 == 1
    assert kernel.sum() == pytest.approx(1, abs=1e-4)
    assert negative_lobes or kernel.min() >= 0
    # a camera that moves slowly somewhere leaves a little more light there
    assert np.hypot(*centre(kernel)) < 0.1 + 0.02 * size


@pytest.mark.parametrize("kind", PSF_KINDS)
@given(size=st.floats(0.5, 12), seed=st.integers(0, 2**32), halo=st.floats(0, 1))
@settings(max_examples=8, deadline=None)
def test_every_kind_is_square_odd_centred_and_sums_to_one(kind, size, seed, halo):
    kernel = PSF_KINDS[kind](size, np.random.default_rng(seed))
    lobes = kind == "transmission"  # partly coherent light turns dark to bright
    assert_is_psf(kernel, size, negative_lobes=lobes)
    assert_is_psf(psf.with_halo(kernel, halo, size), size, negative_lobes=lobes)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_larger_radius_blurs_more(family):
    spread = [radius_of(family(radius)) for radius in np.linspace(0.6, 10, 20)]
    assert np.all(np.diff(spread) > 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_radius_means_the_same_blur_in_every_family(family):
    for radius in (4, 7, 10):
        assert radius_of(family(radius)) == pytest.approx(radius, rel=0.15)


def test_a_polygon_has_its_corners():
    square = psf.polygon(8, 4, 0.0)
    side = np.sqrt(np.pi) * 8
    half = len(square) // 2
    inside = square[half - int(side / 2 - 1) : half + int(side / 2), half]
    np.testing.assert_allclose(inside, 1 / side**2, rtol=0.02)
    assert square[half - int(side / 2) + 1, half - int(side / 2) + 1] > 0.9 / side**2


def test_in_focus_the_pattern_is_airys():
    cutoff = 0.3
    kernel = psf.defocus(0, cutoff)
    half = len(kernel) // 2
    y, x = np.mgrid[-half : half + 1 : 0.1, -half : half + 1 : 0.1] - 0.45
    v = np.pi * cutoff * np.hypot(y, x) + 1e-9
    airy = (2 * j1(v) / v) ** 2
    airy = airy.reshape(len(kernel), 10, len(kernel), 10).sum((1, 3))
    np.testing.assert_allclose(kernel, airy / airy.sum(), atol=0.01 * kernel.max())


def test_a_lens_passes_nothing_beyond_its_cutoff():
    kernel = np.pad(psf.defocus(3, 0.4, spherical=0.1), 100)
    transfer = np.abs(np.fft.fft2(kernel))
    frequency = np.abs(np.fft.fftfreq(len(kernel)))
    beyond = np.hypot(frequency[:, None], frequency[None]) > 0.42
    assert transfer[beyond].max() < 0.02
    assert transfer[0, 0] == pytest.approx(1, abs=1e-5)


def test_a_ring_has_a_hole_and_a_cats_eye_is_narrow():
    ring = psf.ring(8, 0.5)
    half = len(ring) // 2
    assert ring[half, half] == 0
    assert ring[half, half + 6] == pytest.approx(1 / (np.pi * (64 - 16)), rel=0.02)
    eye = psf.cats_eye(8, 0.5)
    assert eye.sum(axis=0)[half + 5] == 0  # its half width is 4 along the shadow, 7 across
    assert eye.sum(axis=1)[half + 5] > 0


def test_a_shift_moves_the_centre_of_mass():
    y, x = centre(psf.shifted(psf.disk(3), 0.3, -0.2))
    assert (y, x) == (pytest.approx(0.3, abs=1e-4), pytest.approx(-0.2, abs=1e-4))
