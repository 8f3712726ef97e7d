"""Every kind of blur keeps what a blur promises, and bad input gets one sentence."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_kinds import BLUR_KINDS
from napari_swintormer.optics.psf_array import moments

RADII = st.floats(0.5, 12)
SQUARES = st.integers(1, 6).map(lambda half: (2 * half + 1, 2 * half + 1))


@st.composite
def kernels(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Blur.kernel(rng.random(draw(SQUARES)) ** 3)


SIMPLE = {
    "disk": RADII.map(Blur.disk),
    "gaussian": st.floats(0.3, 8).map(Blur.gaussian),
    "polygon": st.builds(Blur.polygon, RADII, st.integers(3, 10), st.floats(0, 360)),
    "lens": st.builds(Blur.lens, RADII, st.floats(0.2, 1)),
    "motion": st.builds(Blur.motion, st.floats(1.1, 50), st.floats(-180, 360)),
    "optics": st.builds(
        Blur.optics, st.floats(0.2, 0.94), st.just(0.52), st.just(0.1), st.floats(-1, 1)
    ),
    "kernel": kernels(),
    "none": st.just(Blur.none()),
}
MIXTURES = st.lists(st.tuples(st.floats(0.1, 1), st.one_of(*SIMPLE.values())), min_size=2)
BLURS = SIMPLE | {"mixture": MIXTURES.map(lambda parts: Blur.mixture(parts[:3]))}


def test_every_kind_has_its_strategy():
    assert set(BLURS) == {*BLUR_KINDS, "none", "kernel", "mixture"}


@pytest.mark.parametrize("kind", BLURS)
@given(st.data())
@settings(max_examples=8, deadline=None)
def test_every_kind_keeps_the_light_in_the_middle(kind, data):
    blur = data.draw(BLURS[kind])
    psf = blur.psf()
    half = len(psf) // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    assert psf.dtype == np.float32
    assert psf.shape == (2 * blur.reach + 1,) * 2
    assert psf.min() >= 0
    assert psf.sum() == pytest.approx(1, abs=1e-4)
    assert abs((psf * y).sum()) <= 0.51  # a kernel moves by whole pixels only
    assert abs((psf * x).sum()) <= 0.51
    assert Blur.from_json(json.loads(json.dumps(blur.to_json()))) == blur


@pytest.mark.parametrize("kind", BLURS)
@given(st.data())
@settings(max_examples=5, deadline=None)
def test_the_otf_is_the_transform_of_the_psf(kind, data):
    blur = data.draw(BLURS[kind])
    shape = (2 * blur.reach + 1 + data.draw(st.integers(0, 9)), 2 * blur.reach + 8)
    mean, square = blur.otf_moments(shape)
    transforms = []
    for probability, candidate in blur.candidates:
        grid = np.zeros(shape)
        psf = candidate.psf()
        grid[: len(psf), : len(psf)] = psf
        origin = np.roll(grid, (-candidate.reach, -candidate.reach), (0, 1))
        transforms.append((probability, np.fft.rfft2(origin)))
    np.testing.assert_allclose(mean, sum(p * h for p, h in transforms), atol=1e-5)
    np.testing.assert_allclose(square, sum(p * np.abs(h) ** 2 for p, h in transforms), atol=1e-5)


@pytest.mark.parametrize("kind", BLURS)
@given(st.data(), st.floats(0.4, 1.1))
@settings(max_examples=8, deadline=None)
def test_a_blur_scales_with_the_pixels(kind, data, factor):
    blur = data.draw(BLURS[kind])
    scaled = blur.scaled(factor)
    assert scaled.family == blur.family or blur.kind in ("mixture", "kernel")
    # the area of a pixel adds up to sqrt(1 / 6) pixels to the radius of a narrow PSF
    assert scaled.radius == pytest.approx(factor * blur.radius, rel=0.12, abs=0.45)


def test_a_motion_has_its_length_and_direction():
    psf = Blur.motion(20, 30).psf()
    long, short, angle = moments(psf)
    assert long * math.sqrt(12) == pytest.approx(20, rel=0.02)
    assert short < 0.7
    assert angle == pytest.approx(30, abs=1)
    half = len(psf) // 2
    assert psf[half - 4, half + 7] > 0  # up and to the right, as rows count downwards


@pytest.mark.parametrize(
    ("told", "blur"),
    [
        (3.2, Blur.disk(3.2)),
        ("3.2px", Blur.disk(3.2)),
        ("3", Blur.disk(3)),
        ("none", Blur.none()),
        ("motion:14@30", Blur.motion(14, 30)),
        ("gaussian:1.6px", Blur.gaussian(1.6)),
        ("lens:3@0.4", Blur.lens(3, 0.4)),
        ("optics:0.75@0.52@0.1@1.5", Blur.optics(0.75, 0.52, 0.1, 1.5)),
    ],
)
def test_what_people_write(told, blur):
    assert Blur.parse(told) == blur
    assert Blur.parse(blur) is blur


def test_sentences():
    sure = Blur.mixture([(0.6, Blur.disk(3)), (0.35, Blur.disk(3.3)), (0.05, Blur.none())])
    shaken = Blur.kernel(Blur.motion(14, 30).psf())
    assert sure.sentence() == "defocus blur with a radius of about 3 pixels; 95 % sure"
    assert shaken.sentence(0.9) == "motion blur of about 14 pixels, direction 30°; 90 % sure"
    turning = np.zeros((11, 11))
    turning[2:9, 2] = turning[8, 2:9] = turning[4:9, 8] = 1
    assert Blur.kernel(turning).sentence() == "motion blur on a path about 11 pixels across"
    assert Blur.optics(0.75, 0.52, 0.1, -1.5).sentence() == (
        "blur of a microscope with NA 0.75 at 520 nm, 1.5 µm out of focus"
    )
    assert Blur.none().sentence() == "no blur"


def test_a_psf_file_loses_its_background_and_comes_to_the_middle(tmp_path):
    psf = np.zeros((15, 15))
    psf[4:9, 5:10] = Blur.gaussian(1).psf()[2:7, 2:7]
    tifffile.imwrite(tmp_path / "bead.tif", (100 + 1e4 * psf).astype(np.uint16))
    read = Blur.parse(str(tmp_path / "bead.tif"))
    middle = slice(read.reach - 2, read.reach + 3)
    np.testing.assert_allclose(read.psf()[middle, middle], psf[4:9, 5:10] / psf.sum(), atol=2e-4)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Blur.disk(-1), "radius of a blur is a positive number (got radius=-1)"),
        (lambda: Blur.disk(math.nan), "got radius=nan"),
        (lambda: Blur.disk(40), "at most 65 pixels wide (got 80 pixels)"),
        (lambda: Blur.gaussian(1e9), "at most 65 pixels wide"),
        (lambda: Blur.motion(1, 0), "longer than one pixel (got length=1)"),
        (lambda: Blur.motion(100, 0), "at most 65 pixels wide (got 100 pixels)"),
        (lambda: Blur.polygon(3, 2), "3 to 20 straight blades (got blades=2)"),
        (lambda: Blur.lens(3, 5), "cutoff of a lens is in cycles per pixel (got cutoff=5)"),
        (lambda: Blur.optics(0.75, 0.52), "needs the size of a pixel in micrometres"),
        (lambda: Blur.optics(1.6, 0.52, 0.1), "between 0 and the refractive index"),
        (lambda: Blur.optics(0.75, 520, 0.1), "wavelength of a blur is in micrometres"),
        (lambda: Blur.optics(0.75, 0.52, 0.1, 50), "at most 65 pixels wide"),
        (lambda: Blur.kernel(np.zeros((5, 5))), "nothing but zeros"),
        (lambda: Blur.kernel(np.ones((4, 5))), "sides of a PSF are odd"),
        (lambda: Blur.kernel(np.ones((3, 5, 5))), "got 3 dimensions in the array"),
        (lambda: Blur.kernel(-np.ones((5, 5))), "not negative"),
        (lambda: Blur.kernel(np.ones((67, 67))), "at most 65 pixels (got (67, 67)"),
        (lambda: Blur.mixture([]), "needs a candidate"),
        (lambda: Blur.mixture([(-1, Blur.disk(2))]), "not negative (got -1)"),
        (lambda: Blur.disk(2).scaled(0), "positive (got 0)"),
        (lambda: Blur.parse("wide"), "This is no blur (got 'wide'). Use 3.2px, motion:14@30"),
        (lambda: Blur.parse("-3px"), "got radius=-3"),
        (lambda: Blur.parse(True), "This is no blur (got 'True')"),
        (lambda: Blur.parse("motion:14"), "Use motion:LENGTH@ANGLE"),
        (lambda: Blur.from_json({"kind": "fog"}), "no such kind of blur (got 'fog')"),
        (lambda: Blur.from_json({"kind": "disk"}), "stored blur cannot be read"),
    ],
)
def test_a_mistake_gets_one_sentence(make, said):
    with pytest.raises(SettingsError) as caught:
        make()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "blur", [Blur.disk(3.3), Blur.gaussian(2), Blur.polygon(3, 6, 10), Blur.lens(6, 0.4)]
)
def test_a_defocus_as_a_kernel_stays_a_defocus(blur):
    assert Blur.kernel(blur.psf()).family == "defocus"
