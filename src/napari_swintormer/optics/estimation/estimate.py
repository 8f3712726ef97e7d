"""The blur of an image, measured once on a few windows: none, defocus or motion."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation.blur_choice import (
    SpectralFit,
    chances,
    confirmed,
    features,
)
from napari_swintormer.optics.estimation.defocus_posterior import GAMMAS, RADII, measure_defocus
from napari_swintormer.optics.estimation.motion_kernel import motion_trials
from napari_swintormer.optics.estimation.shake_candidates import (
    shake_candidates,
    with_sparse_kernel,
)
from napari_swintormer.optics.inverse_filter import image_power
from napari_swintormer.optics.plane_blur import FoundBlur
from napari_swintormer.optics.plane_power import PowerOfPlane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_swintormer.optics.estimation.blur_choice import Chances
    from napari_swintormer.optics.estimation.defocus_posterior import DefocusPosterior, Field
    from napari_swintormer.optics.estimation.motion_kernel import MotionTrial

_SMALLEST = 48  # pixels, shorter side of a window that can be measured
_UNKNOWN = 0.25  # largest share of pixels without a number
_FLAT = 1e-4  # standard deviation of a window without detail, in unit intensities
_SHARP = 0.5  # probability of no blur above which a defocus is not undone
# Share of the change of an unclear photo: chosen on photos, sharp or blurred a little.
_HALF = 0.5  # where it may be sharp
_FADING = 0.1  # and from this far below the probability of a sharp image it fades to nothing
_SHOWN = 0.5  # certainty below which the sentence says "may"
_ESTIMATED = 0.99  # largest certainty of an estimate; only what is told is certain
_SURELY_SHARP = 0.9  # and above which motion is not even looked for: that takes longest
# A defocus so sure and small is plain: no motion is looked for. None of 282 shaken images of the
# training looks like one, but a wide shake can look like a wide defocus.
_PLAIN, _PLAIN_RADIUS = 0.95, 5.0  # certainty, and pixels
# Chosen by cross-validation on training images, sharp or blurred by either.
# least chance of a motion for which more kernels are estimated: of a blurred image, or a sharp one
_WORTH_A_LOOK = 0.3
_WORTH_IF_SHARP: dict[Field, float] = {"photo": 0.7, "micrograph": 0.6}
# least chance that undoing a blur helps
_MOTION_HELPS: dict[Field, float] = {"photo": 0.7, "micrograph": 0.5}
_MOTION_HELPS_IN_DEPTH = 0.9  # where places differ: a scene in depth is taken for a short motion
_DEFOCUS_HELPS = 0.5
_AHEAD = 0.2  # by which the chance of a motion exceeds that of a defocus
_SURE_DEFOCUS, _FAR_AHEAD = 0.7, 0.3  # and more where the size of a defocus is sure
_AGREE = 0.75  # and then by how much the kernels of a motion agree
# Noise of a micrograph, in units of its range, that hides blur; fine detail counts as noise. Sharp
# training images with so much of it stay at 40 dB to themselves or more when a model restores them
# that finds blur by itself; noisier ones do not.
_HIDING = (0.004, 0.02)
# Chosen on held-out images: a size told right or 20 % wrong hardly ever causes a doubt.
_NEAR = 1.5  # factor between sizes that count as alike
_UNLIKELY = 0.1  # probability of sizes like the told one


def estimate_blur(
    windows: Sequence[NDArray[np.float32]], field: Field, varies: bool | None = None
) -> FoundBlur:
    """Estimate the blur of an image from windows of it, at the places of `sample.sample_windows`.

    Parameters
    ----------
    windows
        Luminance ``(Y, X)`` in unit intensities, as displayed.
    field
        ``"photo"``: intensities follow the curve of a camera. ``"micrograph"``: they are linear.
    varies
        Whether the blur changes from place to place; None compares the windows.

    Returns
    -------
    The estimate. Its certainty is the probability that the size of a defocus is right to 20 %, that
    the kernel of a motion helps, or that there is no blur. Where nothing is recognised its blur is
    `Blur.none()`, and the reason says why.
    """
    measurable = [filled for window in windows if (filled := filled_window(window)) is not None]
    if not measurable:
        return FoundBlur(
            Blur.none(),
            0.0,
            f"No part of the image can be measured: a window needs {_SMALLEST} pixels along both "
            "axes, numbers in most pixels, and detail.",
        )
    posterior, differs = measure_defocus(measurable, field)
    least = _MOTION_HELPS_IN_DEPTH if varies else _MOTION_HELPS[field]
    varies = differs if varies is None else varies
    if posterior.none >= _SURELY_SHARP and not varies:
        return _sharp(posterior, measurable, field)
    helps = None
    plain = posterior.certainty >= _PLAIN and posterior.radius <= _PLAIN_RADIUS
    if not plain and (chosen := _likeliest_motion(measurable, posterior, field)):
        trial, helps = chosen
        sure = posterior.certainty >= _SURE_DEFOCUS
        ahead = _FAR_AHEAD if sure else _AHEAD
        worth = _WORTH_IF_SHARP[field] if posterior.none >= _SHARP else _WORTH_A_LOOK
        if helps.motion > max(worth, helps.defocus + ahead):
            shake = shake_candidates(trial)
            chance = confirmed(helps.motion, shake.agreement, field)
            if chance > least and (not sure or shake.agreement > _AGREE):
                told = Blur.kernel(trial.kernel).sentence(chance)
                blur = with_sparse_kernel(shake.blur, trial)
                return FoundBlur(blur, min(chance, _ESTIMATED), f"The image shows {told}.")
    if varies:
        changes = "The blur changes from place to place."
        return FoundBlur(Blur.none(), 0.0, changes, unclear=True, varies=True)
    share = _share(posterior.none) if field == "photo" else 1.0
    if posterior.none >= _SHARP:
        little = "The image may be blurred a little."
        return FoundBlur(Blur.none(), 0.0, little, unclear=True, share=share)
    if helps is not None and helps.defocus < _DEFOCUS_HELPS:
        return FoundBlur(
            Blur.none(),
            0.0,
            "The image is blurred, but neither a defocus nor a motion is sure enough to undo.",
            unclear=True,
            share=share,
        )
    shows = "shows" if posterior.certainty >= _SHOWN else "may show"
    return FoundBlur(
        posterior.blur(),
        min(posterior.certainty, _ESTIMATED),
        f"The image {shows} defocus blur with a radius of about {posterior.radius:.2g} pixels; "
        f"{100 * posterior.certainty:.0f} % sure.",
    )


def doubt(windows: Sequence[NDArray[np.float32]], told: Blur, field: Field) -> str | None:
    """Say in one sentence that an image shows another size than a told defocus.

    It takes the windows of `estimate_blur`. None: the size is likely, or cannot be judged.
    """
    radius = math.sqrt(2) * told.radius
    measurable = [filled for window in windows if (filled := filled_window(window)) is not None]
    if radius < RADII[1] or not measurable:
        return None
    posterior, varies = measure_defocus(measurable, field)
    near = np.abs(np.log(RADII / radius)) < math.log(_NEAR)
    if varies or posterior.shares[:, near].sum() >= _UNLIKELY:
        return None
    shown = f"about {posterior.radius:.2g} pixels would fit this image better"
    if posterior.none >= _SHARP:
        shown = "this image looks sharp"
    return f"The told blur has a radius of about {radius:.2g} pixels, but {shown}."


def _sharp(
    posterior: DefocusPosterior, windows: Sequence[NDArray[np.float32]], field: Field
) -> FoundBlur:
    low, high = _HIDING
    if field == "micrograph" and low <= image_power(windows).noise <= high:
        hidden = "The image looks sharp, but noise or fine detail may hide blur."
        return FoundBlur(Blur.none(), 0.0, hidden, unclear=True)
    return FoundBlur(Blur.none(), min(posterior.none, _ESTIMATED), "The image looks sharp.")


def _share(none: float) -> float:
    """Give the share of the change of an unclear image that is sharp with a probability."""
    return max(1 - none, _HALF) * min(1.0, (_SURELY_SHARP - none) / _FADING)


def _likeliest_motion(
    windows: Sequence[NDArray[np.float32]], posterior: DefocusPosterior, field: Field
) -> tuple[MotionTrial, Chances] | None:
    """Estimate a motion, and rate it and the defocus; None where there is nothing to see."""
    trials = motion_trials(windows, GAMMAS[field])
    power = PowerOfPlane.measured([window[None] for window in windows], photo=field == "photo")
    if not trials or power.light is None:
        return None
    fit = SpectralFit(power.light, field)
    rated = [(trial, chances(features(trial, posterior, fit, field))) for trial in trials]
    return max(rated, key=lambda each: each[1].motion)


def filled_window(window: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Replace pixels without a number by the mean; None for a window that tells nothing."""
    known = np.isfinite(window)
    if min(window.shape) < _SMALLEST or known.mean() < 1 - _UNKNOWN:
        return None
    filled = np.where(known, window, window[known].mean()).astype(np.float32)
    return filled if filled.std() > _FLAT else None
