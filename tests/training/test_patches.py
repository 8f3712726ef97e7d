"""A patch depends on the seed, the step and its number, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_swintormer.errors import TrainingError
from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.training.data.annotations import Marks
from napari_swintormer.training.data.feeding import batches
from napari_swintormer.training.data.image_cache import ImageCache
from napari_swintormer.training.data.listing import list_pairs
from napari_swintormer.training.data.pairs import ImagePair, array_pairs, plane_pairs, sharp_planes
from napari_swintormer.training.data.patches import PatchSampler
from napari_swintormer.training.data.sources import ArrayImage, open_planes

CONVENTION = IntensityConvention()


def sharp_only(folder):
    return [plane for pair in list_pairs([folder])[0] for plane in sharp_planes(pair, 3)]


def unchecked(pairs):
    """List the planes of pairs without the check."""
    found = []
    for pair in pairs:
        with open_planes(pair.sharp, 3) as planes:
            found += plane_pairs(pair, planes)
    return found


@pytest.fixture
def photos(write_images):
    return sharp_only(write_images("sharp", ["a.png", "b.png"]))


def test_patches_depend_on_their_number_alone(photos):
    first, second = (PatchSampler(photos, 32, 3, CONVENTION, seed=5) for _ in range(2))
    forwards = [first.draw(step, index) for step in range(3) for index in range(2)]
    backwards = [second.draw(step, index) for step in (2, 1, 0) for index in (1, 0)][::-1]
    for one, other in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({patch[0].tobytes() for patch in forwards}) == 6
    other_seed = PatchSampler(photos, 32, 3, CONVENTION, seed=6)
    assert not np.array_equal(other_seed.draw(0, 0)[0], forwards[0][0])


def test_threads_and_processes_change_nothing(photos):
    sampler = PatchSampler(photos, 32, 3, CONVENTION, seed=5)

    def two(_):
        return 32, range(2)

    one = list(batches(sampler, range(7), 1, two))
    three = list(batches(sampler, range(7), 3, two))
    late = list(batches(sampler, range(4, 7), 2, two))
    elsewhere = list(batches(sampler, range(7), 1, two, processes=True))
    for (a, b), (c, d), (e, f) in zip(one, three, elsewhere, strict=True):
        np.testing.assert_array_equal([a, b], [e, f])
        assert a.shape == b.shape == (2, 3, 32, 32)
        np.testing.assert_array_equal([a, b], [c, d])
    for (a, b), (c, d) in zip(one[4:], late, strict=True):
        np.testing.assert_array_equal([a, b], [c, d])


def test_images_that_stay_in_their_process_are_refused():
    image = ArrayImage("lazy", Unpickled(np.zeros((40, 40), np.uint8)))
    (plane,) = unchecked([ImagePair(image)])
    sampler = PatchSampler([plane], 32, 1, CONVENTION, seed=0)
    with pytest.raises(TrainingError, match="cannot be sent to processes"):
        next(batches(sampler, range(1), 1, lambda _: (32, range(1)), processes=True))


class Unpickled:
    """An array that cannot be sent to another process."""

    def __init__(self, data):
        self.data, self.shape, self.dtype = data, data.shape, data.dtype

    def __getitem__(self, key):
        return self.data[key]

    def __reduce__(self):
        raise TypeError("not this one")


def test_both_images_of_a_pair_are_cut_and_turned_alike(tmp_path):
    """The sharp image is the blurred one plus a known pattern: it must stand in every patch."""
    rng = np.random.default_rng(0)
    blurred = rng.integers(0, 20000, (90, 110)).astype(np.uint16)
    for folder, image in (("blurred", blurred), ("sharp", 2 * blurred + 100)):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", image)
    pairs, _ = list_pairs([tmp_path / "sharp"], tmp_path / "blurred")
    sampler = PatchSampler(unchecked(pairs), 32, 3, CONVENTION, seed=0)
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


def test_some_patches_are_shrunk_as_far_as_the_image_allows(tmp_path):
    """Waves of 16 pixels have 4 periods in 64 pixels, and as many more as a patch is shrunk."""
    waves = np.sin(2 * np.pi * np.arange(104) / 16) * np.ones((104, 1))
    for folder in ("blurred", "sharp"):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", (30_000 + 20_000 * waves).astype(np.uint16))
    pairs, _ = list_pairs([tmp_path / "sharp"], tmp_path / "blurred")
    sampler = PatchSampler(unchecked(pairs), 64, 3, CONVENTION, seed=0)
    periods = []
    for step in range(80):
        line = sampler.draw(step, 0)[1][0]
        along = max(line.mean(axis=0), line.mean(axis=1), key=np.ptp)
        spectrum = np.abs(np.fft.rfft((along - along.mean()) * np.hanning(64), 1024))
        periods.append(spectrum.argmax() / 16)
    periods = np.array(periods)
    assert np.mean(np.abs(periods - 4) < 0.1) > 0.6
    assert 0.05 < np.mean(periods > 4.3) < 0.4
    assert periods.max() < 4 * 104 / 64 + 0.1


def test_a_patch_without_blur_keeps_its_noise(write_images):
    grey = sharp_only(write_images("grey", ["a.png"], (48, 56)))
    sampler = PatchSampler(grey, 32, 3, CONVENTION, seed=0)
    patches = [sampler.draw(step, 0) for step in range(80)]
    # 15 % are unblurred, and but a quarter of that would be free of noise
    assert 0.06 < np.mean([np.allclose(*patch, atol=1e-6) for patch in patches]) < 0.3
    assert all(seen.shape == sharp.shape == (3, 32, 32) for seen, sharp in patches)
    assert all(np.array_equal(seen[0], seen[2]) for seen, _ in patches)


def test_fluorescence_is_told_from_brightfield(tmp_path):
    """Nuclei on black, and the same seen in transmitted light; a photo is neither."""
    y, x = np.mgrid[:60, :70]
    nuclei = (np.hypot(y % 20 - 10, x % 20 - 10) < 5) * np.uint16(3000)
    for name, image in (("fluorescence", nuclei), ("brightfield", 3000 - nuclei)):
        tifffile.imwrite(tmp_path / f"{name}.tif", image)
    drawn = {}
    for pair in sharp_only(tmp_path):
        sampler = PatchSampler([pair], 32, 1, CONVENTION, 0, "optics")
        drawn[pair.sharp.stem] = sampler._modality(pair)
    assert drawn == {name: name for name in drawn}


def test_an_image_smaller_than_a_patch_is_mirrored(write_images):
    small = sharp_only(write_images("small", ["a.png"], (9, 40, 3)))
    blurred, sharp = PatchSampler(small, 64, 3, CONVENTION, seed=0).draw(0, 0)
    assert blurred.shape == sharp.shape == (3, 64, 64)
    assert np.isfinite(sharp).all()


def test_validation_patches_are_all_blurred_and_always_the_same(photos):
    one, other = (PatchSampler(photos, 32, 3, CONVENTION, 9).draw_validation(12) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    assert np.all(np.abs(one[0] - one[1]).mean(axis=(1, 2, 3)) > 1e-4)


def test_images_that_are_too_large_to_keep_are_read_in_regions(tmp_path):
    image = np.random.default_rng(0).integers(0, 4000, (200, 300)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", image)
    tifffile.imwrite(tmp_path / "b.tif", image + 1)
    region = slice(10, 50), slice(100, 180)
    kept, unkept = ImageCache(1, CONVENTION), ImageCache(1, CONVENTION, limit=1000)
    for _ in range(2):
        raw = unkept.read(tmp_path / "a.tif", 0, *region)
        np.testing.assert_array_equal(raw, image[None, *region])
        np.testing.assert_array_equal(raw, kept.read(tmp_path / "a.tif", 0, *region))
    assert unkept.range_of(tmp_path / "a.tif", 0) == kept.range_of(tmp_path / "a.tif", 0)
    # Room for one of the two: whichever was used last stays, and both are read right.
    one = ImageCache(1, CONVENTION, limit=image.nbytes * 8)
    for name, offset in [("a.tif", 0), ("b.tif", 1)] * 2:
        raw = one.read(tmp_path / name, 0, *region)
        np.testing.assert_array_equal(raw, image[None, *region] + offset)


def test_annotations_decide_where_patches_come_from():
    """Intensities tell where a pixel came from; 2 is left out, 1 is where patches are centred."""
    rows = np.mgrid[:160, :200][0]
    image = (1000 + 10 * rows).astype(np.uint16)
    labels = np.zeros(image.shape, np.uint8)
    labels[100:110, 60:150] = 1
    labels[:, 120:] = 2
    (pair,) = unchecked(array_pairs(image, image, labels))
    sampler = PatchSampler([pair], 32, 1, CONVENTION, seed=0)
    shares = []
    for step in range(30):
        seen, sharp = sampler.draw(step, 0)
        left_out = np.isnan(sharp)
        assert not np.isnan(seen).any()
        np.testing.assert_array_equal(sharp[~left_out], seen[~left_out])
        shares.append(left_out.mean())
    assert 0 < np.mean(shares) < 0.4  # centres lie left of column 120
    assert min(shares) == 0


@pytest.mark.parametrize("mark", [1, 2])
def test_every_eligible_pixel_is_drawn_and_no_other(mark):
    labels = np.zeros((70, 75), np.uint8)
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, labels.size, 40)
    labels.flat[chosen] = 1
    if mark == 2:  # all others are left out: what is unmarked is eligible
        labels = np.where(labels == 1, 0, 2).astype(np.uint8)
    planes = Planes(labels, "YX", 1)
    marks = Marks(planes, 0, slice(3, 70), slice(5, 75))
    drawn = {marks.draw(rng, lambda y, x: labels[y, x]) for _ in range(1500)}
    expected = {(i // 75, i % 75) for i in chosen.tolist() if i // 75 >= 3 and i % 75 >= 5}
    assert marks.total == len(expected)
    assert drawn == expected


def test_lazy_arrays_are_read_in_regions_only():
    """A pair far larger than memory: each patch asks for its own pixels, and no more."""

    class Huge:
        shape, dtype, ndim = (200_000, 200_000), np.dtype(np.uint16), 2
        largest = 0

        def __getitem__(self, index):
            y, x = np.ogrid[index]
            Huge.largest = max(Huge.largest, y.size * x.size)
            return ((y // 7 + x // 5) % 4000).astype(np.uint16)

    (pair,) = unchecked(array_pairs(Huge(), Huge()))
    seen, sharp = PatchSampler([pair], 64, 1, CONVENTION, seed=0).draw(0, 0)
    np.testing.assert_array_equal(seen, sharp)
    assert Huge.largest <= 192**2
