"""The blur of an image is measured on a few windows, and sharp or empty images have none."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from napari_swintormer.imaging.planes import Planes
from napari_swintormer.optics import psf
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation import estimate
from napari_swintormer.optics.estimation.blur_choice import Chances
from napari_swintormer.optics.estimation.defocus_posterior import (
    DefocusPosterior,
    defocus_posterior,
)
from napari_swintormer.optics.estimation.estimate import doubt, estimate_blur
from napari_swintormer.optics.estimation.sample import sample_windows
from napari_swintormer.training.degradations.primitives import blur as convolve

SIDE = 320


@pytest.fixture(scope="module")
def leaves():
    """Light of a scene of flat disks in front of each other: sharp edges of all sizes."""
    rng = np.random.default_rng(5)
    side = SIDE + 80
    scene = np.full((side, side), 0.4, np.float32)
    for radius in np.sort(3 * rng.random(1500) ** -0.7)[::-1]:
        cy, cx = rng.uniform(0, side, 2)
        rows, columns = (slice(max(0, int(c - radius)), int(c + radius) + 2) for c in (cy, cx))
        y, x = np.ogrid[rows, columns]
        y, x = y[y < side, None], x[:, x[0] < side]
        inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        scene[rows, columns][inside] = rng.uniform(0.05, 0.9)
    return scene


def picture(light, field, kernel=None, noise=0.003):
    """Photo or micrograph of light, 320 x 320 pixels, in unit intensities."""
    if kernel is not None:
        light = np.clip(convolve(light[None], kernel, 40)[0], 0, 1)
    else:
        light = light[40:-40, 40:-40]
    image = light ** (1 / 2.2) if field == "photo" else light
    return (image + noise * np.random.default_rng(1).standard_normal(image.shape)).astype("f4")


@pytest.mark.parametrize("field", ["photo", "micrograph"])
@pytest.mark.parametrize(
    ("kind", "radius"),
    [(psf.disk, 2.0), (psf.disk, 9.0), (psf.gaussian, 3.0), (psf.gaussian, 8.0)],
)
def test_radius_of_made_blur_is_found(leaves, field, kind, radius):
    found = defocus_posterior([picture(leaves, field, kind(radius))], field)
    assert found.none < 0.2
    assert found.radius == pytest.approx(radius, rel=0.2)
    assert 0 < found.certainty <= 1


def test_a_posterior_becomes_a_mixture_of_few_candidates_that_keeps_the_size(leaves):
    blur = defocus_posterior([picture(leaves, "photo", psf.disk(4.0))], "photo").blur()
    defocus = [candidate for _, candidate in blur.candidates if candidate.kind != "none"]
    assert 1 < len(defocus) <= 12
    assert np.sqrt(2) * blur.radius == pytest.approx(4, rel=0.25)


def nothing(name, leaves, field):
    """Windows without blur, or without anything to tell it from."""
    noise = np.random.default_rng(2).standard_normal((256, 256)).astype("f4")
    return {
        "sharp": lambda: picture(leaves, field),
        "white noise": lambda: 0.5 + 0.1 * noise,
        "flat": lambda: np.full((256, 256), 0.5, "f4"),
        "flat with noise": lambda: 0.5 + 0.003 * noise,
        "all but a few pixels are unknown": lambda: np.where(noise > 2, noise, np.nan),
        "too small": lambda: noise[:40],
    }[name]()


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("sharp", "photo"),
        ("sharp", "micrograph"),
        ("white noise", "photo"),
        ("flat with noise", "micrograph"),
        ("flat", "photo"),
        ("all but a few pixels are unknown", "micrograph"),
        ("too small", "photo"),
    ],
)
def test_nothing_is_found_where_nothing_is(leaves, field, name):
    found = estimate_blur([nothing(name, leaves, field)], field)
    assert found.blur == Blur.none()
    assert found.reason.endswith(".")


@pytest.mark.parametrize(
    ("kernel", "family"),
    [(Blur.motion(7, 30), "motion"), (Blur.disk(3), "defocus"), (None, "none")],
    ids=["motion", "defocus", "sharp"],
)
@pytest.mark.parametrize("field", ["photo", "micrograph"])
def test_motion_and_defocus_are_told_apart(leaves, field, kernel, family):
    window = picture(leaves, field, None if kernel is None else kernel.psf())
    told = estimate_blur([window], field)
    assert told.blur.family == family
    assert 0.5 < told.certainty < 1


@pytest.mark.parametrize(("chance", "believed"), [(0.8, False), (0.95, True)])
def test_where_places_differ_a_motion_has_to_be_surer(leaves, monkeypatch, chance, believed):
    monkeypatch.setattr(estimate, "confirmed", lambda *_: chance)
    window = picture(leaves, "photo", Blur.motion(7, 30).psf())
    assert estimate_blur([window], "photo", varies=False).blur.family == "motion"
    in_depth = estimate_blur([window], "photo", varies=True)
    assert in_depth.varies != believed
    assert (in_depth.blur.family == "motion") == believed


def test_a_motion_stays_a_motion_if_the_image_changes_a_little(leaves):
    window = picture(leaves, "micrograph", Blur.motion(7, 30).psf())
    noise = 0.002 * np.random.default_rng(3).standard_normal(window.shape).astype("f4")
    assert estimate_blur([window[1:, 1:] + noise[1:, 1:]], "micrograph").blur.family == "motion"


@pytest.mark.parametrize(
    ("radius", "told", "said"),
    [
        (4, Blur.disk(4), None),
        (4, Blur.disk(4.8), None),
        (4, Blur.disk(9), "about 4 pixels would fit"),
        (4, Blur.gaussian(1), "about 4 pixels would fit"),
        (None, Blur.disk(4), "looks sharp"),
        (None, Blur.disk(0.5), None),
    ],
)
def test_a_told_size_that_does_not_fit_is_doubted(leaves, radius, told, said):
    kernel = None if radius is None else psf.disk(radius)
    doubted = doubt([picture(leaves, "photo", kernel)], told, "photo")
    assert doubted is None if said is None else said in doubted


def test_blur_that_changes_from_place_to_place_is_said_and_even_blur_is_not(leaves):
    halves = [picture(leaves, "photo", psf.disk(radius)) for radius in (0.5, 5.0)]
    half = SIDE // 2
    mixed = np.concatenate([halves[0][:, :half], halves[1][:, half:]], axis=1)
    assert estimate_blur([mixed], "photo").unclear
    assert not any(estimate_blur([even], "photo").unclear for even in halves)


def test_nothing_is_undone_where_neither_is_likely_to_help(leaves, monkeypatch):
    window = picture(leaves, "micrograph", Blur.disk(3).psf())
    monkeypatch.setattr(estimate, "chances", lambda described: Chances(0.3, 0.3))
    monkeypatch.setattr(estimate, "_PLAIN", 2)  # both are rated, however sure the defocus is
    told = estimate_blur([window], "micrograph")
    assert told.blur == Blur.none()
    assert told.unclear
    assert "neither" in told.reason


def test_no_motion_is_looked_for_beside_a_plain_defocus(leaves, monkeypatch):
    defocused = picture(leaves, "photo", psf.disk(3))
    with monkeypatch.context() as patched:
        patched.setattr(estimate, "_PLAIN", 2)
        with_a_trial = estimate_blur([defocused], "photo")
    monkeypatch.setattr(estimate, "motion_trials", lambda *_: pytest.fail("a motion was tried"))
    assert estimate_blur([defocused], "photo") == with_a_trial
    for other in (Blur.motion(7, 30), Blur.disk(9)):  # a wide shake can look like a wide defocus
        with pytest.raises(pytest.fail.Exception, match="was tried"):
            estimate_blur([picture(leaves, "photo", other.psf())], "photo")


@pytest.mark.parametrize(
    ("field", "none", "share"),
    [("photo", 0.2, 0.8), ("photo", 0.6, 0.5), ("photo", 0.88, 0.1), ("micrograph", 0.6, 1.0)],
)
def test_an_unclear_photo_that_may_be_sharp_gets_a_share_of_the_change(
    leaves, monkeypatch, field, none, share
):
    posterior = DefocusPosterior(none, np.full((5, 36), (1 - none) / 180))
    monkeypatch.setattr(estimate, "measure_defocus", lambda *_: (posterior, False))
    monkeypatch.setattr(estimate, "chances", lambda described: Chances(0.3, 0.3))
    found = estimate_blur([picture(leaves, field)], field)
    assert found.unclear
    assert found.share == pytest.approx(share)


@pytest.mark.parametrize("shape", [(1, 1), (40, 3000), (512, 512), (513, 700), (9000, 20_000)])
def test_windows_cover_a_small_plane_and_spread_over_a_large_one(shape):
    windows = sample_windows(shape)
    assert len(windows) == len(set(map(str, windows))) <= 9
    for axis, size in enumerate(shape):
        spans = sorted({(w[axis].start, w[axis].stop) for w in windows})
        assert (spans[0][0], spans[-1][1]) == (0, size)
        assert all(stop - start == min(size, 512) for start, stop in spans)


@pytest.mark.parametrize("chunks", [(64, 700), (333, 128)])
def test_the_estimate_is_the_same_however_the_plane_lies(leaves, chunks):
    image = np.tile(picture(leaves, "micrograph", psf.disk(3)), (2, 2))[:600, :540]

    def found(lying):
        planes = Planes(lying, "YX", 1)
        windows = planes.read_all((0, y, x) for y, x in sample_windows(planes.shape))
        return defocus_posterior([window[0] for window in windows], "micrograph").blur()

    assert found(da.from_array(image, chunks=chunks)) == found(image)


def test_noise_may_hide_the_blur_of_a_micrograph() -> None:
    rng = np.random.default_rng(0)
    cells = np.kron(rng.random((8, 8)) > 0.7, np.ones((32, 32)))
    for noise, hides in ((0.01, True), (0.04, False)):
        image = (0.1 + 0.8 * cells + noise * rng.standard_normal(cells.shape)).astype(np.float32)
        found = estimate_blur([image], "micrograph")
        assert "looks sharp" in found.reason
        assert found.unclear == hides
        assert not estimate_blur([image], "photo").unclear
