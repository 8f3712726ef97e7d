"""Arrays of other libraries: what goes in comes out, or one sentence says what would work."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import pandas
import PIL.Image
import pytest
import torch

from napari_swintormer import deblur
from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.array_likes import as_array_like
from napari_swintormer.runs.planning import prepare


class Brighter:
    """A model that adds a quarter of the range of intensities."""

    channels, multiple = 1, 1

    def __call__(self, tiles):
        return tiles + 0.25


class Subclass(np.ndarray):
    """An array with an index of its own kind, as `numpy.matrix` has it."""

    def __getitem__(self, index):
        raise AssertionError("the index of a subclass is not known")


class Labelled:
    """An array with named dimensions, as xarray has it."""

    def __init__(self, data, dims):
        self.data, self.dims, self.shape, self.dtype = data, dims, data.shape, data.dtype

    @property
    def values(self):
        return np.asarray(self.data)

    def __getitem__(self, index):
        return Labelled(self.data[index], self.dims)

    def copy(self, data):
        return Labelled(data, self.dims)


def run(image, **options):
    return deblur(image, Brighter(), tile_size=32, device="cpu", **options)


def ramp(dtype="uint16", shape=(40, 50)):
    return np.linspace(100, 200, int(np.prod(shape))).reshape(shape).astype(dtype)


def every_value():
    """Every value of 8 bits, so that none is free for masked pixels."""
    return np.resize(np.arange(256), (40, 50)).astype(np.uint8)


@pytest.mark.parametrize(
    "image",
    [ramp(), ramp("uint8"), ramp("int64"), ramp(">i2"), ramp("float32"), ramp("float16"),
     every_value(), np.where(ramp() < 150, 0, 65535).astype("uint16"), ramp(shape=(3, 40, 50))],
    ids=lambda image: f"{image.dtype}-{image.ndim}",
)  # fmt: skip
def test_masked_pixels_stay_and_do_not_change_others(image):
    mask = np.zeros(image.shape, bool)
    mask[..., 10:14, 20:30] = True
    results = []
    for hidden in (0, 100):
        masked = np.ma.MaskedArray(np.where(mask, hidden, image).astype(image.dtype), mask)
        before = masked.copy()
        result = run(masked)
        assert isinstance(result, np.ma.MaskedArray)
        assert result.dtype == image.dtype
        np.testing.assert_array_equal(result.mask, mask)
        assert (result.data[mask] == hidden).all()
        assert (result.data[~mask] != image[~mask]).any()
        np.testing.assert_array_equal(masked.data, before.data)
        results.append(result.data[~mask])
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("mask", [np.ma.nomask, True])
def test_a_mask_of_nothing_or_everything(mask):
    image = np.ma.MaskedArray(ramp(), mask)
    result = run(image)
    assert isinstance(result, np.ma.MaskedArray)
    expected = ramp() if mask is True else run(ramp())
    np.testing.assert_array_equal(result.data, expected)


def test_the_mask_is_cut_to_the_chosen_planes():
    image = np.ma.masked_less(ramp(shape=(3, 40, 50)), 120)
    result = run(image, axes="ZYX", planes="Z=1:")
    np.testing.assert_array_equal(result.mask, image.mask[1:])
    taken = as_array_like(image)
    deviation = taken.wrap(np.zeros((1, 40, 50)), "ZYX", {"Z": (0, 1)}, deviation=True)
    np.testing.assert_array_equal(deviation.mask, image.mask[:1])
    assert (deviation.data == 0).all()


def test_tensors_lists_and_frames():
    image = ramp("float32")
    expected = run(image)
    tensor = run(torch.from_numpy(image))
    assert isinstance(tensor, torch.Tensor)
    for result in (
        tensor,
        run(image.tolist()),
        run(pandas.DataFrame(image)),
        run(image.view(Subclass)),
    ):
        np.testing.assert_allclose(np.asarray(result), expected, rtol=1e-6)
    picture = PIL.Image.fromarray(ramp("uint8"))
    np.testing.assert_array_equal(run(picture), run(ramp("uint8")))


@pytest.mark.parametrize("masked", [False, True])
def test_names_of_dimensions_tell_the_axes(masked):
    image = ramp(shape=(40, 50, 3))
    image = np.ma.masked_less(image, 120) if masked else image
    result = run(Labelled(image, ("y", "x", "channel")))
    assert isinstance(result, Labelled)
    assert isinstance(result.data, np.ma.MaskedArray) == masked
    np.testing.assert_array_equal(result.data, run(image, axes="YXC"))


def test_labels_over_dask_stay_lazy():
    image = ramp(shape=(2, 40, 50))
    result = run(Labelled(da.from_array(image, chunks=20), ("time", "y", "x")))
    assert isinstance(result.data, da.Array)
    np.testing.assert_array_equal(result.data.compute(), run(image, axes="TYX"))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, r"no image \(got None\)"),
        ("a.tif", "deblur_file takes files"),
        (Path("a.tif"), "deblur_file takes files"),
        (7, "2 to 6 dimensions"),
        ([[1, 2], [3]], "is no array of numbers"),
        ([["a", "b"], ["c", "d"]], "data type <U1 cannot be deblurred"),
        ({"a": 1}, "data type object cannot be deblurred"),
        (object(), "data type object cannot be deblurred"),
        (np.ones((4, 4), bool), "True and False"),
        (torch.ones(4, 4, requires_grad=True), r"detach\(\)"),
        (torch.ones(4, 4, dtype=torch.bfloat16), "BFloat16"),
        (PIL.Image.new("P", (4, 4)), "mode P has no plain intensities"),
        (PIL.Image.new("CMYK", (4, 4)), "mode CMYK has no plain intensities"),
        (da.ma.masked_less(da.ones((4, 4), dtype=int), 0), "must hold floats"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_image_ends_in_a_sentence(image, words):
    with pytest.raises(ImageError, match=words):
        run(image)


def test_a_foreign_data_type_is_refused_by_the_plan_too():
    with pytest.raises(ImageError, match="make it an array of NumPy first"):
        prepare(torch.ones(40, 50), restorer=Brighter())


def test_a_masked_dask_array_stays_masked_and_lazy():
    image = ramp("float32")
    result = run(da.ma.masked_less(da.from_array(image, chunks=20), 120))
    assert isinstance(result, da.Array)
    computed = result.compute()
    np.testing.assert_array_equal(computed.mask, image < 120)
    np.testing.assert_array_equal(computed.data[image < 120], image[image < 120])
    assert (computed.data[image >= 120] != image[image >= 120]).any()
