"""The stack engine: every stack of Z planes is restored as one volume, by Richardson-Lucy.

All iterations see the whole volume. A volume that fits into memory is one region. A larger one is
worked on region by region over Y and X within each iteration; the estimates are kept in files
meanwhile. Regions are read with a margin, so the result is that of the undivided volume, up to
rounding. A run that was stopped goes on with the iteration it was in.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import islice, product
from math import ceil, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from napari_swintormer.engine.richardson_lucy import (
    NoiseModel,
    RegionDeconvolver,
    choose_iterations,
    estimate_noise,
    estimates,
    margin,
    start_value,
)
from napari_swintormer.engine.stack_state import StackState
from napari_swintormer.events import ChunkFinished, Clock, Notice
from napari_swintormer.tiling import stack_regions

if TYPE_CHECKING:
    from collections.abc import Collection, Generator, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.engine.protocol import RunJournal
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.tiling.grid import BlockIndex, Region, TileGrid

    Volume = NDArray[np.float32]

_SAMPLE_SIDE = 160  # pixels of the volume that stands for the image
_SAMPLES = (3, 3)  # candidates for it along Y and X
_BACKGROUND_PERCENTILE = 0.5


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
        Factor that keeps the sum of the counts.
    """

    offset: float
    noise: NoiseModel
    iterations: int
    start: float
    flux: float


def stacks_of(planes: Planes) -> list[list[int]]:
    """List the numbers of the planes of every volume along Z: one per T, C and colour."""
    stacks: dict[tuple[int, ...], list[int]] = {}
    for plane in range(len(planes)):
        place = planes.position(plane)
        key = place.get("T", 0), place.get("C", 0), plane % planes.planes_per_position
        stacks.setdefault(key, []).append(plane)
    return [
        sorted(stack, key=lambda plane: planes.position(plane)["Z"]) for stack in stacks.values()
    ]


def channel_of(planes: Planes, plane: int) -> int:
    """Give the index of C of a plane in the whole image; 0 without that axis."""
    return planes.whole.position(planes.numbers[plane]).get("C", 0)


def fit_stack(
    planes: Planes,
    stack: Sequence[int],
    psf: Volume,
    intensity: IntensityRange,
    device: torch.device,
    iterations: int | None = None,
) -> StackFit:
    """Measure offset, noise and the number of iterations on one part of a volume.

    The part is the one with most structure of nine candidates, whose positions depend on the shape
    of the image alone. A number of `iterations` that is given stands.
    """
    candidates = [_read_stack(planes, stack, y, x) for y, x in _sample_windows(planes.shape)]
    known = [_known(candidate, intensity) for candidate in candidates]
    values = np.concatenate([k[np.isfinite(k)] for k in known])
    offset = float(np.percentile(values, _BACKGROUND_PERCENTILE)) if values.size else 0.0
    spread = [float(np.nanstd(k)) if np.isfinite(k).any() else 0.0 for k in known]
    counts = known[int(np.argmax(spread))] - np.float32(offset)
    noise, start = estimate_noise(counts), start_value(counts)
    if not np.any(counts > 0):  # nothing but background, or nothing known
        return StackFit(offset, noise, 1, start, 1.0)
    iterations = iterations or choose_iterations(psf, counts, noise, device)
    (estimate,) = islice(estimates(psf, counts, device), iterations - 1, iterations)
    total = float(estimate[np.isfinite(counts)].sum(dtype=np.float64))
    flux = float(np.nansum(counts, dtype=np.float64)) / total if total > 0 else 1.0
    return StackFit(offset, noise, iterations, start, flux)


def run(
    grid: TileGrid,
    planes: Planes,
    ranges: Sequence[IntensityRange],
    psfs: Mapping[int, Volume],
    device: torch.device,
    out: Any,
    *,
    fits: Mapping[int, StackFit] | None = None,
    journal: RunJournal | None = None,
    scratch: Path | None = None,
) -> Generator[Event, None, None]:
    """Restore all stacks of an image, one after the other.

    Parameters
    ----------
    grid
        Its blocks are the chunks of the result.
    planes
        The image as planes of one channel, with Z among its axes.
    ranges
        One per plane; says which voxels are kept, and the strength.
    psfs
        PSF of every index of C, see `napari_swintormer.optics.stack_psf`.
    device
        Where the work is done.
    out
        Array-like of the image's shape and dtype.
    fits
        What was measured for every index of C; None measures it.
    journal
        Chunks that it has are not made again.
    scratch
        Folder for the estimates of a large volume; a stopped run goes on from there. None takes a
        temporary one.

    Yields
    ------
    Event
        Progress after every iteration of every region, and every finished chunk.
    """
    stacks = stacks_of(planes)
    finished = set() if journal is None else set(journal.finished())
    fits, clock = dict(fits or {}), None
    for number, stack in enumerate(stacks):
        missing = [
            chunk for chunk in grid.blocks() if any((p, *chunk) not in finished for p in stack)
        ]
        if not missing:
            continue
        channel = channel_of(planes, stack[0])
        if channel not in fits:
            fits[channel] = fit_stack(planes, stack, psfs[channel], ranges[stack[0]], device)
        work = _StackWork(planes, stack, ranges[stack[0]], psfs[channel], fits[channel], device)
        clock = clock or Clock(work.n_steps * (len(stacks) - number), "iterations")
        with ExitStack() as opened:
            folder = scratch or Path(opened.enter_context(TemporaryDirectory()))
            state = work.begin(folder / f"stack-{number}")
            for _ in work.iterate(state):
                yield clock.after(1)
            yield from work.write(state, missing, grid, finished, out, journal)
            state.remove()


def preview(
    planes: Planes,
    stack: Sequence[int],
    region: Region,
    intensity: IntensityRange,
    psf: Volume,
    fit: StackFit,
    device: torch.device,
) -> Generator[Event, None, Volume]:
    """Restore a region of a volume with a margin; return its change in counts, ``(Z, h, w)``.

    What lies beyond the margin has no say, so the pixels differ a little from those of `run`.

    Yields
    ------
    Progress
        After every iteration.
    """
    (down, across), (height, width) = (side // 2 for side in psf.shape[1:]), planes.shape
    y0, x0 = max(0, region.y0 - down), max(0, region.x0 - across)
    y1, x1 = min(height, region.y1 + down), min(width, region.x1 + across)
    raw = _read_stack(planes, stack, slice(y0, y1), slice(x0, x1))
    counts = _known(raw, intensity) - np.float32(fit.offset)
    clock, restored = Clock(fit.iterations, "iterations"), counts
    for estimate in islice(estimates(psf, counts, device, fit.start), fit.iterations):
        restored = estimate
        yield clock.after(1)
    change = restored * np.float32(fit.flux) - counts
    inside = slice(region.y0 - y0, region.y1 - y0), slice(region.x0 - x0, region.x1 - x0)
    return np.nan_to_num(change[:, inside[0], inside[1]], nan=0.0)


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
class _StackWork:
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
        depth, height, width = self.object_shape
        if stack_regions.is_whole(self.object_shape, self._psf_shape):
            return [_Span(0, height, 0, width)]
        side = stack_regions.region_side(self._psf_shape, depth)
        rows, columns = ceil(height / side), ceil(width / side)
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
            raw = _read_stack(self.planes, self.stack, slice(y0, y1), slice(x0, x1))
            inside = _Span(y0 + top, y1 + top, x0 + left, x1 + left).within(span)
            counts[inside] = _known(raw, self.intensity) - np.float32(self.fit.offset)
        return counts

    def _counts_on(self, span: _Span) -> torch.Tensor:
        return torch.from_numpy(self.counts(span)).to(self.device)

    @cached_property
    def _measured(self) -> torch.Tensor:
        """The counts on the whole object."""
        return self._counts_on(self.spans[0])

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
        counts = self._measured if len(self.spans) == 1 else self._counts_on(outer)
        steps = self._deconvolver
        inner = span.within(outer)
        weight = self._weight(state, steps, counts, span, inner, step)
        estimate, previous = (
            torch.from_numpy(state.read(name, outer.slices)).to(self.device)
            for name in ("estimate", "previous")
        )
        update = steps.step(counts, estimate, previous, step, weight, (inner[1], inner[2]))
        state.write("following", span.slices, update.cpu().numpy())

    def _weight(
        self,
        state: StackState,
        steps: RegionDeconvolver,
        counts: torch.Tensor,
        span: _Span,
        inner: tuple[slice, slice, slice],
        step: int,
    ) -> torch.Tensor:
        """Give the weights of a region; they are the same in every iteration."""
        if step > 0:
            return torch.from_numpy(state.read("weight", span.slices)).to(self.device)
        weight = steps.weight(torch.isfinite(counts).float())[inner]
        state.write("weight", span.slices, weight.cpu().numpy())
        return weight

    def _outer(self, span: _Span) -> _Span:
        """Put the margin around a region that it is worked on with; all have the same size."""
        (height, width), (_, down, across) = self.object_shape[1:], self.psf.shape
        tall, wide = self._region_shape
        y0 = min(max(0, span.y0 - down + 1), height - tall)
        x0 = min(max(0, span.x0 - across + 1), width - wide)
        return _Span(y0, y0 + tall, x0, x0 + wide)

    @cached_property
    def _region_shape(self) -> tuple[int, int]:
        """Size ``(Y, X)`` of the regions with their margins."""
        (height, width), (_, down, across) = self.object_shape[1:], self.psf.shape
        tall = max(span.y1 - span.y0 for span in self.spans) + 2 * (down - 1)
        wide = max(span.x1 - span.x0 for span in self.spans) + 2 * (across - 1)
        return min(height, tall), min(width, wide)

    @cached_property
    def _deconvolver(self) -> RegionDeconvolver:
        """Makes the iterations on regions of that size."""
        cut = len(self.spans) > 1
        tall, wide = self._region_shape
        return RegionDeconvolver(self.psf, len(self.stack), tall, wide, self.device, cut=cut)

    def write(
        self,
        state: StackState,
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
            restored, ended = self.finish(state, y, x)
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

    def finish(self, state: StackState, y: slice, x: slice) -> tuple[NDArray[Any], int]:
        """Give the result ``(Z, h, w)`` of a region of the image, and how many voxels were cut off.

        Voxels that are saturated or not finite stay as they are. Values beyond the end of the
        image's data type are cut off.
        """
        raw = _read_stack(self.planes, self.stack, y, x)
        top, left = self.margin
        place = (
            slice(0, len(self.stack)),
            slice(y.start + top, y.stop + top),
            slice(x.start + left, x.stop + left),
        )
        wanted = state.read("estimate", place) * np.float32(self.fit.flux) + np.float32(
            self.fit.offset
        )
        change = wanted - _known(raw, self.intensity)
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


def _read_stack(planes: Planes, stack: Sequence[int], y: slice, x: slice) -> NDArray[Any]:
    """Read a region of all planes of a volume, ``(Z, h, w)``."""
    return np.concatenate([planes.read(plane, y, x) for plane in stack])


def _known(raw: NDArray[Any], intensity: IntensityRange) -> Volume:
    """Turn raw values into float32; NaN where they are saturated or not finite."""
    values = raw.astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    if intensity.saturation is not None:
        values[raw >= intensity.saturation] = np.nan
    return values


def _sample_windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Places that may stand for the image, by its shape alone."""

    def starts(length: int, count: int) -> list[int]:
        last = max(0, length - _SAMPLE_SIDE)
        return sorted({round(last * k / (count - 1)) for k in range(count)})

    return [
        (slice(y, y + _SAMPLE_SIDE), slice(x, x + _SAMPLE_SIDE))
        for y, x in product(starts(shape[0], _SAMPLES[0]), starts(shape[1], _SAMPLES[1]))
    ]
