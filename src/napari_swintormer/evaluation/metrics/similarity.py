"""How close an image is to its sharp reference.

Images are arrays of any shape and real data type, compared in float64 and in their own units; the
data range is always said, never guessed from the data type. scikit-image loads on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def intensity_span(reference: NDArray[Any], low: float = 0.1, high: float = 99.9) -> float:
    """Distance between two percentiles of the reference: the data range of `psnr` and `ssim`.

    A dark 16-bit image would look perfect against 65535, and one hot pixel would flatter it
    against its maximum, so the range is what the image really uses.

    Parameters
    ----------
    reference
        The sharp image, any shape; colour channels are taken together.
    low, high
        Percentiles.

    Returns
    -------
    float
        At least the smallest positive number, so that a constant reference can be divided by it.
    """
    bottom, top = np.percentile(reference, (low, high))
    return max(float(top - bottom), float(np.finfo(np.float64).tiny))


def psnr(
    image: NDArray[Any], reference: NDArray[Any], *, data_range: float, border: int = 0
) -> float:
    """Peak signal-to-noise ratio, ``10 · log10(data_range² / mean((image − reference)²))``.

    Parameters
    ----------
    image, reference
        Equal shapes; the mean is over all pixels and channels.
    data_range
        The peak, in the units of the images.
    border
        Pixels left out on every side of the first two axes.

    Returns
    -------
    float
        In dB; infinite for equal images.

    Raises
    ------
    ImageError
        If the shapes differ.
    """
    image, reference = _inner(image, reference, border)
    error = float(np.mean((image - reference) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(data_range**2 / error))


def ssim(
    image: NDArray[Any],
    reference: NDArray[Any],
    *,
    data_range: float,
    channel_axis: int | None = None,
    border: int = 0,
    window: Literal["gaussian", "uniform"] = "gaussian",
) -> float:
    """Structural similarity, mean over pixels and channels; K1 = 0.01, K2 = 0.03.

    Pixels whose window reaches over the border are left out of the mean.

    Parameters
    ----------
    image, reference
        Equal shapes, at least `ssim_reach` pixels on a side, twice and one.
    data_range
        In the units of the images.
    channel_axis
        Axis of the colours, None for a grey image.
    border
        Pixels left out on every side of the first two axes.
    window
        ``"gaussian"`` as Wang et al. (2004) define it, σ = 1.5, covariances of the population;
        ``"uniform"``, 7 pixels wide, with covariances of the sample.

    Returns
    -------
    float
        1 for equal images.

    Raises
    ------
    ImageError
        If the shapes differ.
    """
    from skimage.metrics import structural_similarity

    image, reference = _inner(image, reference, border)
    return float(
        structural_similarity(
            image,
            reference,
            data_range=data_range,
            channel_axis=channel_axis,
            gaussian_weights=window == "gaussian",
            use_sample_covariance=window == "uniform",
        )
    )


def ssim_reach(window: Literal["gaussian", "uniform"]) -> int:
    """Pixels that a window of `ssim` reaches to each side."""
    return {"gaussian": 5, "uniform": 3}[window]


def ssim3d(image: NDArray[Any], reference: NDArray[Any], *, data_range: float) -> float:
    """Structural similarity of ``(Y, X, S)`` taken for a volume, as MATLAB's `ssim` does.

    What the scripts of many papers on motion blur compute of a colour image: a Gaussian window of
    11 x 11 x 11 (σ = 1.5) over rows, columns and colours, borders repeated, mean over everything.

    Raises
    ------
    ImageError
        If the shapes differ.
    """
    from scipy.ndimage import gaussian_filter

    x, y = _inner(image, reference, 0)

    def mean(volume: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth: NDArray[np.float64] = gaussian_filter(volume, 1.5, mode="nearest", radius=5)
        return smooth

    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return float(np.mean(luminance * (2 * covariance + c2) / (variances + c2)))


def mae(image: NDArray[Any], reference: NDArray[Any]) -> float:
    """Mean absolute error over all pixels and channels, in the units of the images.

    Raises
    ------
    ImageError
        If the shapes differ.
    """
    image, reference = _inner(image, reference, 0)
    return float(np.mean(np.abs(image - reference)))


def affine_fit(image: NDArray[Any], reference: NDArray[Any]) -> NDArray[np.float64]:
    """Map the image's intensities to the reference's by one gain and one offset.

    Two exposures of the same scene differ in brightness, which is not blur: real pairs are
    compared after the gain and the offset that minimise ``mean((gain · image + offset −
    reference)²)`` over all pixels and channels. A constant image becomes the reference's mean.

    Parameters
    ----------
    image, reference
        Equal shapes.

    Returns
    -------
    ndarray
        ``gain · image + offset``, float64, of the same shape.

    Raises
    ------
    ImageError
        If the shapes differ.
    """
    image, reference = _inner(image, reference, 0)
    centred = image - image.mean()
    variance = float(np.mean(centred**2))
    covariance = float(np.mean(centred * (reference - reference.mean())))
    gain = covariance / variance if variance > 0 else 0.0
    fitted: NDArray[np.float64] = gain * centred + reference.mean()
    return fitted


def _inner(
    image: NDArray[Any], reference: NDArray[Any], border: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both images in float64, without their border."""
    if image.shape != reference.shape:
        raise ImageError(
            f"image and reference must have the same shape (got {image.shape} and "
            f"{reference.shape}). Crop or register them first."
        )
    inside = (slice(border, image.shape[0] - border), slice(border, image.shape[1] - border))
    return image[inside].astype(np.float64), reference[inside].astype(np.float64)
