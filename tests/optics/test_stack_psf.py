"""3-D PSFs against an integral over the pupil written out here, and what every PSF must keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.stack_optics import StackOptics
from napari_swintormer.optics.stack_psf import psf_shape, stack_psf

OIL = StackOptics(na=1.4, emission=0.52, pixel_size=0.09, z_step=0.25)
AIR = StackOptics(na=0.75, emission=0.52, pixel_size=0.2, z_step=0.6, immersion_index=1.0)


def scalar_point(optics, z, x, n=401):
    """Intensity at one point by summing plane waves over the pupil: low apertures, no dipoles."""
    s = np.linspace(-1, 1, n) * optics.na / optics.immersion_index
    sy, sx = np.meshgrid(s, s, indexing="ij")
    square = sy**2 + sx**2
    inside = square < (optics.na / optics.immersion_index) ** 2
    cos = np.sqrt(np.where(inside, 1 - square, 1))
    k = 2 * np.pi / optics.emission * optics.immersion_index
    # d(solid angle) = ds / cos; amplitude sqrt(cos)
    field = inside * np.exp(1j * k * (sx * x + z * cos)) * np.sqrt(cos) / cos
    return abs(field.sum()) ** 2


@pytest.mark.parametrize("planes_away", [0, 1, 3])
def test_a_low_aperture_gives_the_sum_of_plane_waves(planes_away):
    optics = StackOptics(na=0.2, emission=0.5, pixel_size=0.1, z_step=6, immersion_index=1.0)
    psf = stack_psf(optics, (9, 65, 65))
    row = psf[4 + planes_away, 32, 32:62:6].astype(float)
    expected = np.array([scalar_point(optics, 6 * planes_away, 0.1 * x) for x in range(0, 30, 6)])
    centre = scalar_point(optics, 0, 0)
    np.testing.assert_allclose(row / psf[4, 32, 32], expected / centre, atol=0.006)


optics_numbers = st.builds(
    lambda na, emission, pixels, step, modality: StackOptics(
        na=na, emission=emission, pixel_size=pixels * emission / na, z_step=step, modality=modality
    ),
    st.floats(0.2, 1.45),
    st.floats(0.4, 0.8),
    st.floats(0.15, 0.5),
    st.floats(0.1, 2),
    st.sampled_from(["widefield", "confocal", "spinning-disk", "light-sheet"]),
)


@given(optics=optics_numbers)
@settings(max_examples=15, deadline=None)
def test_every_psf_is_centred_symmetric_and_sums_to_one(optics):
    psf = stack_psf(optics, (7, 21, 21))
    assert psf.sum() == pytest.approx(1, abs=1e-4)
    assert psf.min() >= 0
    assert np.unravel_index(psf.argmax(), psf.shape) == (3, 10, 10)
    for flipped in (psf[::-1], psf[:, ::-1], psf.transpose(0, 2, 1)):
        np.testing.assert_allclose(psf, flipped, atol=1e-6)


def test_a_plane_of_a_widefield_stack_keeps_its_light_and_a_confocal_one_does_not():
    shape = psf_shape(AIR, 9)
    widefield = stack_psf(AIR, shape).sum(axis=(1, 2))
    confocal = stack_psf(replace(AIR, modality="confocal"), shape).sum(axis=(1, 2))
    assert widefield[0] == pytest.approx(widefield[4], rel=0.03)
    assert confocal[0] < 0.3 * confocal[4]


def test_another_index_of_the_specimen_aberrates_and_the_brightest_plane_stays_in_the_middle():
    matched, aberrated = OIL, replace(OIL, sample_index=1.36, specimen_depth=10)
    shape = (41, 65, 65)
    one, other = stack_psf(matched, shape), stack_psf(aberrated, shape)
    assert other[:, 32, 32].argmax() in (19, 20, 21)
    assert other.max() < 0.8 * one.max()
    lopsided = abs(other[:20].sum() - other[21:].sum())
    assert np.abs(other[:20] - other[:20:-1]).sum() > 0.1 + lopsided


def vector_point(optics, z, x, n=161):
    """Intensity of all dipoles at one point: the field of every ray of the pupil, summed."""
    n1, n2, d = optics.immersion_index, optics.index, optics.specimen_depth
    s = np.linspace(-1, 1, n) * optics.na / n1
    sy, sx = np.meshgrid(s, s, indexing="ij")
    square = sy**2 + sx**2
    inside = square < min(optics.na / n1, 0.999 * n2 / n1) ** 2
    square = np.where(inside, square, 0)
    cos, cos2 = np.sqrt(1 - square), np.sqrt(1 - square * (n1 / n2) ** 2)
    across, along = (sx**2 / np.where(square, square, 1), sx * sy / np.where(square, square, 1))
    k = 2 * np.pi / optics.emission
    # The way through the specimen instead of the immersion, and the way of the defocus.
    path = d * (n2 * cos2 - n1 * cos) - n1 * z * cos + n1 * sx * x
    wave = inside * np.exp(1j * k * path) / np.sqrt(cos)
    parallel, crossed, axial = 1 - across * (1 - cos), along * (1 - cos), sx
    fields = ((wave * part).sum() for part in (parallel, crossed, axial))
    swapped = ((wave * part).sum() for part in (1 - (1 - across) * (1 - cos), crossed, sy))
    return sum(abs(field) ** 2 for field in (*fields, *swapped))


def test_a_deep_specimen_gives_the_sum_of_all_rays():
    optics = StackOptics(
        na=1.2, emission=0.52, pixel_size=0.03, z_step=0.4, sample_index=1.36, specimen_depth=12
    )
    psf = stack_psf(optics, (7, 41, 41)).astype(float)
    heights = np.linspace(-4, 4, 401)
    focus = heights[np.argmax([vector_point(optics, z, 0, 61) for z in heights])]
    for plane in range(0, 7, 2):
        z = focus + 0.4 * (plane - 3)
        expected = [vector_point(optics, z, 0.03 * x) for x in range(0, 20, 4)]
        row = psf[plane, 20, 20:40:4] / psf[3, 20, 20]
        np.testing.assert_allclose(row, expected / vector_point(optics, focus, 0), atol=0.03)


def test_depth_moves_light_and_loses_none():
    flat = replace(OIL, na=1.3)
    deep = replace(flat, sample_index=1.36, specimen_depth=10)
    np.testing.assert_array_equal(
        stack_psf(replace(deep, specimen_depth=0), (5, 31, 31)), stack_psf(flat, (5, 31, 31))
    )
    np.testing.assert_array_equal(
        stack_psf(replace(flat, specimen_depth=10), (5, 31, 31)), stack_psf(flat, (5, 31, 31))
    )
    planes = stack_psf(replace(deep, pixel_size=0.2), (9, 121, 121)).sum(axis=(1, 2))
    np.testing.assert_allclose(planes, 1 / 9, rtol=0.05)


def test_the_shape_follows_the_cone_of_light():
    assert psf_shape(OIL, 5) == (9, 71, 71)
    assert psf_shape(OIL, 1000)[0] * OIL.z_step == pytest.approx(48, abs=1)
    with pytest.raises(SettingsError, match="two planes"):
        psf_shape(OIL, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"na": 1.6}, "less than the refractive index"),
        ({"na": 0}, "positive"),
        ({"z_step": -1}, "positive"),
        ({"emission": 520}, "micrometres"),
        ({"excitation": 0.6}, "not longer than emission"),
        ({"sample_index": 3}, "from 1 to 2"),
        ({"modality": "two-photon"}, "no such modality"),
        ({"specimen_depth": -2}, "from 0 to 1000"),
    ],
)
def test_impossible_optics_end_in_a_sentence(change, sentence):
    with pytest.raises(SettingsError, match=sentence):
        replace(OIL, **change)
