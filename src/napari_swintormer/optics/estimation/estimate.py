"""The blur of an image, measured once on a few windows: none, defocus or motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation.defocus_posterior import GAMMAS, defocus_posterior
from napari_swintormer.optics.estimation.motion_kernel import estimate_motion
from napari_swintormer.optics.plane_blur import FoundBlur

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_swintormer.optics.estimation.defocus_posterior import Field

_SMALLEST = 48  # pixels, shorter side of a window that can be measured
_UNKNOWN = 0.25  # largest share of pixels without a number
_FLAT = 1e-4  # standard deviation of a window without detail, in unit intensities
_SHARP = 0.5  # probability of no blur above which nothing is done
_SHOWN = 0.5  # certainty below which the sentence says "may"
_SURELY_SHARP = 0.9  # and above which motion is not even looked for: that takes longest
# Motion is told where no defocus is surer than `_DEFOCUS`, and its kernel is surer than a threshold
# that rises with the certainty of a defocus: (threshold, rise). Chosen on validation images, sharp
# or blurred by either, so that a choice of motion harms none. Blur made as light spoils kernels of
# intensities that follow a curve, so photos need more.
_DEFOCUS = 0.7
_MOTION: dict[Field, tuple[float, float]] = {"photo": (0.6, 0.0), "micrograph": (0.25, 0.3)}


def estimate_blur(windows: Sequence[NDArray[np.float32]], field: Field) -> FoundBlur:
    """Estimate the blur of an image from windows of it, at the places of `sample.sample_windows`.

    Parameters
    ----------
    windows
        Luminance ``(Y, X)`` in unit intensities, as displayed.
    field
        ``"photo"``: intensities follow the curve of a camera. ``"micrograph"``: they are linear.

    Returns
    -------
    The estimate. Its certainty is the probability that the size of a defocus is right to 20 %, that
    the kernel of a motion helps, or that there is no blur. Where nothing is recognised its blur is
    `Blur.none()`, and the reason says why.
    """
    measurable = [filled for window in windows if (filled := _filled(window)) is not None]
    if not measurable:
        return FoundBlur(
            Blur.none(),
            0.0,
            f"No part of the image can be measured: a window needs {_SMALLEST} pixels along both "
            "axes, numbers in most pixels, and detail.",
        )
    posterior = defocus_posterior(measurable, field)
    if posterior.none < _SURELY_SHARP:
        kernel, confidence = estimate_motion(measurable, GAMMAS[field])
        least, rise = _MOTION[field]
        enough = least + rise * posterior.certainty
        if confidence > enough and posterior.certainty < _DEFOCUS:
            motion = Blur.kernel(kernel)
            return FoundBlur(motion, confidence, f"The image shows {motion.sentence(confidence)}.")
    if posterior.none >= _SHARP:
        return FoundBlur(Blur.none(), posterior.none, "The image looks sharp.")
    shows = "shows" if posterior.certainty >= _SHOWN else "may show"
    return FoundBlur(
        posterior.blur(),
        posterior.certainty,
        f"The image {shows} defocus blur with a radius of about {posterior.radius:.2g} pixels; "
        f"{100 * posterior.certainty:.0f} % sure.",
    )


def _filled(window: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Replace pixels without a number by the mean; None for a window that tells nothing."""
    known = np.isfinite(window)
    if min(window.shape) < _SMALLEST or known.mean() < 1 - _UNKNOWN:
        return None
    filled = np.where(known, window, window[known].mean()).astype(np.float32)
    return filled if filled.std() > _FLAT else None
