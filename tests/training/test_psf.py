"""Point-spread functions keep light, stay centred, and grow with their radius."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j1

from napari_swintormer.optics import psf

RADII = st.floats(0.5, 10)


def polygon(radius):
    return psf.polygon(radius, 7, 0.3)


def defocus(radius):
    return psf.defocus(radius, 0.6)


def cats_eye(radius):
    return psf.cats_eye(radius, 0.15)


FAMILIES = [psf.disk, psf.gaussian, polygon, cats_eye, defocus]


def moments(kernel):
    """Centre (y, x) and the radius of the disk of equal variance, in pixels."""
    half = len(kernel) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    variance = (kernel * (y**2 + x**2)).sum() / 2
    return (kernel * y).sum(), (kernel * x).sum(), 2 * np.sqrt(variance)


@given(
    radius=RADII,
    blades=st.integers(3, 9),
    rotation=st.floats(0, 6.3),
    cutoff=st.floats(0.2, 1),
    aberrations=st.tuples(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(0, 3.2)),
    halo=st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_light_is_kept_and_stays_in_place(radius, blades, rotation, cutoff, aberrations, halo):
    spherical, astigmatism, axis = aberrations
    kernels = [
        psf.disk(radius),
        psf.gaussian(radius),
        psf.polygon(radius, blades, rotation),
        psf.defocus(radius, cutoff, spherical=spherical, astigmatism=astigmatism, axis=axis),
    ]
    kernels += [psf.cats_eye(radius, 0.5, rotation), psf.ring(radius, 0.5)]
    kernels += [psf.with_halo(k, halo, radius) for k in kernels]
    for kernel in kernels:
        assert kernel.dtype == np.float32
        assert kernel.shape == (len(kernel),) * 2
        assert len(kernel) % 2 == 1
        assert kernel.min() >= 0
        assert kernel.sum() == pytest.approx(1, abs=1e-5)
        y, x, _ = moments(kernel)
        assert np.hypot(y, x) < 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_a_larger_radius_blurs_more(family):
    spread = [moments(family(radius))[2] for radius in np.linspace(0.6, 10, 20)]
    assert np.all(np.diff(spread) > 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_radius_means_the_same_blur_in_every_family(family):
    for radius in (4, 7, 10):
        assert moments(family(radius))[2] == pytest.approx(radius, rel=0.15)


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
    y, x, _ = moments(psf.shifted(psf.disk(3), 0.3, -0.2))
    assert (y, x) == (pytest.approx(0.3, abs=1e-4), pytest.approx(-0.2, abs=1e-4))
