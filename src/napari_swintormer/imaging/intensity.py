"""Turn the intensities of an image into the unit range of a network, and exactly back.

Most photographs fill their range; microscopy rarely does: a camera offset of 100, a background that
fills 99.95 % of the pixels, beads at 5000, a few hot pixels at 65535. The range is therefore
measured on a sample of the image, which does not depend on how the image is stored:

1. A pixel counts at most as bright as its brightest neighbour (`_despeckle`). Hot pixels stand
   alone, structure in a blurred image never does.
2. The range ends at a percentile of the pixels, the 99.9th by default, or at the 99th percentile of
   the *structure*, whichever is more (`_upper_end`). Structure rises above its surroundings by more
   than five times the noise. Without this rule, the range of an image of sparse beads would span
   the noise of its background, and the beads would be clipped. Where structure covers a tenth of
   the image or more, the rule adds nothing.

The lower end follows from the same rules on the negated image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from napari_swintormer.imaging.planes import Scope
from napari_swintormer.imaging.sample import sample_regions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from napari_swintormer.imaging.carried import SampleMeaning
    from napari_swintormer.imaging.planes import Planes

# Regions of the sample from a group of planes; fewer when there are many groups.
_REGIONS = 64
_REGIONS_OF_ALL_GROUPS = 1024
_REGIONS_AT_LEAST = 4
# Structure rises above the median of its surroundings, a square of this side in pixels, by this
# many standard deviations of the noise.
_SURROUNDINGS = 48
_STRUCTURE_SIGMAS = 5.0
_STRUCTURE_PERCENTILE = 99.0
# Limit of unit intensities: float32 then resolves a change to 1e-6, and the network ignores what
# lies outside [0, 1] anyway.
_UNIT_LIMIT = 16.0
# A sensor of 10, 12 or 14 bits saturates below the maximum of uint16: this share of the sample sits
# exactly there, and nothing above.
_SENSOR_BITS = (10, 12, 14)
_SATURATED_SHARE = 1e-4


class IntensityConvention(BaseModel):
    """How a model wants intensities brought to the unit range; part of its card."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scope: Scope = "channel"  # whose planes share a range: all, those of a channel, each its own
    low: float = Field(default=0.1, ge=0, lt=50)  # percentile that becomes 0
    high: float = Field(default=99.9, gt=50, le=100)  # percentile that becomes 1

    @property
    def whole(self) -> bool:
        """Whether the model wants the whole range, as networks trained on photographs do."""
        return (self.low, self.high) == (0, 100)


@dataclass(frozen=True)
class IntensityRange:
    """What unit intensities mean in an image."""

    # Intensities that become 0 and 1. Equal in an image without structure, which does not change.
    low: float
    high: float
    # Limits of the result in a float image; pixels beyond them stay as they are.
    floor: float
    ceiling: float
    # Pixels of at least this intensity carry no information and do not change.
    saturation: int | None = None
    # How much of a change `apply` adds: 1 is all of it, and more goes further the same way.
    strength: float = 1.0
    # Pixels of this value are no measurement: they are treated as NaN is.
    no_data: float | None = None

    @property
    def gain(self) -> float:
        """Intensity per unit."""
        return self.high - self.low

    def to_unit(self, raw: NDArray[Any]) -> NDArray[np.float32]:
        """Bring a ``(C, h, w)`` region to unit intensities: ``(raw - low) / (high - low)``.

        The result is limited to ±16. Pixels that are NaN, infinite or no data take the value of
        the nearest other pixel of the region, or 0 where there is none.
        """
        if self.gain == 0:
            return np.zeros(raw.shape, np.float32)
        unit = np.asarray(raw, _working_type(raw.dtype))
        if self.no_data is not None:
            unit = np.where(no_data_pixels(raw, self.no_data), np.nan, unit).astype(unit.dtype)
        if raw.dtype.kind == "f" or self.no_data is not None:
            unit = _fill_nonfinite(unit, self.low)
        with np.errstate(over="ignore"):
            unit = (unit - self.low) / self.gain
        return np.clip(unit, -_UNIT_LIMIT, _UNIT_LIMIT).astype(np.float32, copy=False)

    def apply(self, raw: NDArray[Any], change: NDArray[np.float32]) -> NDArray[Any]:
        """Add a change in unit intensities to a region; both are ``(C, h, w)``.

        The result is ``raw + step`` in the dtype of `raw`, within `floor` and `ceiling`, with
        ``step = gain * strength * change``. Integers move by the step rounded half to even, up to
        `ceiling`. Pixels without change, and pixels that are saturated, NaN, infinite or no data,
        keep every bit. No other pixel becomes no data.
        """
        working = _working_type(raw.dtype)
        with np.errstate(invalid="ignore", over="ignore"):
            step = working.type(self.gain * self.strength) * change
            if raw.dtype.kind == "f":
                floor, ceiling = np.minimum(raw, self.floor), np.maximum(raw, self.ceiling)
                changed = np.clip(raw.astype(working) + step, floor, ceiling).astype(raw.dtype)
            else:
                step = np.rint(step)
                changed = _add(raw, step)
                if self.ceiling < np.iinfo(raw.dtype).max:  # fewer bits than the data type
                    ceiling = raw.dtype.type(self.ceiling)
                    changed = np.minimum(changed, np.maximum(raw, ceiling))
            kept = (step == 0) | self._kept(raw)
            if self.no_data is not None:
                kept |= no_data_pixels(changed, self.no_data)
        return np.where(kept, raw, changed)

    def deviation(self, raw: NDArray[Any], contrasts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the standard deviation of N samples of a region in the units of the image.

        Parameters
        ----------
        raw
            The region, ``(C, h, w)``.
        contrasts
            ``((N - 1) * C, h, w)``, the differences of the samples in unit intensities: N - 1 times
            the variance of a pixel is the sum of their squares.

        Returns
        -------
        NDArray
            ``(C, h, w)`` float32; 0 at pixels that `apply` never changes. The ends of the range and
            of the dtype are ignored.
        """
        squares = np.square(contrasts).reshape(-1, *raw.shape)
        gain = np.float32(self.gain * self.strength)
        deviation: NDArray[np.float32] = gain * np.sqrt(squares.mean(axis=0))
        deviation[self._kept(raw)] = 0
        return deviation

    def _kept(self, raw: NDArray[Any]) -> NDArray[np.bool_]:
        """Mark the pixels that never change."""
        kept: NDArray[np.bool_] = ~np.isfinite(raw)
        if self.no_data is not None:
            kept |= no_data_pixels(raw, self.no_data)
        return kept if self.saturation is None else kept | (raw >= self.saturation)


def measure_ranges(planes: Planes, convention: IntensityConvention) -> list[IntensityRange]:
    """Measure the intensity range of every plane; planes of one group share the object.

    It reads at most 64 regions of 192 x 192 pixels per group, or 4 where the groups are many. Their
    positions depend on the shape of the image alone. Part of an image has the ranges of the whole.
    """
    numbers, planes = planes.numbers, planes.whole
    groups: dict[int, list[int]] = {}
    for plane in range(len(planes)):
        groups.setdefault(planes.group(plane, convention.scope), []).append(plane)
    count = min(_REGIONS, max(_REGIONS_AT_LEAST, _REGIONS_OF_ALL_GROUPS // len(groups)))
    ranges: dict[int, IntensityRange] = {}
    wanted = set(numbers)
    for members in groups.values():
        if wanted.isdisjoint(members):
            continue
        sample = planes.read_all(sample_regions(members, planes.shape, count))
        ranges.update(dict.fromkeys(members, _measure(sample, convention, planes.meaning)))
    return [ranges[plane] for plane in numbers]


def _measure(
    sample: list[NDArray[Any]], convention: IntensityConvention, meaning: SampleMeaning
) -> IntensityRange:
    """Range of a group of planes from ``(C, h, w)`` regions."""
    dtype = sample[0].dtype
    known = [np.isfinite(region) for region in sample]
    if meaning.no_data is not None:
        for region, measured in zip(sample, known, strict=True):
            measured &= ~no_data_pixels(region, meaning.no_data)
    pixels = np.concatenate([r[k] for r, k in zip(sample, known, strict=True)])
    floor, ceiling, saturation = _limits(pixels, meaning.bits)
    if dtype.kind in "ui" and dtype.itemsize <= 2 and meaning.no_data is None:
        # integers give the same range in half the time; they have room for signs and differences
        wider = np.dtype(f"i{2 * dtype.itemsize}")
        regions: list[NDArray[Any]] = [region.astype(wider) for region in sample]
    else:
        regions = [np.where(k, r, np.nan).astype(float) for r, k in zip(sample, known, strict=True)]
    with np.errstate(over="ignore", invalid="ignore"):  # intensities near the end of float64
        noise = _noise(regions)
        high = _upper_end(regions, convention.high, noise)
        low = 0.0 - _upper_end([-region for region in regions], 100 - convention.low, noise)
    # A range that the arithmetic of `to_unit` and `apply` cannot hold counts as flat, too.
    working = np.finfo(_working_type(dtype))
    if not working.tiny <= high - low <= working.max:
        low = high = low if np.isfinite(low) else 0.0
    return IntensityRange(low, high, floor, ceiling, saturation, no_data=meaning.no_data)


def no_data_pixels(raw: NDArray[Any], value: float) -> NDArray[np.bool_]:
    """Mark the pixels that have the value for no data, as far as their data type can hold it."""
    if raw.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.asarray(raw == raw.dtype.type(value))
    ends = np.iinfo(raw.dtype)
    if not np.isfinite(value) or value != int(value) or not ends.min <= value <= ends.max:
        return np.zeros(raw.shape, bool)
    return np.asarray(raw == raw.dtype.type(int(value)))


def _limits(pixels: NDArray[Any], bits: int | None) -> tuple[float, float, int | None]:
    """Floor, ceiling and saturation of an image, from pixels that are measurements."""
    dtype = pixels.dtype
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        floor = float(limits.min) if pixels.size == 0 or pixels.min() < 0 else 0.0
        within_unit = floor == 0 and pixels.max() <= 1
        return floor, 1.0 if within_unit else float(limits.max), None
    ends = np.iinfo(dtype)
    if bits is not None:
        return float(ends.min), float(2**bits - 1), 2**bits - 1
    saturation, brightest = int(ends.max), int(pixels.max(initial=ends.min))
    sensor_full = dtype.itemsize == 2 and brightest in [2**bits - 1 for bits in _SENSOR_BITS]
    if sensor_full and np.mean(pixels == brightest) >= _SATURATED_SHARE:
        saturation = brightest
    return float(ends.min), float(ends.max), saturation


def _upper_end(regions: list[NDArray[Any]], percentile: float, noise: float) -> float:
    """Upper end of the range by the rules above; NaN where nothing is finite."""
    pixels, structure = [], []
    for surroundings in _neighbourhoods(map(_despeckle, regions)):
        if surroundings.dtype.kind == "i" or np.isfinite(surroundings).all():  # all at once
            squares = [surroundings]
        else:
            finite = (square[np.isfinite(square)] for square in surroundings)
            squares = [square[np.newaxis] for square in finite if square.size]
        for square in squares:
            limits = np.median(square, axis=1, keepdims=True) + _STRUCTURE_SIGMAS * noise
            pixels.append(square.ravel())
            structure.append(square[square > limits])
    if not pixels:
        return float("nan")
    end = _percentile(np.concatenate(pixels), percentile)
    standing_out = np.concatenate(structure)
    if standing_out.size:
        end = max(end, _percentile(standing_out, _STRUCTURE_PERCENTILE))
    return end


def _percentile(values: NDArray[Any], percentile: float) -> float:
    """Return ``np.percentile(values, percentile)``; in integers that is found faster."""
    if values.dtype.kind == "f":
        return float(np.percentile(values, percentile))
    place = (len(values) - 1) * (percentile / 100)
    below = int(place)
    pair = [below, min(below + 1, len(values) - 1)]
    neighbours = np.partition(values, pair)[pair].astype(float)
    return float(np.quantile(neighbours, place - below))


def _neighbourhoods(
    regions: Iterable[NDArray[Any]],
) -> Iterator[NDArray[Any]]:
    """Cut ``(C, h, w)`` regions into squares of one channel, small enough to be evenly lit.

    Yields the squares of one size and region as rows, ``(n, pixels)``.
    """
    for region in regions:
        channels, rows, columns = region.shape
        height = min(_SURROUNDINGS, rows)
        width = _SURROUNDINGS**2 // height
        for y, h in _cuts(rows, height):
            for x, w in _cuts(columns, width):
                part = region[:, y, x].reshape(channels, -1, h, (x.stop - x.start) // w, w)
                yield part.swapaxes(2, 3).reshape(-1, h * w)


def _cuts(length: int, side: int) -> list[tuple[slice, int]]:
    """Cut an axis into the part that holds whole sides, and the rest, each with its side."""
    whole = length - length % side
    parts = [(slice(0, whole), side), (slice(whole, length), length - whole)]
    return [(part, side) for part, side in parts if side and part.stop > part.start]


def _despeckle(region: NDArray[Any]) -> NDArray[Any]:
    """Limit every pixel of a ``(C, h, w)`` region to the brightest of its eight neighbours."""
    from scipy.ndimage import maximum_filter

    neighbours = np.ones((1, 3, 3), bool)
    neighbours[0, 1, 1] = False
    known = region
    if region.dtype.kind == "f":
        known = np.where(np.isnan(region), -np.inf, region)
    brightest: NDArray[Any] = maximum_filter(known, footprint=neighbours, mode="mirror")
    limited: NDArray[Any] = np.minimum(known, brightest)
    return limited


def _noise(regions: list[NDArray[Any]]) -> float:
    """Estimate the standard deviation of the noise from the differences of neighbours.

    It takes the mean of the smallest 99 %. The rest are edges and hot pixels, and a median would be
    zero in images of few photons.
    """
    axis = 2 if regions[0].shape[2] > 1 else 1
    differences = np.abs(np.concatenate([np.diff(r, axis=axis).ravel() for r in regions]))
    if differences.dtype.kind == "f":
        differences = differences[np.isfinite(differences)]
    if not differences.size:
        return 0.0
    smallest = differences[differences <= _percentile(differences, 99)]
    return float(smallest.mean() * np.sqrt(np.pi) / 2)


def _add(raw: NDArray[Any], step: NDArray[Any]) -> NDArray[Any]:
    """Add whole steps to integers, exactly (floats lose digits) and within their dtype."""
    ends, unsigned = np.iinfo(raw.dtype), np.dtype(f"u{raw.dtype.itemsize}")
    # Modular arithmetic: distances are right although signed pixels and ends wrap around.
    origin = raw.astype(unsigned)
    room_up = np.array(ends.max).astype(unsigned) - origin
    room_down = origin - np.array(ends.min).astype(unsigned)
    largest = np.nextafter(step.dtype.type(2.0 ** (8 * unsigned.itemsize)), step.dtype.type(0))
    distance = np.minimum(np.abs(step), np.floor(largest)).astype(unsigned)
    up = origin + np.minimum(distance, room_up)
    down = origin - np.minimum(distance, room_down)
    added: NDArray[Any] = np.where(step > 0, up, down).astype(raw.dtype)
    return added


def _fill_nonfinite(region: NDArray[Any], fallback: float) -> NDArray[Any]:
    """Replace non-finite pixels of a ``(C, h, w)`` region by the nearest finite of the channel."""
    finite = np.isfinite(region)
    if finite.all():
        return region
    from scipy.ndimage import distance_transform_edt

    filled = np.full_like(region, fallback)
    for target, channel, known in zip(filled, region, finite, strict=True):
        if known.any():
            nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
            target[:] = channel[tuple(nearest)]
    return filled


def _working_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Float type that holds every intensity of `dtype` and a change of it."""
    wide = dtype.itemsize == 8 or (dtype.itemsize == 4 and dtype.kind != "f")
    return np.dtype(np.float64 if wide else np.float32)
