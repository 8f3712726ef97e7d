"""A cache of decoded training images, so that a patch seldom opens a file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_swintormer.imaging.intensity import measure_ranges
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.training.data.sources import open_planes, open_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.imaging.intensity import IntensityConvention, IntensityRange
    from napari_swintormer.training.data.pairs import Region
    from napari_swintormer.training.data.sources import Source

_CACHE_BYTES = 512 * 2**20
_HALF_SAMPLE = 256  # half the side of the sample that tells a dark background, in pixels
_DARK = 0.35
_REACH = 8  # pixels around a region that interpolation reads


class ImageCache:
    """Keeps decoded images and their intensity ranges; several threads may use it.

    All kept images take at most `limit` bytes. One that would take more than an eighth of this is
    read region by region.
    """

    def __init__(
        self, channels: int, convention: IntensityConvention, limit: int = _CACHE_BYTES
    ) -> None:
        self._channels = channels
        self._convention = convention
        self._limit = limit
        self._bytes = 0
        self._ranges: dict[Source, list[IntensityRange]] = {}
        self._images: OrderedDict[Source, tuple[NDArray[Any], str]] = OrderedDict()
        self._dark: dict[tuple[Source, int], bool] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, object]:
        """Leave images and lock behind: another process reads images itself."""
        return self.__dict__ | {"_images": OrderedDict(), "_bytes": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take what `__getstate__` returned."""
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def range_of(self, source: Source, plane: int) -> IntensityRange:
        """Return the intensity range of a plane, which is measured once."""
        ranges = self._ranges.get(source)
        if ranges is None:
            with open_planes(source, self._channels) as planes:
                ranges = self._ranges[source] = measure_ranges(planes, self._convention)
        return ranges[plane]

    def is_dark(self, source: Source, plane: int, bounds: Region) -> bool:
        """Whether the median in the middle of a region is dark, as in fluorescence."""
        known = self._dark.get((source, plane))
        if known is None:
            y, x = (
                slice(max(a, (a + b) // 2 - _HALF_SAMPLE), (a + b) // 2 + _HALF_SAMPLE)
                for a, b in bounds
            )
            middle = self.range_of(source, plane).to_unit(self.read(source, plane, y, x))
            known = self._dark[source, plane] = bool(np.median(middle) < _DARK)
        return known

    def read(
        self, source: Source, plane: int, y: slice, x: slice, channels: int | None = None
    ) -> NDArray[Any]:
        """Read a region ``(C, h, w)`` of a plane; None takes the channels of the network."""
        with self._lock:
            kept = self._images.get(source)
            if kept is not None:
                self._images.move_to_end(source)
        if kept is not None:
            return Planes(*kept, channels or self._channels).read(plane, y, x)
        with open_source(source) as (lazy, axes, _):
            size = int(np.prod(lazy.shape)) * np.dtype(lazy.dtype).itemsize
            keep = size <= self._limit // 8
            data = np.asarray(lazy[:]) if keep else lazy
            region = Planes(data, axes, channels or self._channels).read(plane, y, x)
        if keep:
            self._keep(source, data, axes)
        return region

    def read_shifted(
        self,
        source: Source,
        plane: int,
        region: tuple[slice, slice],
        shift: tuple[float, float],
        shape: tuple[int, int],
    ) -> NDArray[Any]:
        """Read a region ``(C, h, w)`` of an image that is moved back by `shift` pixels.

        Fractions of a pixel are interpolated by cubic splines; whole pixels are read as they are.
        `shape` is that of the plane; the moved region lies inside it.
        """
        whole = np.rint(shift).astype(int)
        rest = np.asarray(shift) - whole
        y, x = (_moved(side, int(d)) for side, d in zip(region, whole, strict=True))
        if not rest.any():
            return self.read(source, plane, y, x)
        wide_y, wide_x = (
            slice(max(0, side.start - _REACH), min(n, side.stop + _REACH))
            for side, n in zip((y, x), shape, strict=True)
        )
        pixels = self.read(source, plane, wide_y, wide_x).astype(np.float32)
        pixels = ndimage.shift(pixels, (0, *-rest), order=3, mode="mirror")
        return np.asarray(pixels[:, _moved(y, -wide_y.start), _moved(x, -wide_x.start)])

    def _keep(self, source: Source, data: NDArray[Any], axes: str) -> None:
        with self._lock:
            if source not in self._images:
                self._images[source] = (data, axes)
                self._bytes += data.nbytes
            while self._bytes > self._limit:
                _, (oldest, _) = self._images.popitem(last=False)
                self._bytes -= oldest.nbytes


def _moved(side: slice, distance: int) -> slice:
    return slice(side.start + distance, side.stop + distance)
