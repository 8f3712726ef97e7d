"""Runs a model on the images of a pair, through the tile engine like any other image."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.intensity import IntensityRange, measure_ranges
from napari_swintormer.runs.blur_job import WHOLE, BlurJob
from napari_swintormer.runs.planning import prepare

if TYPE_CHECKING:
    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.models.restorer import Restorer
    from napari_swintormer.runs.job import Job
    from napari_swintormer.settings.deblur_settings import DeblurSettings

_IN_MEMORY = 2**26  # bytes; larger results lie on disk
_FULL = IntensityRange(0.0, 1.0, -np.inf, np.inf)


def restore(
    pair: PairImages, settings: DeblurSettings, restorer: Restorer, ensemble: int
) -> Any | None:
    """Restore the blurred image of a pair with a model.

    The result has the shape and data type of the blurred image, and lies on disk if it is large. It
    is None if the network needs two views and the pair has only one. An `ensemble` of 8 averages
    all flips and quarter turns of a single view; 1 does not.

    A model that wants the whole intensity range (0th to 100th percentile) gets the full scale that
    the protocol divides by, as in the published scripts. A model that wants other percentiles
    measures them, because that is part of the model.
    """
    if ensemble == 1:
        job = plan(pair, settings, restorer)
        return None if job is None else run_planned(job, pair)
    image = np.asarray(pair.blurred)
    total = np.zeros(image.shape, np.float64)
    plane = pair.axes.index("Y"), pair.axes.index("X")
    for quarter in range(4):
        for flipped in (False, True):
            turned = np.rot90(image, quarter, plane)
            turned = np.flip(turned, plane[1]) if flipped else turned
            turned_pair = replace(pair, blurred=turned, views=None)
            job = plan(turned_pair, settings, restorer)
            if job is None:
                return None
            restored = run_planned(job, turned_pair)
            restored = np.flip(restored, plane[1]) if flipped else restored
            total += np.rot90(restored, -quarter, plane)
    mean = total / 8
    return (np.rint(mean) if image.dtype.kind in "iu" else mean).astype(image.dtype)


def plan(pair: PairImages, settings: DeblurSettings, restorer: Restorer) -> Job | None:
    """Plan what `restore` does; None if the network needs two views and the pair has only one."""
    settings = replace(settings, axes=pair.axes, depth="planes")
    second = restorer.card.second_view
    if second is None:
        return as_photo(prepare(pair.blurred, settings, restorer), pair)
    if pair.views is None:
        return None
    left, right = pair.views
    views = (left, right) if second == "right" else (right, left)
    return prepare(views[0], settings, restorer, views[1])


def as_photo(job: Job, pair: PairImages) -> Job:
    """Tell a job that the pair is a photo: the floats of a protocol do not look like one."""
    if isinstance(job, BlurJob) and pair.gamma != 1:
        return replace(job, told_photo=True, convention=WHOLE)
    return job


def run_planned(job: Job, pair: PairImages) -> Any:
    """Run a planned job on the blurred image of a pair; the result may lie on disk."""
    strength = job.settings.strength
    if pair.protocol.full_scale is None:
        ranges = job.ranges
    elif job.convention.whole:
        ranges = [replace(_FULL, strength=strength)] * len(job.planes)
    else:  # the protocol decides on clipping to [0, 1]
        measured = measure_ranges(job.planes, job.convention)
        ranges = [replace(r, floor=-np.inf, ceiling=np.inf, strength=strength) for r in measured]
    out = _allocate(job)
    for _ in replace(job, given_ranges=ranges).run(out):
        pass
    return out


def _allocate(job: Job) -> Any:
    """Make an array for the result, in memory or in a folder that is deleted with the array."""
    shape, dtype = job.planes.data.shape, job.planes.dtype
    if prod(shape) * dtype.itemsize <= _IN_MEMORY:
        return np.empty(shape, dtype)
    import zarr

    folder = tempfile.mkdtemp(prefix="swintormer-")
    sides = {"Y": job.plan.grid.block_size, "X": job.plan.grid.block_size}
    axes = zip(job.planes.axes, shape, strict=True)
    chunks = tuple(min(n, sides.get(axis, n)) for axis, n in axes)
    # a memory map would count as memory of this process
    out = zarr.create_array(folder, shape=shape, dtype=dtype, chunks=chunks, compressors=None)
    weakref.finalize(out, shutil.rmtree, folder, ignore_errors=True)
    return out
