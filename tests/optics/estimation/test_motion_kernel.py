"""The kernel of a made camera shake is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.signal import fftconvolve

from napari_swintormer.optics import motion
from napari_swintormer.optics.estimation.motion_kernel import motion_trials
from napari_swintormer.optics.estimation.motion_signs import NAMES, similarity
from napari_swintormer.optics.estimation.shake_candidates import (
    shake_candidates,
    with_sparse_kernel,
)
from napari_swintormer.optics.estimation.sparse_kernel import sparse_kernel

SIDE = 256
GAMMA = 2.2


def picture(seed: int = 4, side: int = SIDE) -> np.ndarray:
    """Overlapping disks and boxes of many sizes, each of another brightness: light (Y, X)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    light = np.full((side, side), 0.3)
    for radius in np.sort(rng.uniform(4, 40, 150))[::-1]:
        cy, cx, angle = *rng.uniform(0, side, 2), rng.uniform(0, np.pi)
        u = (y - cy) * np.cos(angle) + (x - cx) * np.sin(angle)
        v = (x - cx) * np.cos(angle) - (y - cy) * np.sin(angle)
        shape = u**2 + v**2 if rng.random() < 0.4 else np.maximum(abs(u), abs(v)) ** 2
        light[shape < radius**2] = rng.uniform(0.02, 0.9)
    return light


def displayed(light: np.ndarray, noise: float = 0.003, seed: int = 5) -> np.ndarray:
    noisy = light + noise * np.random.default_rng(seed).standard_normal(light.shape)
    return (np.rint(255 * np.clip(noisy, 0, 1) ** (1 / GAMMA)) / 255).astype(np.float32)


@pytest.fixture(scope="module")
def shaken():
    kernel = motion.motion_psf(motion.camera_shake(9, np.random.default_rng(2)))
    return displayed(fftconvolve(picture(), kernel, mode="valid")), kernel


@pytest.fixture(scope="module")
def found(shaken):
    return motion_trials([shaken[0]], GAMMA)


@pytest.fixture(scope="module")
def shake(found):
    return shake_candidates(found[0])


def test_a_made_shake_is_found(shaken, found):
    (trial,) = found
    assert similarity(trial.kernel, shaken[1]) > 0.9
    assert set(trial.signs) == set(NAMES)
    assert trial.signs["votes agree"] > 0.8


def test_the_kernel_is_a_psf(found):
    kernel = found[0].kernel
    assert kernel.dtype == np.float32
    assert kernel.shape[0] == kernel.shape[1] <= 65
    assert kernel.shape[0] % 2 == 1
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    middle = len(kernel) // 2
    np.testing.assert_allclose(ndimage.center_of_mass(kernel), middle, atol=0.1)


def test_the_layout_in_memory_changes_nothing(shaken, found):
    again = motion_trials([np.asfortranarray(shaken[0].astype(np.float64))], GAMMA)
    np.testing.assert_array_equal(again[0].kernel, found[0].kernel)
    assert again[0].signs == found[0].signs


def test_the_window_with_the_edges_decides(shaken):
    """Which window comes first, and a window of nothing, change nothing."""
    image = shaken[0]
    windows = [image[:120], image[60:], np.zeros((120, 120), np.float32)]
    first, second = motion_trials(windows, GAMMA)[0], motion_trials(windows[::-1], GAMMA)[0]
    np.testing.assert_array_equal(first.kernel, second.kernel)
    assert first.signs == second.signs


@pytest.mark.parametrize(
    "image", [np.zeros((160, 160)), np.full((130, 140), np.nan), picture(side=40)]
)
def test_what_says_nothing_has_no_kernel(image):
    assert motion_trials([image]) == []


def test_several_kernels_of_a_shake_agree_and_lie_upon_each_other(shaken, shake):
    assert shake.agreement > 0.8
    assert shake.blur.family == "motion"
    mean = shake.blur.psf().astype(float)
    assert similarity(mean, shaken[1]) > 0.9
    np.testing.assert_allclose(ndimage.center_of_mass(mean), len(mean) // 2, atol=0.3)
    for _, blur in shake.blur.candidates:
        kernel = np.pad(blur.psf(), (len(mean) - len(blur.psf())) // 2)
        assert (kernel * mean).sum() > 0.8 * np.sqrt((kernel**2).sum() * (mean**2).sum())


def test_the_kernel_of_all_gradients_is_nearer_to_the_true_one(shaken, found, shake):
    mean = shake.blur.psf().astype(float)
    mixture = with_sparse_kernel(shake.blur, found[0])
    share, blur = max(mixture.candidates, key=lambda each: each[0])
    kernel = blur.psf().astype(float)
    assert share == pytest.approx(0.7)
    assert 1 - similarity(kernel, shaken[1]) < 0.7 * (1 - similarity(mean, shaken[1]))
    assert kernel.min() >= 0
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    places = [np.subtract(ndimage.center_of_mass(k), len(k) // 2) for k in (kernel, mean)]
    np.testing.assert_allclose(*places, atol=0.3)


def test_an_image_without_gradients_keeps_the_kernel():
    kernel = np.pad(np.ones((3, 5)), ((6, 6), (5, 5))) / 15
    fitted = sparse_kernel(np.full((400, 130), 0.5, np.float32), kernel)
    assert similarity(fitted, kernel) > 0.9
