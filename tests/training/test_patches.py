"""A patch depends on the seed, the step and its number, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.training.pairs import find_scenes
from napari_swintormer.training.patches import ImageCache, PatchSampler, batches

CONVENTION = IntensityConvention()


@pytest.fixture
def photos(write_images):
    return find_scenes([write_images("sharp", ["a.png", "b.png"])], None, ["auto"], 3)


def test_patches_depend_on_their_number_alone(photos):
    first, second = (PatchSampler(photos, 32, 3, CONVENTION, seed=5) for _ in range(2))
    forwards = [first.draw(step, index) for step in range(3) for index in range(2)]
    backwards = [second.draw(step, index) for step in (2, 1, 0) for index in (1, 0)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({patch[0].tobytes() for patch in forwards}) == 6
    other_seed = PatchSampler(photos, 32, 3, CONVENTION, seed=6)
    assert not np.array_equal(other_seed.draw(0, 0)[0], forwards[0][0])


def test_threads_change_nothing(photos):
    sampler = PatchSampler(photos, 32, 3, CONVENTION, seed=5)
    one = list(batches(sampler, 2, 0, 7, workers=1))
    three = list(batches(sampler, 2, 0, 7, workers=3))
    late = list(batches(sampler, 2, 4, 7, workers=2))
    for (a, b), (c, d) in zip(one, three, strict=True):
        assert a.shape == b.shape == (2, 3, 32, 32)
        np.testing.assert_array_equal([a, b], [c, d])
    for (a, b), (c, d) in zip(one[4:], late, strict=True):
        np.testing.assert_array_equal([a, b], [c, d])


def test_both_halves_of_a_pair_are_cut_and_turned_alike(tmp_path):
    """The sharp image is the blurred one plus a known pattern: it must stand in every patch."""
    rng = np.random.default_rng(0)
    blurred = rng.integers(0, 20000, (90, 110)).astype(np.uint16)
    for folder, image in (("blurred", blurred), ("sharp", 2 * blurred + 100)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", image)
    scenes = find_scenes([tmp_path / "sharp"], tmp_path / "blurred", ["auto"], 3)
    sampler = PatchSampler(scenes, 32, 3, CONVENTION, seed=0)
    for step in range(20):
        seen, sharp = sampler.draw(step, 0)
        assert seen.min() >= 0
        assert seen.max() <= 1
        inside = (seen > 0) & (seen < 1)
        slope, _ = np.polyfit(seen[inside], sharp[inside], 1)
        residual = sharp[inside] - np.poly1d(np.polyfit(seen[inside], sharp[inside], 1))(
            seen[inside]
        )
        assert slope == pytest.approx(2, rel=1e-3)
        assert np.abs(residual).max() < 1e-3


def test_a_patch_without_blur_stays_as_it_is_noise_and_all(write_images):
    grey = find_scenes([write_images("grey", ["a.png"], (48, 56))], None, ["auto"], 3)
    sampler = PatchSampler(grey, 32, 3, CONVENTION, seed=0)
    patches = [sampler.draw(step, 0) for step in range(80)]
    # a fifth is unblurred, and but a quarter of that would be free of noise
    assert 0.1 < np.mean([np.allclose(*patch, atol=1e-6) for patch in patches]) < 0.35
    assert all(seen.shape == sharp.shape == (3, 32, 32) for seen, sharp in patches)
    assert all(np.array_equal(seen[0], seen[2]) for seen, _ in patches)


def test_an_image_smaller_than_a_patch_is_mirrored(write_images):
    small = find_scenes([write_images("small", ["a.png"], (9, 40, 3))], None, ["auto"], 3)
    blurred, sharp = PatchSampler(small, 64, 3, CONVENTION, seed=0).draw(0, 0)
    assert blurred.shape == sharp.shape == (3, 64, 64)
    assert np.isfinite(sharp).all()


def test_validation_patches_are_all_blurred_and_always_the_same(photos):
    one, other = (PatchSampler(photos, 32, 3, CONVENTION, 9).draw_all(12) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert np.all(np.abs(one[0] - one[1]).mean(axis=(1, 2, 3)) > 1e-4)


def test_images_that_are_too_large_to_keep_are_read_in_regions(tmp_path):
    image = np.random.default_rng(0).integers(0, 4000, (200, 300)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image)
    tifffile.imwrite(tmp_path / "b.tif", image + 1)
    region = slice(10, 50), slice(100, 180)
    kept, unkept = ImageCache(1, CONVENTION), ImageCache(1, CONVENTION, limit=1000)
    for _ in range(2):
        raw, intensity = unkept.read(tmp_path / "a.tif", 0, *region)
        np.testing.assert_array_equal(raw, image[None, *region])
        assert intensity == kept.read(tmp_path / "a.tif", 0, *region)[1]
    # Room for one of the two: whichever was used last stays, and both are read right.
    one = ImageCache(1, CONVENTION, limit=image.nbytes * 8)
    for name, offset in [("a.tif", 0), ("b.tif", 1)] * 2:
        raw, _ = one.read(tmp_path / name, 0, *region)
        np.testing.assert_array_equal(raw, image[None, *region] + offset)
