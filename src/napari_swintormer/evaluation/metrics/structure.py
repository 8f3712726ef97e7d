"""Two metrics of structure from their papers: MS-SSIM and GMSD.

The packages that have them (piq) bring torchvision along, which must fit the installed torch to the
day; these few lines agree with it to 1e-6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Plane = NDArray[np.float64]

MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli and Bovik (2003)
_REACH = 5  # of the window of 11 pixels
MS_SMALLEST = 2 * _REACH * 2 ** (len(MS_WEIGHTS) - 1) + 1  # pixels on a side
_GMSD_CONSTANT = 170 / 255**2  # Xue et al. (2014), for intensities in [0, 1]
_LUMA = (0.299, 0.587, 0.114)


def ms_ssim(image: NDArray[Any], reference: NDArray[Any], *, data_range: float) -> float:
    """Multi-scale structural similarity: contrast and structure of five scales, halved each time.

    Parameters
    ----------
    image, reference
        ``(Y, X)`` or ``(Y, X, S)`` of equal shape; colours are measured one by one.
    data_range
        In the units of the images.

    Returns
    -------
    float
        1 for equal images; NaN if a side has less than `MS_SMALLEST` pixels.
    """
    if min(image.shape[:2]) < MS_SMALLEST:
        return float("nan")
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    figures = []
    for x, y in zip(_planes(image), _planes(reference), strict=True):
        product = 1.0
        for scale, weight in enumerate(MS_WEIGHTS):
            if scale:
                x, y = _halved(x), _halved(y)
            luminance, contrast = _similarity(x, y, c1, c2)
            last = scale == len(MS_WEIGHTS) - 1
            product *= max(luminance if last else contrast, 0.0) ** weight
        figures.append(product)
    return float(np.mean(figures))


def gmsd(image: NDArray[Any], reference: NDArray[Any], *, black: float, data_range: float) -> float:
    """Gradient magnitude similarity deviation, on the luma at half the size.

    Parameters
    ----------
    image, reference
        ``(Y, X)`` or ``(Y, X, 3)`` of equal shape; intensities are cut to the data range.
    black, data_range
        Intensity that is 0, and the distance from there to 1.

    Returns
    -------
    float
        0 for equal images.
    """
    x, y = (_gradients(_luma((p - black) / data_range)) for p in (image, reference))
    similarity = (2 * x * y + _GMSD_CONSTANT) / (x**2 + y**2 + _GMSD_CONSTANT)
    return float(np.std(similarity))


def _planes(image: NDArray[Any]) -> list[Plane]:
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    return list(planes.astype(np.float64))


def _similarity(x: Plane, y: Plane, c1: float, c2: float) -> tuple[float, float]:
    """Mean of the whole SSIM, and of its factor of contrast and structure."""
    from scipy.ndimage import gaussian_filter

    def mean(plane: Plane) -> Plane:
        smooth = gaussian_filter(plane, 1.5, radius=_REACH)
        inside: Plane = smooth[_REACH:-_REACH, _REACH:-_REACH]
        return inside

    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    contrast = (2 * (mean(x * y) - mean_x * mean_y) + c2) / (variances + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float(np.mean(luminance * contrast)), float(np.mean(contrast))


def _halved(plane: Plane) -> Plane:
    """Means of squares of two pixels; where a side is odd the first row and column count twice."""
    plane = np.pad(plane, ((max(n % 2 for n in plane.shape), 0),) * 2, mode="edge")
    height, width = (n // 2 for n in plane.shape)
    blocks = plane[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    means: Plane = blocks.mean(axis=(1, 3))
    return means


def _luma(image: NDArray[Any]) -> Plane:
    unit = np.clip(image, 0, 1)
    luma: Plane = unit if unit.ndim == 2 else unit[..., :3] @ np.array(_LUMA)
    return luma


def _gradients(plane: Plane) -> Plane:
    """Magnitude of Prewitt's gradients at half the size, zeros beyond the border."""
    from scipy.ndimage import prewitt

    plane = np.pad(plane, [(0, n % 2) for n in plane.shape])
    half = _halved(plane)
    magnitude: Plane = np.hypot(*(prewitt(half, axis=axis, mode="constant") / 3 for axis in (0, 1)))
    return magnitude
