import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from napari_swintormer.imaging import intensity
from napari_swintormer.imaging.intensity import (
    IntensityConvention,
    IntensityRange,
    measure_ranges,
)
from napari_swintormer.imaging.planes import Planes

DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"]
quick = settings(deadline=None, max_examples=150)


def measure(image, axes="YX", channels=1, **convention):
    return measure_ranges(Planes(image, axes, channels), IntensityConvention(**convention))


@st.composite
def planes_of_any_bits(draw):
    """One (1, h, w) plane of any dtype and any bits: NaN payloads, -0.0, infinities, extremes."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    h, w = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = h * w * dtype.itemsize
    return np.frombuffer(draw(st.binary(min_size=size, max_size=size)), dtype).reshape(1, h, w)


@quick
@given(planes_of_any_bits())
def test_no_change_keeps_every_bit(raw):
    (span,) = measure(raw[0])
    unit = span.to_unit(raw)
    assert unit.dtype == np.float32
    assert np.isfinite(unit).all()
    kept = span.apply(raw, np.zeros(raw.shape, np.float32))
    assert kept.dtype == raw.dtype
    assert kept.tobytes() == raw.tobytes()


@quick
@given(planes_of_any_bits(), st.floats(-3, 3, width=32))
def test_any_change_stays_within_the_dtype_and_keeps_lost_pixels(raw, change):
    (span,) = measure(raw[0])
    changed = span.apply(raw, np.full(raw.shape, change, np.float32))
    if raw.dtype.kind == "f":
        lost = ~np.isfinite(raw)
        assert np.isfinite(changed[~lost]).all()
        if not (raw[~lost] < 0).any():
            assert not (changed[~lost] < 0).any()
    else:
        lost = raw == np.iinfo(raw.dtype).max
    assert changed[lost].tobytes() == raw[lost].tobytes()
    steps = changed[~lost].astype(object) - raw[~lost].astype(object)
    assert all(step >= 0 for step in steps) if change >= 0 else all(step <= 0 for step in steps)


@quick
@given(
    hnp.arrays(np.uint16, (1, 6, 7), elements=st.integers(0, 65534)),
    hnp.arrays(np.uint16, (1, 6, 7), elements=st.integers(0, 65535)),
)
def test_unit_and_back_is_exact_for_16_bits(raw, wanted):
    span = IntensityRange(low=0, high=65535, floor=0, ceiling=65535, saturation=65535)
    change = span.to_unit(wanted) - span.to_unit(raw)
    assert np.array_equal(span.apply(raw, change), wanted)


def test_changes_of_integers_round_half_to_even():
    span = IntensityRange(low=0, high=1, floor=0, ceiling=255, saturation=255)
    raw = np.full((1, 1, 5), 10, np.uint8)
    change = np.array([[[0.5, 1.5, 2.5, -0.5, -1.5]]], np.float32)
    assert span.apply(raw, change).tolist() == [[[10, 12, 12, 10, 8]]]


@quick
@given(
    hnp.arrays(st.sampled_from(["i1", "u2", "i4", "u8", "i8"]).map(np.dtype), (1, 2, 3)),
    st.integers(-(2**63), 2**63),
)
def test_integers_are_added_exactly_and_end_with_their_dtype(raw, step):
    step = int(np.float32(step))  # a change is float32
    ends = np.iinfo(raw.dtype)
    span = IntensityRange(low=0, high=1, floor=ends.min, ceiling=ends.max)
    expected = np.clip(raw.astype(object) + step, ends.min, ends.max)
    changed = span.apply(raw, np.full(raw.shape, step, np.float32))
    assert changed.astype(object).tolist() == expected.tolist()


def background(shape=(600, 600), offset=100.0, noise=4.0):
    return np.random.default_rng(0).normal(offset, noise, shape)


def spots(shape=(600, 600), count=8, sigma=1.5):
    """Blurred beads of height 1."""
    rng = np.random.default_rng(1)
    image = np.zeros(shape)
    image[rng.integers(10, 590, count), rng.integers(10, 590, count)] = 1
    image = gaussian_filter(image, sigma)
    return image / image.max()


def test_beads_in_less_than_a_thousandth_of_the_pixels_are_not_clipped():
    beads = 5000 * spots()
    assert (beads > 500).mean() < 0.001
    (span,) = measure((background() + beads).astype(np.uint16))
    assert 70 < span.low < 100
    assert 3500 < span.high < 5500


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2"])
@pytest.mark.parametrize("high", [99.9, 97.3, 100])
def test_integers_have_the_range_of_the_same_numbers_as_floats(dtype, high):
    ends = np.iinfo(dtype)
    image = background((300, 231), (ends.min + ends.max) / 2, (ends.max - ends.min) / 40)
    image[40:60, 100:130] = ends.max  # structure
    image = image.astype(dtype)
    spans = [measure(image.astype(t), low=0.3, high=high)[0] for t in (dtype, "f8")]
    assert len({(span.low, span.high) for span in spans}) == 1


def test_hot_pixels_do_not_stretch_the_range():
    image = background() + 5000 * spots()
    image[np.random.default_rng(2).random(image.shape) < 3e-4] = 65535
    (span,) = measure(image.astype(np.uint16))
    assert 3500 < span.high < 5500


def test_a_little_bright_debris_does_not_hide_the_cells():
    cells = np.clip(gaussian_filter(np.random.default_rng(3).normal(size=(600, 600)), 15), 0, None)
    image = background() + 1000 * cells / cells.max()
    image[300:304, 300:304] = 60000
    (span,) = measure(image.astype(np.uint16))
    assert 700 < span.high < 1300


def test_uneven_light_does_not_hide_the_beads():
    ramp = np.linspace(0, 200, 600)
    (span,) = measure((background() + ramp + 5000 * spots()).astype(np.uint16))
    assert span.high > 3500


def test_images_of_few_photons_are_measured_on_their_structure():
    counts = np.random.default_rng(4).poisson(0.3 + 200 * spots()).astype(np.uint16)
    (span,) = measure(counts)
    assert span.low == 0
    assert 120 < span.high < 220


def test_a_photograph_spans_its_percentiles():
    photo = gaussian_filter(np.random.default_rng(5).normal(size=(500, 700)), 3)
    photo = np.clip(128 + 60 * photo / photo.std(), 0, 255).astype(np.uint8)
    (span,) = measure(photo)
    assert span.low <= np.percentile(photo, 0.5)
    assert span.high >= np.percentile(photo, 99.5)


def test_signed_images_keep_their_negatives():
    body = np.where(np.indices((300, 300))[0] > 150, 40.0, -1000.0)
    (span,) = measure((body + background((300, 300), 0, 10)).astype(np.int16))
    assert span.low == pytest.approx(-1000, abs=60)
    assert span.high == pytest.approx(40, abs=60)


def test_the_camera_offset_cancels():
    image = background().astype(np.uint16)
    (low,), (high,) = measure(image), measure(image + np.uint16(1000))
    change = np.full((1, *image.shape), 0.1, np.float32)
    plain = low.apply(image[np.newaxis], change)
    shifted = high.apply(image[np.newaxis] + np.uint16(1000), change)
    assert np.array_equal(shifted, plain + np.uint16(1000))


def test_float_images_stay_in_the_range_they_had():
    rng = np.random.default_rng(0)
    up, down = np.full((1, 50, 50), 2, np.float32), np.full((1, 50, 50), -2, np.float32)
    for image, floor, ceiling in [
        (rng.random((50, 50)), 0, 1),
        (rng.random((50, 50)) * 300, 0, None),
        (rng.normal(size=(50, 50)), None, None),
    ]:
        raw = image[np.newaxis].astype(np.float32)
        (span,) = measure(raw[0])
        lowest, highest = span.apply(raw, down).min(), span.apply(raw, up).max()
        assert lowest == floor if floor is not None else lowest < raw.min()
        assert highest == ceiling if ceiling is not None else highest > raw.max()


def test_pixels_outside_the_range_of_the_sample_are_not_clipped():
    span = IntensityRange(low=0, high=1, floor=0, ceiling=1)
    raw = np.array([[[-0.5, 1.5]]], np.float32)
    assert np.array_equal(span.apply(raw, np.zeros_like(raw)), raw)
    assert span.apply(raw, np.full_like(raw, 0.1)).tolist() == [[[pytest.approx(-0.4), 1.5]]]


def test_a_12_bit_sensor_saturates_at_4095():
    image = background() + 8000 * spots(sigma=8)
    (span,) = measure(np.clip(image, 0, 4095).astype(np.uint16))
    assert span.saturation == 4095
    raw = np.array([[[4094, 4095]]], np.uint16)
    assert span.apply(raw, np.full(raw.shape, -0.5, np.float32)).tolist()[0][0][1] == 4095
    (span,) = measure(np.clip(image, 0, 4000).astype(np.uint16))
    assert span.saturation == 65535


@pytest.mark.parametrize(
    "image",
    [
        np.full((9, 9), 7, np.uint16),
        np.full((9, 9), np.nan, np.float32),
        np.full((1, 1), -3.5),
        np.full((2, 2), -0.0),
        np.full((2, 2), 2**63 + 1025, np.uint64),
        np.array([[-1.7e308, 1.7e308]] * 2),
    ],
)
def test_images_without_a_range_are_not_changed(image):
    (span,) = measure(image)
    assert span.gain == 0
    changed = span.apply(image[np.newaxis], np.ones((1, *image.shape), np.float32))
    assert changed.tobytes() == image.tobytes()


def test_lost_pixels_are_filled_from_their_neighbours_for_the_network():
    span = IntensityRange(low=0, high=10, floor=0, ceiling=100)
    raw = np.array([[[1, np.nan, 5], [1, 1, np.inf]], [[np.nan] * 3] * 2], np.float32)
    expected = np.array([[[0.1, 0.1, 0.5], [0.1, 0.1, 0.5]], [[0] * 3] * 2], np.float32)
    filled = span.to_unit(raw)
    assert filled[0, 0, 1] in expected[0]
    filled[0, 0, 1] = 0.1  # two neighbours are equally near
    assert np.allclose(filled[:, :, :2], expected[:, :, :2])
    assert filled[0, 1, 2] in (np.float32(0.1), np.float32(0.5))


def test_colours_share_a_range_and_channels_do_not():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 200, (40, 40, 3)).astype(np.uint8) // np.array([1, 2, 4], np.uint8)
    for channels in (1, 3):
        assert len(set(measure(image, "YXS", channels))) == 1
    assert len(set(measure(image, "YXC"))) == 3
    assert len(set(measure(image, "YXC", scope="image"))) == 1
    stack = np.stack([image[..., 0], image[..., 2]])
    assert len(set(measure(stack, "ZYX"))) == 1
    assert len(set(measure(stack, "ZYX", scope="plane"))) == 2


@pytest.mark.parametrize("shape", [(2000, 2100), (1, 3_000_000), (70, 200, 210)])
def test_chunks_change_no_range(shape):
    axes = "YX" if len(shape) == 2 else "ZYX"
    image = np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)
    chunked = da.from_array(image, chunks=tuple(max(1, n // 3) for n in shape))
    assert measure(chunked, axes) == measure(image, axes)


class Endless:
    """An image far larger than memory, which counts what is read of it."""

    dtype = np.dtype("uint16")

    def __init__(self, shape):
        self.shape, self.read = shape, 0

    def __getitem__(self, index):
        region = np.broadcast_to(np.uint16(5), self.shape)[index]
        self.read += region.size
        return region


@pytest.mark.parametrize(
    ("shape", "axes", "scope", "limit"),
    [
        ((100_000, 100_000), "YX", "channel", 2_400_000),
        ((3, 10**9), "YX", "channel", 2_400_000),
        ((5000, 512, 512), "ZYX", "channel", 2_400_000),
        ((300, 2048, 2048), "ZYX", "plane", 300 * 4 * 40_000),
    ],
)
def test_little_of_a_large_image_is_read(shape, axes, scope, limit, monkeypatch):
    image = Endless(shape)
    monkeypatch.setattr(intensity, "_measure", lambda *_: None)
    measure(image, axes, scope=scope)
    assert 0 < image.read < limit


def test_a_convention_has_bounds():
    for wrong in ({"low": 60}, {"high": 101}, {"scope": "pixel"}, {"gamma": 2}):
        with pytest.raises(ValidationError):
            IntensityConvention(**wrong)
