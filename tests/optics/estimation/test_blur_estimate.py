"""The blur of an image is measured on a few windows, and sharp or empty images have none."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest

from napari_swintormer.imaging.planes import Planes
from napari_swintormer.optics import psf
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation.defocus_posterior import defocus_posterior
from napari_swintormer.optics.estimation.estimate import estimate_blur
from napari_swintormer.optics.estimation.sample import read_windows, sample_windows
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


def test_an_estimate_is_a_mixture_of_few_candidates_that_keeps_the_size(leaves):
    window = picture(leaves, "photo", psf.disk(4.0))
    found = estimate_blur([window], "photo")
    defocus = [(p, b) for p, b in found.blur.candidates if b.kind != "none"]
    assert 1 < len(defocus) <= 12
    assert np.sqrt(2) * found.blur.radius == pytest.approx(4, rel=0.25)
    assert "defocus" in found.reason


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


def test_motion_is_told_from_defocus(leaves):
    window = picture(leaves, "photo", Blur.motion(9, 60).psf())
    found = estimate_blur([window], "photo")
    assert found.blur.family == "motion"
    assert found.certainty > 0.4
    assert "motion" in found.reason


@pytest.mark.parametrize("shape", [(1, 1), (40, 3000), (512, 512), (513, 700), (9000, 20_000)])
def test_windows_cover_a_small_plane_and_spread_over_a_large_one(shape):
    windows = sample_windows(shape)
    assert len(windows) == len(set(map(str, windows))) <= 9
    for axis, size in enumerate(shape):
        spans = sorted({(w[axis].start, w[axis].stop) for w in windows})
        assert (spans[0][0], spans[-1][1]) == (0, size)
        assert all(stop - start == min(size, 512) for start, stop in spans)


@pytest.mark.parametrize("chunks", [None, (64, 700), (333, 128)])
def test_windows_are_the_same_however_the_plane_lies(chunks):
    image = np.random.default_rng(3).integers(0, 255, (600, 700, 3), np.uint8)
    lying = image if chunks is None else da.from_array(image, chunks=(*chunks, 3))
    windows = read_windows(Planes(lying, "YXS", 3), 0, lambda block: block / np.float32(255))
    for window, (y, x) in zip(windows, sample_windows((600, 700)), strict=True):
        np.testing.assert_array_equal(window, (image[y, x] / np.float32(255)).mean(axis=2))
