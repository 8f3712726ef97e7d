"""One volume at work: its regions, their iterations, and the chunks of its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from napari_swintormer.engine.richardson_lucy import NoiseModel, RegionDeconvolver, margin
from napari_swintormer.engine.stack_state import StackState
from napari_swintormer.events import ChunkFinished, Notice
from napari_swintormer.tiling import stack_regions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_swintormer.engine.protocol import RunJournal
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.tiling.grid import BlockIndex, TileGrid

    Volume = NDArray[np.float32]


@dataclass(frozen=True)
class StackFit:
    """What is measured once for the volumes of one channel, before any of them is restored.

    Attributes
    ----------
    offset
        Counts of the camera without light.
    noise
        Noise of the counts.
    iterations
        After how many to stop.
    start
        Counts that all voxels of the estimate begin with.
    flux
        Factor that keeps the sum of the counts of that part; a run measures that of the volume.
    """

    offset: float
    noise: NoiseModel
    iterations: int
    start: float
    flux: float


class _Span(NamedTuple):
    """Pixels along Y and X of the object, whose origin lies before that of the image."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        return slice(None), slice(self.y0, self.y1), slice(self.x0, self.x1)

    def within(self, outer: _Span) -> tuple[slice, slice, slice]:
        return (
            slice(None),
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )


@dataclass(frozen=True)
class StackWork:
    """One volume at work."""

    planes: Planes
    stack: Sequence[int]
    intensity: IntensityRange
    psf: Volume
    fit: StackFit
    device: torch.device

    @cached_property
    def margin(self) -> tuple[int, int]:
        """Pixels that the object goes on beyond the image."""
        return margin(self.psf)

    @property
    def _psf_shape(self) -> tuple[int, int, int]:
        depth, height, width = self.psf.shape
        return depth, height, width

    @cached_property
    def object_shape(self) -> tuple[int, int, int]:
        """``(Z, Y, X)`` of the object."""
        psf_shape, shape = self._psf_shape, self.planes.shape
        return stack_regions.object_shape(psf_shape, len(self.stack), shape)

    @cached_property
    def spans(self) -> list[_Span]:
        """The regions of the object, without margins; one if the object fits into memory."""
        _, height, width = self.object_shape
        rows, columns = stack_regions.divide(self.object_shape, self._psf_shape)
        return [
            _Span(
                row * height // rows,
                (row + 1) * height // rows,
                column * width // columns,
                (column + 1) * width // columns,
            )
            for row, column in product(range(rows), range(columns))
        ]

    @property
    def n_steps(self) -> int:
        """Iterations times regions."""
        return self.fit.iterations * len(self.spans)

    def counts(self, span: _Span) -> Volume:
        """Read the counts on a region of the object; NaN where nothing is known."""
        (top, left), (height, width) = self.margin, self.planes.shape
        y0, y1 = max(0, span.y0 - top), min(height, span.y1 - top)
        x0, x1 = max(0, span.x0 - left), min(width, span.x1 - left)
        shape = len(self.stack), span.y1 - span.y0, span.x1 - span.x0
        counts = np.full(shape, np.nan, np.float32)
        if y0 < y1 and x0 < x1:
            raw = read_stack(self.planes, self.stack, slice(y0, y1), slice(x0, x1))
            inside = _Span(y0 + top, y1 + top, x0 + left, x1 + left).within(span)
            counts[inside] = known_counts(raw, self.intensity) - np.float32(self.fit.offset)
        return counts

    @cached_property
    def _measured(self) -> torch.Tensor:
        """The counts of the whole image."""
        (top, left), (height, width) = self.margin, self.planes.shape
        image = _Span(top, top + height, left, left + width)
        return torch.from_numpy(self.counts(image)).to(self.device)

    def begin(self, folder: Path) -> StackState:
        """Open the estimates of an earlier run in `folder`, or begin with even ones."""
        known = {"fit": asdict(self.fit), "shape": self.object_shape, "stack": list(self.stack)}
        return StackState(
            folder, self.object_shape, known, self.fit.start, in_memory=len(self.spans) == 1
        )

    def iterate(self, state: StackState) -> Iterator[None]:
        """Make all iterations; yield after every region of each."""
        for step in range(state.iterations, self.fit.iterations):
            for span in self.spans:
                self._step(state, span, step)
                yield
            state.advance()

    def _step(self, state: StackState, span: _Span, step: int) -> None:
        """Make one iteration on one region."""
        outer = self._outer(span)
        whole = len(self.spans) == 1
        counts = self._measured if whole else torch.from_numpy(self.counts(outer)).to(self.device)
        steps = self._deconvolver
        inner = span.within(outer)
        gain = self._gain(state, steps, counts, span, inner, step)
        estimate, previous = (
            torch.from_numpy(state.read(name, outer.slices)).to(self.device)
            for name in ("estimate", "previous")
        )
        update = steps.step(counts, estimate, previous, step, gain, (inner[1], inner[2]))
        state.write("following", span.slices, update.cpu().numpy())

    def _gain(
        self,
        state: StackState,
        steps: RegionDeconvolver,
        counts: torch.Tensor,
        span: _Span,
        inner: tuple[slice, slice, slice],
        step: int,
    ) -> torch.Tensor:
        """Give the gain of a region; it is the same in every iteration."""
        if step > 0:
            return torch.from_numpy(state.read("gain", span.slices)).to(self.device)
        gain = steps.gain(torch.isfinite(counts).float())[inner]
        state.write("gain", span.slices, gain.cpu().numpy())
        return gain

    def _outer(self, span: _Span) -> _Span:
        """Put the margin around a region that it is worked on with; all have the same size."""
        (height, width), (_, down, across) = self.object_shape[1:], self.psf.shape
        tall, wide = stack_regions.region_shape(self.object_shape, self._psf_shape)
        y0 = min(max(0, span.y0 - down + 1), height - tall)
        x0 = min(max(0, span.x0 - across + 1), width - wide)
        return _Span(y0, y0 + tall, x0, x0 + wide)

    @cached_property
    def _deconvolver(self) -> RegionDeconvolver:
        """Makes the iterations on regions of that size."""
        cut = len(self.spans) > 1
        region = stack_regions.region_shape(self.object_shape, self._psf_shape)
        size = self.object_shape[0], *region
        return RegionDeconvolver(self.psf, len(self.stack), *size, self.device, cut=cut)

    def flux(self, state: StackState) -> float:
        """Give the factor that keeps the sum of the counts, over all known voxels of the volume."""
        before = after = 0.0
        for span in self.spans:
            counts = self.counts(span)
            estimate = state.read("estimate", span.slices)[: len(counts)]
            before += float(np.nansum(counts, dtype=np.float64))
            after += float(estimate[np.isfinite(counts)].sum(dtype=np.float64))
        return before / after if before > 0 and after > 0 else 1.0

    def write(
        self,
        state: StackState,
        flux: float,
        missing: Sequence[BlockIndex],
        grid: TileGrid,
        finished: Collection[tuple[int, int, int]],
        out: Any,
        journal: RunJournal | None,
    ) -> Iterator[Event]:
        """Write and mark the missing chunks of the result; say how many voxels were cut off."""
        cut_off = 0
        for chunk in missing:
            y, x = grid.chunk(chunk).slices
            restored, ended = self.finish(state, flux, y, x)
            cut_off += ended
            for plane, values in zip(self.stack, restored, strict=True):
                if (plane, *chunk) not in finished:
                    self.planes.write(out, plane, y, x, values[np.newaxis])
                    if journal is not None:
                        journal.mark(plane, *chunk)
                    yield ChunkFinished(plane, (y.start, y.stop), (x.start, x.stop))
        if cut_off:
            total = len(self.stack) * prod(self.planes.shape)
            yield Notice(_cut_off_text(cut_off, total, self.planes.dtype))

    def finish(
        self, state: StackState, flux: float, y: slice, x: slice
    ) -> tuple[NDArray[Any], int]:
        """Give the result ``(Z, h, w)`` of a region of the image, and how many voxels were cut off.

        Voxels that are saturated or not finite stay as they are. Values beyond the end of the
        image's data type are cut off.
        """
        raw = read_stack(self.planes, self.stack, y, x)
        top, left = self.margin
        place = (
            slice(0, len(self.stack)),
            slice(y.start + top, y.stop + top),
            slice(x.start + left, x.stop + left),
        )
        wanted = state.read("estimate", place) * np.float32(flux) + np.float32(self.fit.offset)
        change = wanted - known_counts(raw, self.intensity)
        change = np.nan_to_num(change, nan=0.0)
        scale = replace(self.intensity, low=0.0, high=1.0, ceiling=float("inf"))
        cut_off = 0
        if raw.dtype.kind in "iu":
            cut_off = int((wanted > np.iinfo(raw.dtype).max).sum())
        return scale.apply(raw, change), cut_off


def _cut_off_text(voxels: int, total: int, dtype: np.dtype[Any]) -> str:
    """Say that restored voxels are brighter than the data type holds."""
    return (
        f"{voxels} voxels ({100 * voxels / total:.2g} %) of a restored stack are brighter than "
        f"{dtype} holds and were cut off. Convert the image to 16 bits or float32 to keep them."
    )


def read_stack(planes: Planes, stack: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
    """Read a region of all planes of a volume, ``(Z, h, w)``."""
    return np.concatenate([planes.read(plane, y, x) for plane in stack])


def known_counts(raw: NDArray[Any], intensity: IntensityRange) -> Volume:
    """Turn raw values into float32; NaN where they are saturated or not finite."""
    values = raw.astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    if intensity.saturation is not None:
        values[raw >= intensity.saturation] = np.nan
    return values
