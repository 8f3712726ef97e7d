"""An image seen as numbered planes, the unit of tiles, intensity ranges and results."""

from __future__ import annotations

from math import prod
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import ImageError
from napari_swintormer.imaging.axes import resolve_axes
from napari_swintormer.imaging.carried import SampleMeaning
from napari_swintormer.imaging.spans import cut_planes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.imaging.spans import Spans

Scope = Literal["image", "channel", "plane"]


_PLAIN = SampleMeaning()


class Planes:
    """An image of any axes, read and written as ``(C, Y, X)`` planes.

    For a model of three channels, red, green and blue form one plane of C = 3. For a model of one
    channel, each is a plane of C = 1. Every index of T, C and Z is a plane of its own: channels
    of a microscope show different things and are never mixed. An alpha sample (the last of two or
    four) belongs to no plane; `write` copies it.

    Pixels are read by the methods, and only the region asked for. Threads may read and write at the
    same time: the image is asked for one region at a time.

    Parameters
    ----------
    data, axes
        Array-like with `shape`, `dtype` and slicing: numpy, dask, zarr, memory map; and one letter
        of ``TCZYXS`` per dimension, in any order.
    channels
        Channels of the model, 1 or 3.
    second_view
        Another image of the same scene, of the same shape and data type: the other view of a
        dual-pixel camera. None for a single view.
    meaning
        What the numbers mean; it becomes an attribute.

    Attributes
    ----------
    shape, channels
        ``(Y, X)`` of a plane in pixels, and its C: 3 for colour on a model of three channels, or 1.
    planes_per_position
        Planes that share an index of T, C and Z: 3 for colours on a model of one channel, else 1.
    dtype
        Data type of the image, in the byte order of this machine.
    second
        The planes of the second view, or None.
    whole, numbers
        The planes of the whole image, and the number of each plane among them, for a `part`.
    """

    def __init__(
        self,
        data: Any,
        axes: str,
        channels: int,
        second_view: Any = None,
        meaning: SampleMeaning = _PLAIN,
    ) -> None:
        if channels not in (1, 3):
            raise ImageError(f"A model has 1 or 3 channels (got {channels}).")
        self.axes = resolve_axes(data.shape, data.dtype, axes)
        self.whole: Planes = self
        self.meaning = meaning
        # by its string: numpy has two types of eight bytes, and zarr knows one of them
        self.dtype = np.dtype(np.dtype(data.dtype).newbyteorder("=").str)
        self.data = data
        self._reading = Lock()  # not every array-like can be read by two threads at once
        size: dict[str, int] = dict(zip(self.axes, data.shape, strict=True))
        self.shape: tuple[int, int] = (size["Y"], size["X"])
        samples = size.get("S", 1)
        colours = 3 if samples >= 3 else 1
        self._alpha = samples - 1 if samples in (2, 4) else None
        self.model_channels = channels
        self.channels = 3 if colours == channels == 3 else 1
        self.planes_per_position = colours // self.channels
        self._stack_axes = [a for a in self.axes if a in "TCZ"]
        self._stack_shape: list[int] = [size[a] for a in self._stack_axes]
        # The dimensions that a region keeps, S among them, move to (S, Y, X).
        kept = [a for a in self.axes if a in "SYX"]
        self._to_plane = [kept.index(a) for a in ("S", "Y", "X") if a in kept]
        self.numbers: Sequence[int] = range(len(self))
        self.second: Planes | None = None
        if second_view is not None:
            _check_alike(data, second_view)
            self.second = Planes(second_view, axes, channels, meaning=meaning)

    def part(self, spans: Spans) -> Planes:
        """View some planes of the image as an image."""
        data = cut_planes(self.data, self.axes, spans)
        part = Planes(data, self.axes, self.model_channels, meaning=self.meaning)
        part.whole = self
        part.second = None if self.second is None else self.second.part(spans)
        part.numbers = [
            number
            for number in range(len(self))
            if all(start <= self.position(number)[a] < stop for a, (start, stop) in spans.items())
        ]
        return part

    @property
    def n_views(self) -> int:
        """Views of the scene: 1, or 2 with a second view."""
        return 1 if self.second is None else 2

    def __len__(self) -> int:
        return prod(self._stack_shape) * self.planes_per_position

    def read(self, plane: int, y: slice, x: slice) -> NDArray[Any]:
        """Read a region of a plane: ``(C, h, w)`` in `dtype`; may share memory with the image."""
        return self._read(self._index(plane, y, x))

    def read_views(self, plane: int, y: slice, x: slice) -> NDArray[Any]:
        """Read a region of all views, one after the other: ``(n_views * C, h, w)`` in `dtype`."""
        first = self.read(plane, y, x)
        if self.second is None:
            return first
        return np.concatenate([first, self.second.read(plane, y, x)])

    def read_all(self, regions: Iterable[tuple[int, slice, slice]]) -> list[NDArray[Any]]:
        """Read several regions ``(plane, y, x)`` as `read` does; of a dask array all at once."""
        parts = [self.data[self._index(*region)] for region in regions]
        if hasattr(self.data, "dask"):
            from dask.base import compute

            parts = compute(*parts)  # what regions have in common is computed once
        return [self._from_image(np.asarray(part)) for part in parts]

    def write(self, out: Any, plane: int, y: slice, x: slice, block: NDArray[Any]) -> None:
        """Write a region of a plane, and copy the alpha sample of its pixels.

        Premultiplied colours end at alpha, unless they were larger before.

        `out` is an array-like of the image's shape and axes; `block` is ``(C, h, w)``.
        """
        first = plane % self.planes_per_position
        stop = first + self.channels
        if self._alpha is not None and self.meaning.premultiplied:
            alpha = self._read(self._index(plane, y, x, slice(self._alpha, self._alpha + 1)))
            block = np.minimum(block, np.maximum(alpha, self.read(plane, y, x)))
        if self._alpha is not None and first == 0:
            sample = slice(self._alpha, self._alpha + 1)
            values = self._read(self._index(plane, y, x, sample))
            if self._alpha == stop:  # one write instead of two into the same chunk
                block, stop = np.concatenate([block, values]), stop + 1
            else:
                out[self._index(plane, y, x, sample)] = self._from_plane(values)
        out[self._index(plane, y, x, slice(first, stop))] = self._from_plane(block)

    def write_beside(self, out: Any, plane: int, y: slice, x: slice, block: NDArray[Any]) -> None:
        """Write a region into an array beside the image, of any data type, without alpha."""
        out[self._index(plane, y, x)] = self._from_plane(block)

    def numbers_at(self, position: Mapping[str, int]) -> range:
        """Give the numbers of the planes at an index of T, C and Z; three for grey models."""
        indices = tuple(position[axis] for axis in self._stack_axes)
        first = int(np.ravel_multi_index(indices, self._stack_shape)) if indices else 0
        first *= self.planes_per_position
        return range(first, first + self.planes_per_position)

    def position(self, plane: int) -> dict[str, int]:
        """Give the index of a plane along each of T, C and Z that the image has."""
        if not 0 <= plane < len(self):
            raise IndexError(f"plane {plane} of {len(self)}")
        indices = np.unravel_index(plane // self.planes_per_position, self._stack_shape or [1])
        return {axis: int(i) for axis, i in zip(self._stack_axes, indices, strict=False)}

    def cut(self, position: Mapping[str, int], y: slice, x: slice) -> NDArray[Any]:
        """Read a region with all its samples, in the image's own order of axes.

        `position` is the index along each of T, C and Z; these dimensions stay, with the size 1.
        """
        index = {"Y": y, "X": x, "S": slice(None)}
        index |= {axis: slice(i, i + 1) for axis, i in position.items()}
        part = np.asarray(self.data[tuple(index[axis] for axis in self.axes)])
        return part.astype(self.dtype, copy=False)

    def group(self, plane: int, scope: Scope) -> int:
        """Give the number of the group of planes that share an intensity range.

        The groups are ``"image"``: all planes; ``"channel"``: all planes of one index of C;
        ``"plane"``: the plane alone. The colours of one pixel are always in one group, so that
        their ratios are kept.
        """
        if scope == "plane":
            return plane // self.planes_per_position
        return self.position(plane).get("C", 0) if scope == "channel" else 0

    def _index(
        self, plane: int, y: slice, x: slice, samples: slice | None = None
    ) -> tuple[int | slice, ...]:
        """Index of a region in the image; by default of the samples that the plane consists of."""
        if samples is None:
            first = plane % self.planes_per_position
            samples = slice(first, first + self.channels)
        index: dict[str, int | slice] = {"Y": y, "X": x, "S": samples, **self.position(plane)}
        return tuple(index[a] for a in self.axes)

    def _read(self, index: tuple[int | slice, ...]) -> NDArray[Any]:
        with self._reading:
            region = np.asarray(self.data[index])
        return self._from_image(region)

    def _from_image(self, region: NDArray[Any]) -> NDArray[Any]:
        """Turn a region in the image's own order of axes into ``(C, h, w)``."""
        region = region.astype(self.dtype, copy=False).transpose(self._to_plane)
        return region if "S" in self.axes else region[np.newaxis]

    def _from_plane(self, block: NDArray[Any]) -> NDArray[Any]:
        """Turn ``(C, h, w)`` into the image's own order of axes."""
        if "S" not in self.axes:
            block = block[0]
        return block.transpose(np.argsort(self._to_plane))


def _check_alike(first: Any, second: Any) -> None:
    """Refuse two views of different shape or data type."""
    kinds = [
        (tuple(view.shape), np.dtype(view.dtype).newbyteorder("=")) for view in (first, second)
    ]
    if kinds[0] != kinds[1]:
        (shape, dtype), (other_shape, other_dtype) = kinds
        raise ImageError(
            f"Both views of a scene must have the same shape and data type (got {shape} {dtype} "
            f"and {other_shape} {other_dtype}). Give the two images of one exposure."
        )
