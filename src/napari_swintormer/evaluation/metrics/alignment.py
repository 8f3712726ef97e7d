"""RealBlur's comparison: match the intensity, align by a homography, score where both are valid.

Needs OpenCV, which comes with the extra ``metrics``: the alignment is its ECC algorithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

ITERATIONS = 100
_REACH = 5  # of the window of the SSIM, in pixels


def aligned_scores(image: NDArray[Any], sharp: NDArray[Any]) -> dict[str, float]:
    """PSNR and SSIM after RealBlur's alignment.

    The image is multiplied by the gain that brings it closest to the sharp one; the homography
    that maximises the enhanced correlation coefficient of the two grey images takes it there
    (cubic interpolation); pixels that come from outside are masked out of both scores. Where the
    algorithm does not converge the images are compared as they are, as in the published script.

    Parameters
    ----------
    image, sharp
        ``(Y, X, 3)`` in [0, 1].

    Returns
    -------
    dict
        ``psnr`` and ``ssim``, for a data range of 1.

    Raises
    ------
    SettingsError
        OpenCV is not installed.
    """
    image, sharp = image.astype(np.float32), sharp.astype(np.float32)
    moved, mask = _align(image, sharp)
    sharp = sharp * mask
    error = np.sum((sharp - moved) ** 2, dtype=np.float64) / np.sum(mask, dtype=np.float64)
    psnr = float("inf") if error == 0 else float(-10 * np.log10(error))
    return {"psnr": psnr, "ssim": _masked_ssim(sharp, moved, mask)}


def _align(
    image: NDArray[np.float32], sharp: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Image moved onto the sharp one, and the mask of what it covers there."""
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
    try:
        find: Any = cv2.findTransformECC
        _, homography = find(
            *greys, np.eye(3, dtype=np.float32), cv2.MOTION_HOMOGRAPHY, criteria, None, 5
        )
    except cv2.error:
        return image, np.ones_like(image)
    size = (sharp.shape[1], sharp.shape[0])

    def warp(pixels: NDArray[np.float32], interpolation: int, border: int) -> NDArray[np.float32]:
        flags = interpolation + cv2.WARP_INVERSE_MAP
        warped = cv2.warpPerspective(pixels, homography, size, flags=flags, borderMode=border)
        return np.asarray(warped, np.float32)

    mask = warp(np.ones_like(matched), cv2.INTER_NEAREST, cv2.BORDER_CONSTANT)
    return warp(matched, cv2.INTER_CUBIC, cv2.BORDER_REFLECT) * mask, mask


def _masked_ssim(
    sharp: NDArray[np.float32], image: NDArray[np.float32], mask: NDArray[np.float32]
) -> float:
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
    inside = (slice(_REACH, -_REACH), slice(_REACH, -_REACH))
    per_channel = (similarity * mask)[inside].sum(axis=(0, 1)) / mask[inside].sum(axis=(0, 1))
    return float(per_channel.mean())
