"""Scores of a restored volume against its reference, with one intensity fit for the volume.

A fit for each plane would hide the haze, because haze is what one plane does to another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.evaluation.metrics import frc
from napari_swintormer.evaluation.metrics.similarity import SSIM_REACH, ssim

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.evaluation.metrics.scoring import Scale

    Volume = NDArray[np.float64]

LARGEST_OFFSET = 3  # planes


def score_volume(
    image: Any, sharp: Any, scale: Scale, planes: tuple[int, int] | None = None
) -> dict[str, float]:
    """Score a volume ``(Z, Y, X)`` after one gain and one offset for all of it.

    Parameters
    ----------
    image, sharp
        Array-likes of equal shape.
    scale
        Of the sharp volume; the peak of the PSNR is its span.
    planes
        First plane that is scored, and the plane after the last; None scores all. Two microscopes
        do not agree on the height of a specimen. So where planes are named, the image is also
        compared shifted by up to 3 whole planes, and the offset of the highest PSNR counts.

    Returns
    -------
    dict
        ``psnr`` in dB, ``ssim`` as the mean over planes, ``mae`` as a share of the span, the
        ``correlation``, and the finest common period ``frc_lateral`` in pixels and ``frc_axial`` in
        planes.
    """
    restored, wanted = (np.asarray(x).astype(np.float64) for x in (image, sharp))
    first, end = (0, len(wanted)) if planes is None else planes
    reach = 0 if planes is None else LARGEST_OFFSET
    reference = wanted[first:end]
    candidates = [
        _fitted(restored[first + offset : end + offset], reference)
        for offset in range(max(-reach, -first), min(reach, len(wanted) - end) + 1)
    ]
    best = min(candidates, key=lambda x: float(np.mean((x - reference) ** 2)))
    return _scores(best, reference, scale.span)


def _fitted(image: Volume, reference: Volume) -> Volume:
    """Bring an image to the intensities of its reference, by least squares."""
    mean, other = image.mean(), reference.mean()
    variance = float(np.mean((image - mean) ** 2))
    covariance = float(np.mean((image - mean) * (reference - other)))
    fitted: Volume = (image - mean) * (covariance / variance if variance > 0 else 0.0) + other
    return fitted


def _scores(image: Volume, reference: Volume, span: float) -> dict[str, float]:
    error = image - reference
    squared, spread = float(np.mean(error**2)), float(image.std() * reference.std())
    covariance = float(np.mean((image - image.mean()) * (reference - reference.mean())))
    large = min(reference.shape[1:]) > 2 * SSIM_REACH["gaussian"]
    similar = [ssim(a, b, data_range=span) for a, b in zip(image, reference, strict=True) if large]
    return {
        "psnr": float("inf") if squared == 0 else float(10 * np.log10(span**2 / squared)),
        "ssim": float(np.mean(similar)) if similar else float("nan"),
        "mae": float(np.mean(np.abs(error)) / span),
        "correlation": covariance / spread if spread > 0 else float("nan"),
        "frc_lateral": frc.lateral_resolution(image, reference),
        "frc_axial": frc.axial_resolution(image, reference),
    }
