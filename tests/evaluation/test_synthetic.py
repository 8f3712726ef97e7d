"""Synthetic pairs depend on seed and file name alone, and keep their known blur."""

import math
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter

from napari_swintormer.errors import FileError
from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.evaluation.metrics.similarity import psnr


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        image = gaussian_filter(rng.random((40, 60, 3)), (0.7, 0.7, 0)) * 255
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_the_blur_of_an_image_depends_on_seed_and_name_alone(photos, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(photos / "b.png", alone)
    among = {p.name: p for p in synthetic.blurred_pairs(photos, "photo")}
    (only,) = synthetic.blurred_pairs(alone, "photo")
    np.testing.assert_array_equal(among["b"].blurred, only.blurred)
    (reseeded,) = synthetic.blurred_pairs(alone, "photo", seed=1)
    first, second = synthetic.blurred_pairs(alone, "photo", draws=2)
    assert (first.name, second.name) == (only.name, f"{only.name}-draw-2")
    np.testing.assert_array_equal(first.blurred, only.blurred)
    assert not np.array_equal(second.blurred, only.blurred)
    assert (reseeded.blurred != only.blurred).any()


@pytest.mark.parametrize("kind", ["photo", "microscopy"])
def test_blurred_pairs_are_moderately_blurred_and_stay_in_place(photos, kind):
    for pair in synthetic.blurred_pairs(photos, kind):
        assert pair.blurred.dtype == pair.sharp.dtype == np.uint8
        assert pair.axes == "YXS"
        unchanged = psnr(pair.blurred, pair.sharp, data_range=255)
        assert 10 < unchanged < 40
        # A blur that shifted the image would lower the score of every good method.
        shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
        inner = gaussian_filter(pair.sharp.astype(float), (1, 1, 0))[2:-2, 2:-2]
        moved = [np.roll(pair.blurred, s, (0, 1)).astype(float)[2:-2, 2:-2] for s in shifts]
        errors = [np.mean((m - inner) ** 2) for m in moved]
        assert np.argmin(errors) == 0


def test_photos_are_blurred_in_linear_light(tmp_path):
    board = np.kron(np.indices((20, 20)).sum(0) % 2, np.ones((2, 2))).astype(np.uint8) * 255
    Image.fromarray(board).save(tmp_path / "board.png")
    (photo,) = synthetic.blurred_pairs(tmp_path, "photo")
    (micrograph,) = synthetic.blurred_pairs(tmp_path, "microscopy")
    half_the_light = 255 * 0.5 ** (1 / 2.2)
    assert np.median(photo.blurred) == pytest.approx(half_the_light, abs=12)
    assert np.median(micrograph.blurred) == pytest.approx(127.5, abs=12)


def test_large_images_are_cut_to_their_centre(tmp_path):
    image = np.zeros((530, 520), np.uint8)
    image[265, 260] = 255
    Image.fromarray(image).save(tmp_path / "dot.png")
    (pair,) = synthetic.blurred_pairs(tmp_path, "photo")
    assert pair.sharp.shape == (512, 512)
    assert pair.sharp[256, 256] == 255
    (larger,) = synthetic.blurred_pairs(tmp_path, "photo", side=525)
    assert larger.sharp.shape == (525, 520)
    assert np.array_equal(larger.blurred[7:519, 4:516], pair.blurred)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"There is no image in .*\.tif"):
        next(synthetic.blurred_pairs(tmp_path / "nothing", "photo"))


def test_blank_fields_have_the_noise_of_their_names():
    fields = {f.name: f for f in synthetic.blank_fields()}
    noise = [np.std(f.image - f.clean) for f in fields.values()]
    assert noise[0] == 0
    assert noise[1] == pytest.approx(18, rel=0.02)
    assert noise[2] == pytest.approx(math.hypot(5, 1 / math.sqrt(12)), rel=0.02)  # rounded


def test_motion_has_one_psf_and_a_scene_with_depth_has_one_for_each_layer(photos):
    for blur in ("motion", "layers"):
        first, *_ = synthetic.blurred_pairs(photos, "photo", blur=blur)
        again, *_ = synthetic.blurred_pairs(photos, "photo", blur=blur)
        np.testing.assert_array_equal(first.blurred, again.blurred)
        assert first.blurred.shape == first.sharp.shape
        assert 10 < psnr(first.blurred, first.sharp, data_range=255) < 40
        kernels = first.psf[None] if blur == "motion" else first.psf
        assert len(kernels) == {"motion": 1, "layers": 8}[blur]
        np.testing.assert_allclose(kernels.sum(axis=(1, 2)), 1, rtol=1e-4)
        if blur == "layers":  # a thin lens: one depth is in focus, blur grows away from it
            widths = (kernels > 0).sum(axis=(1, 2))
            focus = int(np.argmin(widths))
            assert (np.diff(widths[: focus + 1]) <= 0).all()
            assert (np.diff(widths[focus:]) >= 0).all()


def test_a_pair_is_blurred_with_its_psf(photos):
    for pair in synthetic.blurred_pairs(photos, "microscopy"):
        again = np.stack(
            [convolve(c, pair.psf) for c in np.moveaxis(pair.sharp.astype(float), 2, 0)], axis=2
        )
        inner = (slice(12, -12), slice(12, -12))
        assert np.abs(again - pair.blurred)[inner].mean() < 2
