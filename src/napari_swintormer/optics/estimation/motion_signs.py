"""Signs that an estimated kernel is right, and that a deconvolution with it helps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from scipy import fft, ndimage

from napari_swintormer.optics.estimation.blurred_window import BlurredWindow
from napari_swintormer.optics.estimation.strong_edges import gradients, sharpened_edges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_swintormer.optics.psf import PSF

    Floats = NDArray[np.float32]
    Kernel = NDArray[np.float64]

_DAMPING = 1e-2
_SEGMENT = 128  # pixels, side of the parts whose spectra are averaged
_BAND = (0.03, 0.4)  # cycles per pixel, where spectra are compared
_RINGS = 24  # of frequencies, whose mean does not count
_FLAT, _STRONG = 50, 95  # percentiles of local gradients
_TINY = 1e-12

NAMES = (
    "least agreement",
    "best agreement",
    "votes agree",
    "radius",
    "spread",
    "border",
    "spectrum",
    "ringing",
    "edges",
    "overshoot",
    "sparsity",
    "density",
    "fit",
    "misfit",
    "noise",
    "change",
)


def similarity(a: Kernel, b: Kernel) -> float:
    """Largest normalised cross-correlation of two kernels over all whole-pixel shifts."""
    shape = (fft.next_fast_len(len(a) + len(b), real=True),) * 2
    product = fft.rfft2(a, shape) * np.conj(fft.rfft2(b, shape))
    largest = float(fft.irfft2(product, shape).max())
    return largest / math.sqrt(float((a**2).sum() * (b**2).sum()))


def signs(image: Floats, kernel: Kernel, half: int, votes: Sequence[Kernel]) -> dict[str, float]:
    """Measure the signs that a kernel is right.

    Parameters
    ----------
    image
        Light ``(Y, X)``, with any scale of intensities.
    kernel
        Estimated with at most `half` pixels to each side.
    votes
        Kernels estimated from other pixels.
    """
    image = image * np.float32(0.2 / max(float(image.std()), 1e-6))
    agreement = sorted(similarity(kernel, vote) for vote in votes)
    return {
        "least agreement": agreement[0],
        "best agreement": agreement[-1],
        "votes agree": similarity(votes[0], votes[-1]),
        **_form(kernel, half),
        "spectrum": _spectral_agreement(image, kernel),
        **_effects(image, kernel),
    }


def border_light(kernel: PSF | Kernel, half: int) -> float:
    """Share of the light at the border of the `half` pixels that a kernel may reach."""
    inner = half - 2
    surplus = len(kernel) // 2 - inner
    if surplus <= 0:
        return 0.0
    return float(kernel.sum() - kernel[surplus:-surplus, surplus:-surplus].sum())


def _form(kernel: Kernel, half: int) -> dict[str, float]:
    middle = len(kernel) // 2
    y, x = np.mgrid[-middle : middle + 1, -middle : middle + 1]
    radius = math.log(math.sqrt(float((kernel * (y**2 + x**2)).sum())) + 0.3)
    spread = -math.log(float((kernel**2).sum()))  # of the number of pixels that share the light
    return {
        "radius": radius,
        "spread": spread,
        "border": min(border_light(kernel, half), 0.2),
    }


def _spectral_agreement(image: Floats, kernel: Kernel) -> float:
    """Correlate the spectra of image and kernel, both without their mean at each frequency.

    What is left is the direction: streaks and dark bands that motion leaves in the spectrum.
    """
    side = min(_SEGMENT, *image.shape)
    hann = np.hanning(side + 2)[1:-1].astype(np.float32)
    weight = hann[:, None] * hann
    starts = [range(0, n - side + 1, side // 2) for n in image.shape]
    power = np.zeros((side, side // 2 + 1))
    for y in starts[0]:
        for x in starts[1]:
            part = image[y : y + side, x : x + side]
            power += np.abs(fft.rfft2((part - part.mean()) * weight)) ** 2
    frequency = np.hypot(fft.fftfreq(side)[:, None], fft.rfftfreq(side))
    inside = (frequency > _BAND[0]) & (frequency < _BAND[1])
    inside[0] = inside[:, 0] = False  # edges along the axes are common in sharp images too
    ring = ((frequency[inside] - _BAND[0]) / (_BAND[1] - _BAND[0]) * _RINGS).astype(int)
    transfer = np.abs(fft.rfft2(kernel, (side, side))) ** 2

    def direction(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth = ndimage.gaussian_filter(values, 1.0, mode=("wrap", "nearest"))
        logs = np.log(smooth[inside] + _TINY)
        rest: NDArray[np.float64] = logs - (np.bincount(ring, logs) / np.bincount(ring))[ring]
        return rest

    noise = float(np.percentile(power, 5)) / max(float(power[inside].mean()), _TINY)
    a, b = direction(power), direction(transfer + noise)
    return float((a * b).sum() / math.sqrt(float((a * a).sum() * (b * b).sum()) + _TINY))


def _effects(image: Floats, kernel: Kernel) -> dict[str, float]:
    """Compare the image with what the kernel makes of it: ringing, overshoot, sparsity, fit."""
    window = BlurredWindow(image, len(kernel) // 2)
    result = window.deconvolved(kernel, _DAMPING)
    before, after = _slope(image), _slope(window.crop(result))
    nearby = ndimage.maximum_filter(before, 9)
    flat = nearby <= np.percentile(nearby, _FLAT)
    strong = before >= np.percentile(before, _STRONG)
    low, high = float(image.min()), float(image.max())
    outside = np.maximum(low - result, 0) + np.maximum(result - high, 0)
    blurred_again = fft.irfft2(
        fft.rfft2(sharpened_edges(result)) * window.otf(kernel), window.shape
    )
    fit = float(((window.crop(blurred_again) - image) ** 2).mean())
    fit_of_none = float(((sharpened_edges(image) - image) ** 2).mean())
    noise = float(np.median(np.abs(ndimage.laplace(image)))) / 3.0
    change = float(((window.crop(result) - image) ** 2).mean())
    return {
        "ringing": _log_ratio((after[flat] ** 2).mean(), (before[flat] ** 2).mean()),
        "edges": _log_ratio((after[strong] ** 2).mean(), (before[strong] ** 2).mean()),
        "overshoot": math.log(float((outside**2).mean()) + 1e-7),
        "sparsity": _log_ratio(_density(after), _density(before)),
        "density": math.log(_density(before) + _TINY),
        "fit": _log_ratio(fit, fit_of_none),
        "misfit": math.log(fit + 1e-8),
        "noise": math.log(noise + 1e-4),
        "change": math.log(change + 1e-7),
    }


def _slope(image: Floats) -> Floats:
    y, x = gradients(image)
    slope: Floats = np.hypot(y, x)[:-1, :-1]
    return slope


def _density(slopes: Floats) -> float:
    """Mean over root mean square: small if few pixels hold most of the slope."""
    return float(slopes.mean()) / math.sqrt(float((slopes**2).mean()) + _TINY)


def _log_ratio(a: float, b: float) -> float:
    return math.log((float(a) + _TINY) / (float(b) + _TINY))
