"""Microscope kernels against what wave optics says of them."""

from __future__ import annotations

import numpy as np

from napari_swintormer.optics import psf
from napari_swintormer.optics.microscope import Microscope

DRY = Microscope(aperture=0.3, wavelength=0.55, pixel=0.5)


def cropped(kernel, half):
    middle = len(kernel) // 2
    inner = slice(middle - half, middle + half + 1)
    return kernel[inner, inner] / kernel[inner, inner].sum()


def transfer(kernel, size=128):
    """Transfer along one axis; real, as the kernels are even."""
    padded = np.zeros(size)
    half = len(kernel) // 2
    padded[: len(kernel)] = kernel.sum(axis=0)
    return np.fft.fft(np.roll(padded, -half)).real[: size // 2]


def test_at_a_small_aperture_the_kernel_is_that_of_paraxial_optics():
    microscope = Microscope(aperture=0.05, wavelength=0.55, pixel=3.0)
    exact = microscope.fluorescence(microscope.depth_of(6.0))
    np.testing.assert_allclose(exact, psf.defocus(6.0, microscope.cutoff), atol=1e-4)


def test_a_pinhole_keeps_out_of_focus_light_out():
    depth = DRY.depth_of(6)
    wide, confocal = (
        (k.max() / k.sum()) for k in (DRY.fluorescence(depth), DRY.fluorescence(0, confocal=True))
    )
    assert confocal > wide


def test_a_condenser_as_wide_as_the_objective_makes_incoherent_light():
    depth = DRY.depth_of(4)
    incoherent = cropped(DRY.fluorescence(depth), 6)
    np.testing.assert_allclose(
        cropped(DRY.transmission(depth, condenser=1.5), 6), incoherent, atol=1e-4
    )


def test_past_the_focus_dark_turns_to_bright():
    focused, blurred = (
        transfer(DRY.transmission(DRY.depth_of(r), condenser=0.2)) for r in (0.0, 8.0)
    )
    inside = slice(1, int(0.6 * DRY.cutoff * 128))
    assert focused[inside].min() > 0
    assert blurred[inside].min() < -0.2


def test_a_phase_object_is_unseen_in_focus_and_opposite_on_its_two_sides():
    absorbing, delaying = (DRY.transmission(0, condenser=0.5, phase=p) for p in (0, 3))
    np.testing.assert_allclose(delaying, absorbing, atol=1e-6)
    depth = DRY.depth_of(5)
    above, plain, below = (
        transfer(DRY.transmission(d, condenser=0.5, phase=p))
        for d, p in ((depth, 1), (depth, 0), (-depth, 1))
    )
    assert np.abs(above - plain).max() > 0.1
    np.testing.assert_allclose(above - plain, plain - below, atol=0.02)
