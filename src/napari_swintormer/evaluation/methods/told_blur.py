"""The filter for a known blur, told the true PSF, a wrong one, or left to find the blur itself.

``blur-told`` gets the PSF of the pair, which a user may know; ``size`` makes it too wide or too
narrow. ``blur-auto`` measures the image. A kernel that was found is right up to a shift: its result
is moved onto the sharp image before it is scored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.evaluation.data.pair_images import to_dtype
from napari_swintormer.evaluation.methods.evaluator import run_planned
from napari_swintormer.optics.blur import Blur
from napari_swintormer.runs.blur_job import WHOLE, BlurJob
from napari_swintormer.runs.planning import prepare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.settings.deblur_settings import BlurWish, DeblurSettings

OPTIONS: dict[str, dict[str, type]] = {"blur-told": {"size": float}, "blur-auto": {}}
"""Methods, with the options that a user can set and their types."""

_LARGEST_SHIFT = 3.0  # pixels; a larger one is an error of the registration
_PARTS = 20  # of a pixel, in the registration


def restore_told(pair: PairImages, settings: DeblurSettings, size: float = 1.0) -> Any | None:
    """Restore with the PSF of the pair, `size` times as wide; None for a pair without one."""
    if pair.psf is None or np.ndim(pair.psf) != 2 or pair.protocol.volumes:
        return None
    blur = Blur.kernel(pair.psf)
    return _run(pair, settings, blur if size == 1 else blur.scaled(size))[1]


def restore_auto(pair: PairImages, settings: DeblurSettings) -> Any | None:
    """Restore with the blur that is found on the image; None for a stack."""
    if pair.protocol.volumes:
        return None
    job, restored = _run(pair, settings, "auto")
    free = any(found.blur.kind == "kernel" for found in job.found_blurs.values())
    return _aligned(np.asarray(restored), np.asarray(pair.sharp), pair.axes) if free else restored


def _run(pair: PairImages, settings: DeblurSettings, blur: BlurWish) -> tuple[BlurJob, Any]:
    settings = replace(settings, model=None, axes=pair.axes, blur=blur, depth="planes")
    job = prepare(pair.blurred, settings)
    assert isinstance(job, BlurJob)
    if pair.gamma != 1:  # the images of a protocol are floats, which do not look like photos
        job = replace(job, told_photo=True, convention=WHOLE)
    return job, run_planned(job, pair)


def _aligned(image: NDArray[Any], sharp: NDArray[Any], axes: str) -> NDArray[Any]:
    """Move an image onto the sharp one, by a part of a pixel."""
    from scipy.ndimage import shift
    from skimage.registration import phase_cross_correlation

    greys = [x.mean(axis=2) if "S" in axes else x for x in (sharp, image)]
    moved, *_ = phase_cross_correlation(*greys, upsample_factor=_PARTS)
    if not 0 < np.abs(moved).max() <= _LARGEST_SHIFT:
        return image
    by = (*moved, 0) if "S" in axes else moved
    return to_dtype(shift(image.astype(np.float64), by, order=3, mode="nearest"), image.dtype)
