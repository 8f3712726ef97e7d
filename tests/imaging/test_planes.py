import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from napari_swintormer.imaging.planes import Planes

SIZES = {"T": 2, "C": 3, "Z": 2, "Y": 5, "X": 7, "S": 3}


def image_of(axes, samples=3, dtype="uint16"):
    shape = [samples if a == "S" else SIZES[a] for a in axes]
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def everything(planes):
    y, x = (slice(0, n) for n in planes.shape)
    return np.stack([planes.read(i, y, x) for i in range(len(planes))])


@pytest.mark.parametrize(
    ("axes", "samples", "model", "count", "channels"),
    [
        ("YX", 0, 3, 1, 1),
        ("TCZYX", 0, 3, 12, 1),  # channels of a microscope are never mixed
        ("YXS", 3, 3, 1, 3),
        ("YXS", 4, 3, 1, 3),
        ("YXS", 3, 1, 3, 1),
        ("YXS", 4, 1, 3, 1),
        ("YXS", 2, 3, 1, 1),
        ("YXS", 1, 3, 1, 1),
        ("ZYXS", 3, 3, 2, 3),
        ("ZYXS", 3, 1, 6, 1),
    ],
)
def test_what_makes_a_plane(axes, samples, model, count, channels):
    planes = Planes(image_of(axes, samples), axes, model)
    assert (len(planes), planes.channels, planes.shape) == (count, channels, (5, 7))


@pytest.mark.parametrize("axes", ["YXS", "SYX", "XYS", "YSX", "XSY", "SXY"])
def test_any_order_of_axes_reads_the_same_plane(axes):
    image = image_of("YXS")
    moved = image.transpose(["YXS".index(a) for a in axes])
    plane = Planes(moved, axes, 3).read(0, slice(1, 4), slice(2, 7))
    assert np.array_equal(plane, image[1:4, 2:7].transpose(2, 0, 1))


@given(
    axes=st.permutations("TCZYXS").flatmap(
        lambda order: st.sets(st.sampled_from("TCZS")).map(
            lambda kept: "".join(a for a in order if a in kept | {"Y", "X"})
        )
    ),
    samples=st.integers(1, 4),
    model=st.sampled_from([1, 3]),
    split=st.tuples(st.integers(0, 5), st.integers(0, 7)),
)
def test_writing_what_was_read_copies_the_image_alpha_included(axes, samples, model, split):
    image = image_of(axes, samples)
    out = np.zeros_like(image)
    planes = Planes(image, axes, model)
    rows = [slice(0, split[0]), slice(split[0], 5)]
    columns = [slice(0, split[1]), slice(split[1], 7)]
    for plane in range(len(planes)):
        for y in rows:
            for x in columns:
                planes.write(out, plane, y, x, planes.read(plane, y, x))
    assert np.array_equal(out, image)


def test_alpha_is_copied_and_colours_are_what_was_written():
    for model in (1, 3):
        image = image_of("YXS", 4)
        out = np.zeros_like(image)
        planes = Planes(image, "YXS", model)
        whole = slice(0, 5), slice(0, 7)
        for plane in range(len(planes)):
            planes.write(out, plane, *whole, planes.read(plane, *whole) + 1)
        assert np.array_equal(out[..., :3], image[..., :3] + 1)
        assert np.array_equal(out[..., 3], image[..., 3])


def test_big_endian_images_come_in_native_byte_order():
    image = image_of("ZYX", dtype=">u2")
    planes = Planes(image, "ZYX", 1)
    assert planes.dtype == np.dtype("uint16")
    assert everything(planes).dtype.isnative
    assert np.array_equal(everything(planes)[:, 0], image)


class Watched:
    """An array that remembers how many pixels were asked for."""

    def __init__(self, data):
        self.data, self.shape, self.dtype = data, data.shape, data.dtype
        self.largest = 0

    def __getitem__(self, index):
        region = self.data[index]
        self.largest = max(self.largest, region.size)
        return region


def test_only_the_region_asked_for_is_read():
    watched = Watched(image_of("TCZYXS"))
    Planes(watched, "TCZYXS", 3).read(3, slice(1, 3), slice(2, 4))
    assert watched.largest == 2 * 2 * 3


def test_lazy_arrays_read_as_numpy_does(tmp_path):
    image = image_of("CZYX")
    stored = zarr.create_array(tmp_path / "a.zarr", data=image, chunks=(1, 1, 2, 3))
    expected = everything(Planes(image, "CZYX", 1))
    for lazy in (stored, da.from_array(image, chunks=(2, 1, 3, 2))):
        assert np.array_equal(everything(Planes(lazy, "CZYX", 1)), expected)


def test_groups_share_channels_and_never_split_colours():
    planes = Planes(image_of("ZCYXS"), "ZCYXS", 1)
    numbers = range(len(planes))
    assert {planes.group(i, "image") for i in numbers} == {0}
    assert [planes.group(i, "channel") for i in numbers] == [0, 0, 0, 1, 1, 1, 2, 2, 2] * 2
    assert [planes.group(i, "plane") for i in numbers] == [i // 3 for i in numbers]
