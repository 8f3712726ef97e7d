"""The stack engine: every stack of Z planes is restored as one volume, by Richardson-Lucy.

All iterations see the whole volume. A volume that fits into memory is one region. A larger one is
worked on region by region over Y and X within each iteration; the estimates are kept in files
meanwhile. Regions are read with a margin, so the result is that of the undivided volume, up to
rounding. A run that was stopped goes on with the iteration it was in.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from napari_swintormer.engine.richardson_lucy import (
    choose_iterations,
    estimate_noise,
    estimates,
    start_value,
)
from napari_swintormer.engine.stack_work import StackFit, StackWork, known_counts, read_stack
from napari_swintormer.events import Clock

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import torch
    from numpy.typing import NDArray

    from napari_swintormer.engine.protocol import RunJournal
    from napari_swintormer.events import Event
    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.tiling.grid import Region, TileGrid

    Volume = NDArray[np.float32]

_SAMPLE_SIDE = 160  # pixels of the volume that stands for the image
_SAMPLES = (3, 3)  # candidates for it along Y and X
_BACKGROUND_PERCENTILE = 0.5


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


class StackSample(NamedTuple):
    """The part of a volume that stands for it.

    Attributes
    ----------
    counts
        ``(Z, Y, X)`` without the offset; NaN where nothing is known.
    offset
        Counts of the camera without light.
    """

    counts: Volume
    offset: float


def sample_stack(planes: Planes, stack: Sequence[int], intensity: IntensityRange) -> StackSample:
    """Read the part of a volume with most structure, of nine candidates.

    Their positions depend on the shape of the image alone. Parts of a dask array are computed
    together.
    """
    windows = _sample_windows(planes.shape)
    parts = planes.read_all([(plane, y, x) for y, x in windows for plane in stack])
    known = [
        known_counts(np.concatenate(parts[first : first + len(stack)]), intensity)
        for first in range(0, len(parts), len(stack))
    ]
    values = np.concatenate([k[np.isfinite(k)] for k in known])
    offset = float(np.percentile(values, _BACKGROUND_PERCENTILE)) if values.size else 0.0
    spread = [float(np.nanstd(k)) if np.isfinite(k).any() else 0.0 for k in known]
    return StackSample(known[int(np.argmax(spread))] - np.float32(offset), offset)


def fit_stack(
    sample: StackSample, psf: Volume, device: torch.device, iterations: int | None = None
) -> StackFit:
    """Measure noise and the number of iterations on the sample of a volume.

    A number of `iterations` that is given stands.
    """
    counts, offset = sample
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
            sample = sample_stack(planes, stack, ranges[stack[0]])
            fits[channel] = fit_stack(sample, psfs[channel], device)
        work = StackWork(planes, stack, ranges[stack[0]], psfs[channel], fits[channel], device)
        clock = clock or Clock(work.n_steps * (len(stacks) - number), "iterations")
        with ExitStack() as opened:
            folder = scratch or Path(opened.enter_context(TemporaryDirectory()))
            state = work.begin(folder / f"stack-{number}")
            for _ in work.iterate(state):
                yield clock.after(1)
            flux = work.flux(state)
            yield from work.write(state, flux, missing, grid, finished, out, journal)
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
    raw = read_stack(planes, stack, slice(y0, y1), slice(x0, x1))
    counts = known_counts(raw, intensity) - np.float32(fit.offset)
    clock, restored = Clock(fit.iterations, "iterations"), counts
    for estimate in islice(estimates(psf, counts, device, fit.start), fit.iterations):
        restored = estimate
        yield clock.after(1)
    change = restored * np.float32(fit.flux) - counts
    inside = slice(region.y0 - y0, region.y1 - y0), slice(region.x0 - x0, region.x1 - x0)
    return np.nan_to_num(change[:, inside[0], inside[1]], nan=0.0)


def _sample_windows(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Places that may stand for the image, by its shape alone."""

    def starts(length: int, count: int) -> list[int]:
        last = max(0, length - _SAMPLE_SIDE)
        return sorted({round(last * k / (count - 1)) for k in range(count)})

    return [
        (slice(y, y + _SAMPLE_SIDE), slice(x, x + _SAMPLE_SIDE))
        for y, x in product(starts(shape[0], _SAMPLES[0]), starts(shape[1], _SAMPLES[1]))
    ]
