"""RealBlur's comparison: match the intensity, align by a homography, score what both images show.

It needs OpenCV, which the extra ``metrics`` installs, for its ECC algorithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.metrics.similarity import SSIM_REACH

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

ITERATIONS = 100


def aligned_scores(image: NDArray[Any], sharp: NDArray[Any]) -> dict[str, float]:
    """PSNR and SSIM of two ``(Y, X, 3)`` images in [0, 1] after RealBlur's alignment.

    One gain brings the image closest to the sharp one. Then the homography with the highest
    enhanced correlation coefficient of the two grey images moves it (cubic interpolation). Pixels
    that come from outside are left out of both scores. If the algorithm does not converge, the
    images are compared as they are, as in the published script.
    """
    image, sharp = image.astype(np.float32), sharp.astype(np.float32)
    moved, mask = _align(image, sharp)
    sharp = sharp * mask
    error = np.sum((sharp - moved) ** 2, dtype=np.float64) / np.sum(mask, dtype=np.float64)
    psnr = float("inf") if error == 0 else float(-10 * np.log10(error))
    return {"psnr": psnr, "ssim": _masked_ssim(sharp, moved, mask)}


def _align(image: Floats, sharp: Floats) -> tuple[Floats, Floats]:
    """Move the image onto the sharp one; give it and the mask of the pixels that it covers."""
    try:
        import cv2
    except ImportError as error:
        raise SettingsError(
            "The protocol realblur aligns images with OpenCV, which is not installed. Use "
            "pip install napari-swintormer[metrics]."
        ) from error
    matched = image * (np.sum(sharp * image) / np.sum(image * image))
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, 0)
    greys = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (sharp, matched)]
    start = np.eye(3, dtype=np.float32)
    try:
        find: Any = cv2.findTransformECC
        _, homography = find(*greys, start, cv2.MOTION_HOMOGRAPHY, criteria, None, 5)
    except cv2.error:
        return image, np.ones_like(image)
    size = (sharp.shape[1], sharp.shape[0])

    def warp(pixels: Floats, interpolation: int, border: int) -> Floats:
        flags = interpolation + cv2.WARP_INVERSE_MAP
        warped = cv2.warpPerspective(pixels, homography, size, flags=flags, borderMode=border)
        return np.asarray(warped, np.float32)

    mask = warp(np.ones_like(matched), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    return warp(matched, cv2.INTER_CUBIC, cv2.BORDER_REFLECT) * mask, mask


def _masked_ssim(sharp: Floats, image: Floats, mask: Floats) -> float:
    from skimage.metrics import structural_similarity

    _, similarity = structural_similarity(
        sharp,
        image,
        channel_axis=2,
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    reach = SSIM_REACH["gaussian"]
    inside = (slice(reach, -reach), slice(reach, -reach))
    per_channel = (similarity * mask)[inside].sum(axis=(0, 1)) / mask[inside].sum(axis=(0, 1))
    return float(per_channel.mean())
