"""The kernel of a shake, fitted to all gradients of an image: those of a sharp image are sparse.

Two steps alternate. The sharp gradients are estimated for the kernel so far; most are nearly zero
and few are strong. Then the kernel is fitted that turns them into the gradients of the image. How
unsure each gradient is counts in the fit. Otherwise the kernel would become one that blurs less.

After Levin, Weiss, Durand and Freeman, "Efficient marginal likelihood optimization in blind
deconvolution" (2011).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import fft, ndimage

from napari_swintormer.optics.blur_kinds import LARGEST
from napari_swintormer.optics.estimation.blurred_window import NormalMatrix
from napari_swintormer.optics.estimation.motion_kernel import CONTRAST, THREADS, edge_strength

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Spectrum = NDArray[np.complex64]
    Kernel = NDArray[np.float64]

_SIDE = 384  # pixels of the part of an image that is used, at most
# Gradients of 60 sharp training photos with a standard deviation of `CONTRAST`: they are a mixture
# of normal distributions around zero with these shares and standard deviations.
_SHARES = np.array([0.15, 0.41, 0.36, 0.08], np.float32)[:, None, None]
_DEVIATIONS = np.array([0.002, 0.017, 0.065, 0.25], np.float32)[:, None, None]
# Chosen on blurred photos that were kept out of training.
_UNEXPLAINED = 0.0035  # standard deviation of what no kernel explains of a gradient
_ROUNDS = 6
_STEPS = 12  # of conjugate gradients, for the sharp gradients
_FITS, _FIT_STEPS = 2, 150  # for the kernel
_AROUND, _SMALLEST = 2, 5  # pixels that are tried around the first kernel, and reach at least
_FAINT = 0.01  # share of a kernel's maximum below which its pixels are noise
_SMALL_PART = 0.05  # share of its light below which its parts are noise
_SMOOTH = 0.5  # pixels; a fitted kernel is rougher than a camera's


class _Sharp(NamedTuple):
    """Estimated sharp gradients along one axis, and how unsure they are."""

    values: Floats
    variance: Floats


def sparse_kernel(image: Floats, first: Kernel) -> Kernel:
    """Fit the kernel of an image ``(Y, X)`` in light to all its gradients.

    The first kernel is about right and has an odd side. The fitted one lies as it does: odd side up
    to 65 pixels, not negative, sum 1.
    """
    image = _part(image)
    image = image * np.float32(CONTRAST / max(float(image.std()), 1e-6))
    kernel = _without_specks(first)
    reach = int(np.abs(np.argwhere(kernel > 0) - len(kernel) // 2).max())
    reach = min(max(reach + _AROUND, _SMALLEST), LARGEST // 2 - 1, min(image.shape) // 4)
    surplus = len(kernel) // 2 - reach
    kernel = kernel[surplus:-surplus, surplus:-surplus] if surplus > 0 else np.pad(kernel, -surplus)
    kernel = kernel / kernel.sum()
    along_y, along_x = np.diff(image, axis=0)[:, :-1], np.diff(image, axis=1)[:-1]
    views = [_BlurredGradients(blurred, reach) for blurred in (along_y, along_x)]
    sharp = [view.start() for view in views]
    with ThreadPoolExecutor(THREADS) as threads:
        for _ in range(_ROUNDS):
            kernels = [kernel] * len(views)
            sharp = list(threads.map(_BlurredGradients.sharpened, views, sharp, kernels))
            fitted = _fitted(views, sharp, kernel)
            kernel = _without_specks(fitted) if fitted.any() else kernel
    kernel = ndimage.gaussian_filter(np.pad(kernel, 1), _SMOOTH, truncate=2)
    smooth: Kernel = kernel / kernel.sum()
    return smooth


class _BlurredGradients:
    """Gradients ``(Y, X)`` of a blurred image along one axis.

    The sharp gradients behind them reach farther by the reach of a kernel.
    """

    def __init__(self, blurred: Floats, reach: int) -> None:
        self.blurred, self.reach = blurred, reach
        height, width = blurred.shape
        self.seen = blurred.size / ((height + 2 * reach) * (width + 2 * reach))
        self._shape = (slice(height + 2 * reach), slice(width + 2 * reach))
        self._valid = (slice(2 * reach, height + 2 * reach), slice(2 * reach, width + 2 * reach))
        self._size = [fft.next_fast_len(n + 2 * reach, real=True) for n in blurred.shape]

    def start(self) -> _Sharp:
        """Take the blurred gradients for sharp ones."""
        values = np.pad(self.blurred, self.reach, mode="reflect")
        return _Sharp(values, np.zeros_like(values))

    def sharpened(self, sharp: _Sharp, kernel: Kernel) -> _Sharp:
        """Estimate the sharp gradients for a kernel, from an earlier estimate.

        Gradients that are nearly zero are damped much, and strong ones little. That makes a linear
        system, which conjugate gradients solve.
        """
        values, otf = sharp.values, self.transform(kernel)
        damping = _UNEXPLAINED**2 * _precision(values**2 + sharp.variance)
        diagonal = damping + np.float32((kernel**2).sum())
        rest = self._back(self.blurred - self._blur(values, otf), otf) - damping * values
        scaled = rest / diagonal
        direction, length = scaled, float((rest * scaled).sum())
        for _ in range(_STEPS):
            if not length > 0:
                break
            product = self._back(self._blur(direction, otf), otf) + damping * direction
            step = np.float32(length / float((direction * product).sum()))
            values = values + step * direction
            rest = rest - step * product
            scaled = rest / diagonal
            length, before = float((rest * scaled).sum()), length
            direction = scaled + np.float32(length / before) * direction
        return _Sharp(values, _UNEXPLAINED**2 / diagonal)

    def transform(self, values: NDArray[Any]) -> Spectrum:
        """Transform gradients, or a kernel."""
        spectrum: Spectrum = fft.rfft2(values.astype(np.float32, copy=False), self._size)
        return spectrum

    def unexplained(self, spectrum: Spectrum, kernel: Kernel) -> Floats:
        """Correlate sharp gradients with what a kernel makes too little of them.

        The result has the kernel's shape and says where it needs more light.
        """
        rest = self.blurred - self._inverse(spectrum * self.transform(kernel))[self._valid]
        side = slice(2 * self.reach + 1)
        return self._inverse(self._placed(rest) * spectrum.conj())[side, side]

    def autocorrelation(self, spectrum: Spectrum) -> Floats:
        """Correlate sharp gradients with themselves, as far as they are seen.

        The result holds shifts up to twice the reach of a kernel.
        """
        shifts = np.arange(-2 * self.reach, 2 * self.reach + 1)
        return self._inverse(np.abs(spectrum) ** 2)[np.ix_(shifts, shifts)] * np.float32(self.seen)

    def _blur(self, values: Floats, otf: Spectrum) -> Floats:
        return self._inverse(self.transform(values) * otf)[self._valid]

    def _back(self, blurred: Floats, otf: Spectrum) -> Floats:
        return self._inverse(self._placed(blurred) * otf.conj())[self._shape]

    def _placed(self, blurred: Floats) -> Spectrum:
        plane = np.zeros(self._size, np.float32)
        plane[self._valid] = blurred
        return self.transform(plane)

    def _inverse(self, spectrum: Any) -> Floats:
        plane: Floats = fft.irfft2(spectrum, self._size)
        return plane


def _precision(squares: Floats) -> Floats:
    """Mean of 1 / variance over the normal distributions that gradients may be drawn from."""
    logs = np.log(_SHARES / _DEVIATIONS) - squares / (2 * _DEVIATIONS**2)
    chances = np.exp(logs - logs.max(axis=0))
    precision: Floats = (chances / _DEVIATIONS**2).sum(axis=0) / chances.sum(axis=0)
    return precision


def _fitted(views: Sequence[_BlurredGradients], sharp: Sequence[_Sharp], kernel: Kernel) -> Kernel:
    """Fit a kernel that is not negative, by projected gradients with momentum.

    Near the border the normal matrix is not exact. So the fit is repeated from what is left.
    """
    spectra = [view.transform(each.values) for view, each in zip(views, sharp, strict=True)]
    pairs = list(zip(views, spectra, strict=True))
    power = np.sum([view.autocorrelation(spectrum) for view, spectrum in pairs], axis=0)
    unsure = views[0].blurred.size * sum(float(each.variance.mean()) for each in sharp)
    apply = NormalMatrix(power, unsure)
    step = 1 / apply.largest
    for _ in range(_FITS):
        missing = sum(view.unexplained(spectrum, kernel) for view, spectrum in pairs)
        target = missing + apply(kernel) - unsure * kernel
        ahead, momentum = kernel, 1.0
        for _ in range(_FIT_STEPS):
            tried = np.maximum(ahead - step * (apply(ahead) - target), 0)
            if float(((ahead - tried) * (tried - kernel)).sum()) > 0:
                ahead, momentum = tried, 1.0
            else:
                grown = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
                ahead = tried + (momentum - 1) / grown * (tried - kernel)
                momentum = grown
            kernel = tried
    return kernel


def _without_specks(kernel: Kernel) -> Kernel:
    """Remove faint pixels and small parts; the sum becomes 1."""
    kernel = np.where(kernel > _FAINT * kernel.max(), kernel, 0)
    parts, count = ndimage.label(kernel, np.ones((3, 3)))
    light = ndimage.sum_labels(kernel, parts, np.arange(count + 1))
    kernel[(light < min(_SMALL_PART * kernel.sum(), light.max()))[parts]] = 0
    whole: Kernel = kernel / kernel.sum()
    return whole


def _part(image: Floats) -> Floats:
    """Cut out the corner with the strongest edges, where an image is larger than needed."""
    height, width = (min(_SIDE, size) for size in image.shape)
    corners = [
        image[y : y + height, x : x + width]
        for y in sorted({0, image.shape[0] - height})
        for x in sorted({0, image.shape[1] - width})
    ]
    return max(corners, key=edge_strength) if len(corners) > 1 else image
