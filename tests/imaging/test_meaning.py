"""Numbers with a meaning: no data, fewer bits, premultiplied alpha, masks, several images."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.file_forms import FORMS, grey
from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.carried import SampleMeaning
from napari_swintormer.imaging.formats.file_sets import whole_images
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.imaging.formats.writing import write_image
from napari_swintormer.imaging.intensity import IntensityConvention, measure_ranges
from napari_swintormer.imaging.masked import without_mask
from napari_swintormer.imaging.planes import Planes

CHANGE = np.full((1, 32, 40), 0.1, np.float32)


def measured(pixels, meaning=None):
    planes = Planes(pixels, "YX", 1, meaning=meaning or SampleMeaning())
    return measure_ranges(planes, IntensityConvention())[0]


@pytest.mark.parametrize(
    ("dtype", "value"), [("uint8", 0), ("uint16", 65535), ("int16", -999), ("float32", -9999.0)]
)
def test_no_data_is_neither_measured_nor_changed_nor_made(dtype, value):
    pixels = grey(dtype, 20, 200)
    alone = measured(pixels)
    pixels[:, :8] = value
    span = measured(pixels, SampleMeaning(no_data=value))
    assert (span.low, span.high) == pytest.approx((alone.low, alone.high), rel=0.2)
    unit = span.to_unit(pixels[None])
    assert np.abs(unit).max() < 2
    changed = span.apply(pixels[None], CHANGE)[0]
    np.testing.assert_array_equal(changed[:, :8], pixels[:, :8])
    assert np.all(changed[:, 8:] != value)
    assert np.any(changed[:, 8:] != pixels[:, 8:])


def test_no_data_outside_the_data_type_says_nothing():
    pixels = grey("uint8", 20, 200)
    assert measured(pixels, SampleMeaning(no_data=-9999)).high == measured(pixels).high


def test_an_image_of_12_bits_stays_within_them():
    pixels = grey("uint16", 0, 4095)
    span = measured(pixels, SampleMeaning(bits=12))
    assert span.saturation == 4095
    assert span.apply(pixels[None], 10 * CHANGE).max() == 4095


def test_premultiplied_colours_end_at_alpha():
    image = np.full((4, 5, 4), 100, np.uint8)
    planes = Planes(image, "YXS", 3, meaning=SampleMeaning(premultiplied=True))
    out, whole = np.zeros_like(image), slice(None)
    planes.write(out, 0, whole, whole, np.full((3, 4, 5), 130, np.uint8))
    assert np.all(out == 100)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_pixels_under_a_mask_come_back_as_they_were(dtype):
    pixels, mask = grey(dtype, 0, 200), np.zeros((32, 40), bool)
    mask[:, :8] = True
    if dtype == "uint8":  # every value is in use
        pixels[16:24, 8:] = np.arange(256, dtype=dtype).reshape(8, 32)
    unmasked = without_mask(np.ma.array(pixels, mask=mask))
    hidden, no_data = unmasked.image[mask], unmasked.meaning.no_data
    assert np.all(np.isnan(hidden) if no_data is None else hidden == no_data)
    assert no_data is None or not np.any(unmasked.image[~mask] == no_data)
    again = unmasked.mask_again(unmasked.image, "YX", {})
    assert again.dtype == dtype
    np.testing.assert_array_equal(again.data, pixels)
    np.testing.assert_array_equal(again.mask, mask)


def test_one_of_several_images_is_chosen_by_number(tmp_path):
    form = next(form for form in FORMS if form.holds == "several images or positions")
    form.make(tmp_path / form.name)
    with open_image(tmp_path / form.name, image=2) as image:
        assert image.images == ("pos 0", "pos 1", "pos 2")
        assert (image.number, image.carried.name) == (2, "pos 1")
        np.testing.assert_array_equal(image.data[...], grey(seed=1))
    with pytest.raises(ImageError, match="no image 4; its images are 1 to 3"):
        open_image(tmp_path / form.name, image=4)


def test_files_of_one_image_are_one_entry_and_open_whole_from_any(tmp_path):
    form = next(form for form in FORMS if form.holds == "OME-TIFF in several files")
    form.make(tmp_path / form.name)
    write_image(tmp_path / "other.ome.tif", grey(), "YX")
    paths = sorted(tmp_path.iterdir())
    assert whole_images(paths) == {tmp_path / "a.ome.tif": None, tmp_path / "other.ome.tif": None}
    for path in paths[:1] + paths[2:]:
        with open_image(path) as image:
            np.testing.assert_array_equal(
                image.data[...], np.stack([grey(seed=seed) for seed in range(3)])
            )
