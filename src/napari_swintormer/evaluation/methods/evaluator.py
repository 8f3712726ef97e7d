"""Models on the images of a scene, through the tile engine as any other image."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.imaging.intensity import IntensityRange, measure_ranges
from napari_swintormer.runs.job import prepare

if TYPE_CHECKING:
    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.models.restorer import Restorer
    from napari_swintormer.runs.job import Job
    from napari_swintormer.settings.deblur_settings import DeblurSettings

_IN_MEMORY = 2**26  # bytes; larger results lie on disk
_FULL = IntensityRange(0.0, 1.0, -np.inf, np.inf)


def restore(
    pictures: PairImages, settings: DeblurSettings, restorer: Restorer, ensemble: int
) -> Any | None:
    """Restore the images of a scene.

    Intensities are the model's matter: one that wants the whole range (0th to 100th percentile)
    gets the full scale that the protocol divides by, as in the published scripts; one that wants
    percentiles measures them, which is part of it.

    Parameters
    ----------
    pictures
        Of the scene.
    settings
        Tiles, prior, device; None as the model says.
    restorer
        Of the model.
    ensemble
        1, or 8 for the mean over all flips and quarter turns of the image; of a single view.

    Returns
    -------
    array-like or None
        Shape and data type of the blurred image, on disk if that is large; None where the network
        wants views that the scene does not have.
    """
    if ensemble == 1:
        job = plan(pictures, settings, restorer)
        return None if job is None else _run(job, pictures)
    image = np.asarray(pictures.blurred)
    total = np.zeros(image.shape, np.float64)
    for quarter in range(4):
        for flipped in (False, True):
            turned = replace(pictures, blurred=_turned(image, quarter, flipped), views=None)
            job = plan(turned, settings, restorer)
            if job is None:
                return None
            total += _turned_back(_run(job, turned), quarter, flipped)
    mean = total / 8
    return (np.rint(mean) if image.dtype.kind in "iu" else mean).astype(image.dtype)


def plan(pictures: PairImages, settings: DeblurSettings, restorer: Restorer) -> Job | None:
    """Plan what `restore` does; None where the network wants views that the scene does not have."""
    settings = replace(settings, axes=pictures.axes)
    second = restorer.card.second_view
    if second is None:
        return prepare(pictures.blurred, settings, restorer)
    if pictures.views is None:
        return None
    left, right = pictures.views
    views = (left, right) if second == "right" else (right, left)
    return prepare(views[0], settings, restorer, views[1])


def _run(job: Job, pictures: PairImages) -> Any:
    strength = job.settings.strength
    full_scale = pictures.protocol.full_scale is not None
    if full_scale and job.convention.whole:
        ranges = [replace(_FULL, strength=strength)] * len(job.planes)
    elif full_scale:  # cutting to [0, 1] is the protocol's matter
        measured = measure_ranges(job.planes, job.convention)
        ranges = [replace(r, floor=-np.inf, ceiling=np.inf, strength=strength) for r in measured]
    else:
        ranges = job.ranges
    out = _room(job)
    for _ in job.run(out, ranges=ranges):
        pass
    return out


def _room(job: Job) -> Any:
    """Make room for a result, in memory or in a folder that goes with it."""
    shape, dtype = job.planes.data.shape, job.planes.dtype
    if prod(shape) * dtype.itemsize <= _IN_MEMORY:
        return np.empty(shape, dtype)
    import zarr

    folder = tempfile.mkdtemp(prefix="swintormer-")
    sides = {"Y": job.plan.grid.block_size, "X": job.plan.grid.block_size}
    axes = zip(job.planes.axes, shape, strict=True)
    chunks = tuple(min(n, sides.get(axis, n)) for axis, n in axes)
    # not mapped into memory: what is mapped at once counts as memory
    out = zarr.create_array(folder, shape=shape, dtype=dtype, chunks=chunks, compressors=None)
    weakref.finalize(out, shutil.rmtree, folder, ignore_errors=True)
    return out


def _turned(pixels: Any, quarter: int, flipped: bool) -> Any:
    turned = np.rot90(pixels, quarter)
    return turned[:, ::-1] if flipped else turned


def _turned_back(pixels: Any, quarter: int, flipped: bool) -> Any:
    return np.rot90(pixels[:, ::-1] if flipped else pixels, -quarter)
