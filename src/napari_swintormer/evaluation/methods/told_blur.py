"""The filter for a known blur, told the true PSF, a wrong one, or left to find the blur itself.

``blur-told`` gets the PSF of the pair, which a user may know; ``size`` makes it too wide or too
narrow, and ``kind`` makes it a disk or a Gaussian of that size. ``blur-auto`` measures the image,
and is also scored by how near the blur that it finds is to the PSF of the pair. ``wiener-found``
and ``richardson-lucy-found`` are the classical methods with the same found PSF. A kernel that was
found is right up to a shift: its result is moved onto the sharp image before it is scored.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.signal import fftconvolve

from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.data.pair_images import to_dtype
from napari_swintormer.evaluation.methods import classical
from napari_swintormer.evaluation.methods.evaluator import as_photo, run_planned
from napari_swintormer.optics.blur import Blur
from napari_swintormer.runs.blur_job import BlurJob
from napari_swintormer.runs.planning import prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.optics.plane_blur import FoundBlur
    from napari_swintormer.settings.deblur_settings import BlurWish, DeblurSettings

    Restore = Callable[[PairImages], Any]

OPTIONS: dict[str, dict[str, type]] = {
    "blur-told": {"size": float, "kind": str},
    "blur-auto": {},
    "wiener-found": {"balance": float},
    "richardson-lucy-found": {"iterations": int},
}
"""Methods, with the options that a user can set and their types."""

_LARGEST_SHIFT = 3.0  # pixels; a larger one is an error of the registration
_PARTS = 20  # of a pixel, in the registration
_WIDTH = 2**0.5  # radius of a disk, and size of a Gaussian, relative to its standard deviation


class Restored(NamedTuple):
    """A restored image, and scores of what was found on the way, by the names of `FOUND`."""

    image: Any
    scores: dict[str, float]


FOUND = ("size_error", "similarity", "certainty")
"""Scores of a blur that was found: how much too wide it is, as a share of the true size; its
largest normalised cross-correlation with the true PSF; how sure it is. NaN where none was found."""


def method(name: str, settings: DeblurSettings, options: Mapping[str, Any]) -> Restore:
    """Make the method of this name, with some of its `OPTIONS`."""
    if name == "blur-told":
        if (kind := options.get("kind", "disk")) not in ("disk", "gaussian"):
            raise SettingsError(f"kind must be disk or gaussian (got kind={kind!r}).")
        return partial(_restore_told, settings=settings, **options)
    if name == "blur-auto":
        return partial(_restore_auto, settings=settings)
    classic = classical.WITH_PSF[name.replace("found", "psf")]
    return partial(_restore_classically, settings=settings, classic=partial(classic, **options))


def _restore_told(
    pair: PairImages, settings: DeblurSettings, size: float = 1.0, kind: str | None = None
) -> Any | None:
    """Restore with the PSF of the pair, `size` times as wide; None for a pair without one."""
    blur = _true_blur(pair)
    if blur is None:
        return None
    radius = size * blur.radius
    if kind is not None:
        blur = Blur.disk(radius * _WIDTH) if kind == "disk" else Blur.gaussian(radius / _WIDTH)
    elif size != 1:
        blur = blur.scaled(size)
    return run_planned(_plan(pair, settings, blur), pair)


def _restore_auto(pair: PairImages, settings: DeblurSettings) -> Any | None:
    """Restore with the blur that is found on the image; None for a stack."""
    if pair.protocol.volumes:
        return None
    job = _plan(pair, settings, "auto")
    (found,) = job.found_blurs.values()
    restored = _in_place(np.asarray(run_planned(job, pair)), pair, found)
    true = _true_blur(pair)
    return restored if true is None else Restored(restored, _scores(found, true))


def _restore_classically(
    pair: PairImages, settings: DeblurSettings, classic: Callable[..., Any]
) -> Any | None:
    """Restore with a classical method and the found PSF; no change where none is found."""
    if pair.protocol.volumes:
        return None
    (found,) = _plan(pair, settings, "auto").found_blurs.values()
    image = np.asarray(pair.blurred)
    if found.blur.kind == "none":
        return image
    return _in_place(classic(image, pair.axes, found.blur.psf(), gamma=pair.gamma), pair, found)


def _scores(found: FoundBlur, true: Blur) -> dict[str, float]:
    """Compare a found blur with the true one."""
    if found.blur.kind == "none":
        return dict.fromkeys(FOUND, np.nan)
    psfs = [blur.psf() for blur in (found.blur, true)]
    matches = fftconvolve(psfs[0], psfs[1][::-1, ::-1])
    length = np.prod([np.linalg.norm(psf) for psf in psfs])
    values = found.radius / true.radius - 1, matches.max() / length, found.certainty
    return dict(zip(FOUND, map(float, values), strict=True))


def _true_blur(pair: PairImages) -> Blur | None:
    """Give the blur of a pair; None for a stack, and where it changes or is not known."""
    if pair.psf is None or pair.psf.ndim != 2 or pair.protocol.volumes:
        return None
    return Blur.kernel(pair.psf)


def _plan(pair: PairImages, settings: DeblurSettings, blur: BlurWish) -> BlurJob:
    settings = replace(settings, model=None, axes=pair.axes, blur=blur, depth="planes")
    job = as_photo(prepare(pair.blurred, settings), pair)
    assert isinstance(job, BlurJob)
    return job


def _in_place(image: NDArray[Any], pair: PairImages, found: FoundBlur) -> NDArray[Any]:
    """Move what was restored with a free kernel onto the sharp image."""
    if all(blur.kind != "kernel" for _, blur in found.blur.candidates):
        return image
    return _aligned(image, np.asarray(pair.sharp), pair.axes)


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
