import numpy as np
import pytest

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.axes import check_image, resolve_axes


@pytest.mark.parametrize(
    ("shape", "dtype", "axes"),
    [
        ((5, 7), "uint8", "YX"),
        ((5, 7, 3), "uint8", "YXS"),
        ((5, 7, 4), "uint16", "YXS"),
        ((5, 7, 3), "float32", "YXS"),
        ((5, 7, 3), "int16", "ZYX"),  # no picture has signed colours
        ((3, 5, 7), "uint8", "ZYX"),
        ((2, 5, 7, 3), "uint8", "ZYXS"),
        ((2, 3, 5, 7), "uint8", "TZYX"),
    ],
)
def test_guessed_axes(shape, dtype, axes):
    assert resolve_axes(shape, dtype) == axes


@pytest.mark.parametrize("axes", ["CYX", "syx", "YXC", "XYS"])
def test_given_axes_may_stand_in_any_order(axes):
    assert resolve_axes((3, 4, 4), "uint8", axes) == axes.upper()


@pytest.mark.parametrize(
    ("shape", "axes", "words"),
    [
        ((2, 3, 4, 5, 6), None, "axes='TCZYX'"),
        ((2, 2, 3, 4, 5, 3), None, "axes='TCZYXS'"),
        ((4, 5, 6), "QYX", "'Q' is none of them"),
        ((4, 5, 6), "YYX", "only once"),
        ((4, 5, 6), "YX", "each of its 3 axes"),
        ((4, 5, 6), "ZCX", "Y and X must be"),
        ((4, 5, 6), "YXS", "size 1 to 4"),
    ],
)
def test_axes_that_do_not_fit_get_one_sentence(shape, axes, words):
    with pytest.raises(ImageError, match=words) as caught:
        resolve_axes(shape, "uint8", axes)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "dtype", "words"),
    [
        ((4, 4), bool, "mask"),
        ((4, 4), complex, "absolute value"),
        ((4, 4), object, "data type object"),
        ((4, 4), "U3", "data type"),
        ((4, 4), "M8[s]", "data type"),
        ((4, 4), np.longdouble, "data type"),
        ((), "uint8", "got 0"),
        ((4,), "uint8", "got 1"),
        ((1,) * 7, "uint8", "got 7"),
        ((4, 0), "uint8", "empty"),
    ],
)
def test_what_is_no_image_is_refused(shape, dtype, words):
    with pytest.raises(ImageError, match=words):
        check_image(shape, dtype)


@pytest.mark.parametrize("dtype", ["u1", ">u2", "i4", "u8", "f2", ">f8"])
def test_numbers_of_any_width_and_byte_order_are_images(dtype):
    check_image((1, 1), dtype)
