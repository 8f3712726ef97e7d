"""Metrics that compare a whole image with its sharp reference.

Images are arrays of any real data type, compared in float64 and in their own units. The caller
always gives the data range, because the data type does not tell it. scikit-image loads on first
use. MS-SSIM and GMSD are written here because the packages that offer them need a torchvision that
matches the installed torch exactly; they agree with the package piq to 1e-6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Window = Literal["gaussian", "uniform"]
SSIM_REACH: dict[Window, int] = {"gaussian": 5, "uniform": 3}  # pixels to each side of a window

_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli and Bovik (2003)
_MS_REACH = SSIM_REACH["gaussian"]
_MS_SMALLEST = 2 * _MS_REACH * 2 ** (len(_MS_WEIGHTS) - 1) + 1  # pixels on a side
_GMSD_CONSTANT = 170 / 255**2  # Xue et al. (2014), for intensities in [0, 1]
_LUMA = (0.299, 0.587, 0.114)


def intensity_span(reference: NDArray[Any], low: float = 0.1, high: float = 99.9) -> float:
    """Distance between two percentiles of the sharp image: the data range of its metrics.

    A dark 16-bit image would look perfect against 65535, and a single hot pixel would raise the
    maximum, so the range is the part that the image really uses. The result is at least the
    smallest positive number, so that it can divide.
    """
    bottom, top = np.percentile(reference, (low, high))
    return max(float(top - bottom), float(np.finfo(np.float64).tiny))


def psnr(image: NDArray[Any], reference: NDArray[Any], *, data_range: float) -> float:
    """Peak signal-to-noise ratio in dB, ``10 · log10(data_range² / mean((image − reference)²))``.

    The mean is over all pixels and channels. Equal images have an infinite ratio.
    """
    image, reference = _as_floats(image, reference)
    error = float(np.mean((image - reference) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(
    image: NDArray[Any],
    reference: NDArray[Any],
    *,
    data_range: float,
    channel_axis: int | None = None,
    window: Window = "gaussian",
) -> float:
    """Structural similarity, the mean over pixels and channels; K1 = 0.01, K2 = 0.03.

    The window is ``"gaussian"`` with σ = 1.5 and population covariances, as Wang et al. (2004)
    define it, or ``"uniform"`` with 7 pixels and sample covariances (scikit-image's default).
    Pixels whose window reaches over the border are left out of the mean, so a side has at least
    ``2 * SSIM_REACH[window] + 1`` pixels. `channel_axis` is None for a grey image.
    """
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            *_as_floats(image, reference),
            data_range=data_range,
            channel_axis=channel_axis,
            gaussian_weights=window == "gaussian",
            use_sample_covariance=window == "uniform",
        )
    )


def ssim3d(image: NDArray[Any], reference: NDArray[Any], *, data_range: float) -> float:
    """Structural similarity of a ``(Y, X, S)`` image as a volume, like MATLAB's `ssim`.

    The scripts of many papers on motion blur compute this for colour images: a Gaussian window of
    11 x 11 x 11 (σ = 1.5) over rows, columns and colours, repeated borders, mean over everything.
    """
    padded = (np.pad(x, SSIM_REACH["gaussian"], mode="edge") for x in (image, reference))
    return ssim(*padded, data_range=data_range)


def ms_ssim(image: NDArray[Any], reference: NDArray[Any], *, data_range: float) -> float:
    """Multi-scale structural similarity over five scales, each half the size of the last.

    Images are ``(Y, X)`` or ``(Y, X, S)``; the result is the mean of the colours, 1 for equal
    images, and NaN if a side has fewer than 161 pixels.
    """
    if min(image.shape[:2]) < _MS_SMALLEST:
        return float("nan")
    pairs = zip(_planes(image), _planes(reference), strict=True)
    return float(np.mean([_ms_ssim_of_plane(x, y, data_range) for x, y in pairs]))


def gmsd(image: NDArray[Any], reference: NDArray[Any], *, black: float, data_range: float) -> float:
    """Gradient magnitude similarity deviation of the luma at half the size; 0 for equal images.

    Images are ``(Y, X)`` or ``(Y, X, 3)``; intensities below `black` or above
    ``black + data_range`` are clipped.
    """
    x, y = (_gradients(_luma((p - black) / data_range)) for p in (image, reference))
    similarity = (2 * x * y + _GMSD_CONSTANT) / (x**2 + y**2 + _GMSD_CONSTANT)
    return float(np.std(similarity))


def _ms_ssim_of_plane(x: Floats, y: Floats, data_range: float) -> float:
    product = 1.0
    for weight in _MS_WEIGHTS[:-1]:
        product *= max(_contrast_similarity(x, y, data_range), 0.0) ** weight
        x, y = _half_size(x), _half_size(y)
    return float(product * max(ssim(x, y, data_range=data_range), 0.0) ** _MS_WEIGHTS[-1])


def _contrast_similarity(x: Floats, y: Floats, data_range: float) -> float:
    """Compute SSIM without its luminance factor."""
    from scipy.ndimage import gaussian_filter

    inside = (slice(_MS_REACH, -_MS_REACH),) * 2

    def mean(plane: Floats) -> Floats:
        smooth: Floats = gaussian_filter(plane, 1.5, radius=_MS_REACH)[inside]
        return smooth

    c2 = (0.03 * data_range) ** 2
    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    return float(np.mean((2 * (mean(x * y) - mean_x * mean_y) + c2) / (variances + c2)))


def _planes(image: NDArray[Any]) -> list[Floats]:
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    return list(planes.astype(np.float64))


def _half_size(plane: Floats) -> Floats:
    """Average squares of 2 x 2 pixels; if a side is odd, the first row and column count twice."""
    plane = np.pad(plane, ((max(n % 2 for n in plane.shape), 0),) * 2, mode="edge")
    height, width = (n // 2 for n in plane.shape)
    blocks = plane[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    means: Floats = blocks.mean(axis=(1, 3))
    return means


def _luma(image: NDArray[Any]) -> Floats:
    unit = np.clip(image, 0, 1)
    luma: Floats = unit if unit.ndim == 2 else unit[..., :3] @ np.array(_LUMA)
    return luma


def _gradients(plane: Floats) -> Floats:
    """Magnitude of Prewitt's gradients at half the size, with zeros beyond the border."""
    from scipy.ndimage import prewitt

    half = _half_size(np.pad(plane, [(0, n % 2) for n in plane.shape]))
    along = (prewitt(half, axis=axis, mode="constant") / 3 for axis in (0, 1))
    magnitude: Floats = np.hypot(*along)
    return magnitude


def _as_floats(image: NDArray[Any], reference: NDArray[Any]) -> tuple[Floats, Floats]:
    """Check that two images have the same shape; give both in float64."""
    if image.shape != reference.shape:
        raise ImageError(
            f"image and reference must have the same shape (got {image.shape} and "
            f"{reference.shape}). Crop or register them first."
        )
    return image.astype(np.float64), reference.astype(np.float64)
