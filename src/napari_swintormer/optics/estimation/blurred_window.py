"""A part of a blurred image, prepared for many trials of a kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import fft

from napari_swintormer.optics.estimation.strong_edges import gradients

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Spectrum = NDArray[np.complex64]
    Kernel = NDArray[np.float64]

_STEPS = 40  # of conjugate gradients
_CONVERGED = 1e-10  # square of the residual, relative to the right-hand side


class BlurredWindow:
    """A blurred image ``(Y, X)``, float32, with the spectra that estimating a kernel needs.

    Mirrored ends are faded into each other, so that the image is periodic. Gradients of these ends
    never count.

    Attributes
    ----------
    shape
        Sizes of the periodic image.
    inside
        Pixels that no kernel of `half` reaches from outside.
    """

    def __init__(self, image: Floats, half: int) -> None:
        height, width = image.shape
        periodic = _periodic(image, 3 * half + 8)
        self.shape = periodic.shape
        self.inside = np.zeros(self.shape, bool)
        self.inside[half : height - 1 - half, half : width - 1 - half] = True
        self._size = (slice(0, height), slice(0, width))
        self._image = fft.rfft2(periodic)
        self._roughness = _roughness(self.shape)
        seen = np.zeros(self.shape, bool)
        seen[: height - 1, : width - 1] = True
        self._gradients = [fft.rfft2(g * seen) for g in gradients(periodic)]

    def deconvolved(self, kernel: Kernel, damping: float) -> Floats:
        """Divide the blur out; `damping` of the gradients' power keeps noise small."""
        spectrum = self.otf(kernel)
        power = _power(spectrum)
        power += np.float32(damping) * self._roughness
        np.conj(spectrum, out=spectrum)
        spectrum *= self._image
        spectrum *= 1 / power
        return self._plane(spectrum)

    def crop(self, image: Floats) -> Floats:
        """Cut off the ends that make an image periodic."""
        return image[self._size]

    def otf(self, kernel: Kernel) -> Spectrum:
        """Fourier transform of a kernel whose middle pixel is the origin."""
        half = len(kernel) // 2
        rows = np.zeros((len(kernel), self.shape[1]), np.float32)
        rows[:, : half + 1], rows[:, -half:] = kernel[:, half:], kernel[:, :half]
        spectrum = np.zeros(self._image.shape, np.complex64)
        transformed = fft.rfft(rows, axis=1)
        spectrum[: half + 1], spectrum[-half:] = transformed[half:], transformed[:half]
        otf: Spectrum = fft.fft(spectrum, axis=0, overwrite_x=True)
        return otf

    def fitted_kernel(self, sharp: tuple[Floats, Floats], start: Kernel, damping: float) -> Kernel:
        """Fit the kernel that turns sharp gradients into those of this window.

        Least squares with `damping` of the kernel's power, relative to the power of the gradients.
        Kernel and `start` have one size. The result can be negative.
        """
        along_y, along_x = (fft.rfft2(g) for g in sharp)
        power = _power(along_y)
        power += _power(along_x)
        cross = np.conj(along_y, out=along_y)
        cross *= self._gradients[0]
        cross += np.conj(along_x, out=along_x) * self._gradients[1]
        half = len(start) // 2
        return _least_squares(
            self._shifts(power, 2 * half), self._shifts(cross, half), start, damping
        )

    def _shifts(self, spectrum: Any, reach: int) -> Floats:
        """Transform a spectrum back, but only shifts of at most `reach` pixels along both axes."""
        shifts = np.arange(-reach, reach + 1)
        rows = fft.ifft(spectrum.astype(np.complex64), axis=0, norm="forward")[shifts]
        plane: Floats = fft.irfft(rows, self.shape[1], axis=1, norm="forward")[:, shifts]
        return plane * np.float32(1 / math.prod(self.shape))

    def _plane(self, spectrum: Any) -> Floats:
        plane: Floats = fft.irfft2(spectrum, self.shape)
        return plane


def _power(spectrum: Spectrum) -> Floats:
    power: Floats = np.abs(spectrum) ** 2
    return power


def _periodic(image: Floats, margin: int) -> Floats:
    """Append ends of at least `margin` pixels where the size allows it."""
    for axis in (0, 1):
        size = image.shape[axis]
        count = min(fft.next_fast_len(size + margin, real=True) - size, size - 2)
        along = (np.arange(count, dtype=np.float32) + np.float32(0.5)) / max(count, 1)
        weight = np.expand_dims(along * along * (3 - 2 * along), 1 - axis)
        last = np.take(image, np.arange(size - 2, size - 2 - count, -1), axis)
        first = np.take(image, np.arange(count, 0, -1), axis)
        image = np.concatenate([image, last * (1 - weight) + first * weight], axis)
    return image


def _roughness(shape: tuple[int, int]) -> Floats:
    """Power of the gradients' transfer function."""
    y = 2 - 2 * np.cos(2 * np.pi * fft.fftfreq(shape[0]))
    x = 2 - 2 * np.cos(2 * np.pi * fft.rfftfreq(shape[1]))
    power: Floats = (y[:, None] + x).astype(np.float32)
    return power


class NormalMatrix:
    """The normal matrix of the fit of a kernel to gradients, multiplied with any kernel.

    Parameters
    ----------
    power
        Autocorrelation of the sharp gradients at shifts up to twice the kernel's half side.
    ridge
        What is added on the diagonal; it keeps kernels small.
    """

    def __init__(self, power: Floats, ridge: float) -> None:
        self._padded = (fft.next_fast_len(len(power), real=True),) * 2
        shifts = np.arange(len(power)) - len(power) // 2
        table = np.zeros(self._padded)
        table[np.ix_(shifts, shifts)] = power
        self._transfer = fft.rfft2(table)
        self._ridge = ridge

    @property
    def largest(self) -> float:
        """No kernel becomes longer by more than this factor."""
        return float(np.abs(self._transfer).max()) + self._ridge

    def __call__(self, kernel: Kernel) -> Kernel:
        """Multiply a kernel."""
        height, width = kernel.shape
        product: Kernel = fft.irfft2(fft.rfft2(kernel, self._padded) * self._transfer, self._padded)
        return product[:height, :width] + self._ridge * kernel


def _least_squares(power: Floats, cross: Floats, start: Kernel, damping: float) -> Kernel:
    """Solve the normal equations on the kernel's support, by conjugate gradients.

    `power` is the autocorrelation of the sharp gradients at shifts up to twice the kernel's half
    side, `cross` their correlation with the blurred ones up to the half side.
    """
    middle = len(power) // 2
    apply = NormalMatrix(power, damping * float(power[middle, middle]))
    target = cross.astype(np.float64)
    kernel = start.copy()
    residual = target - apply(kernel)
    direction = residual.copy()
    size, goal = float((residual**2).sum()), _CONVERGED * float((target**2).sum())
    for _ in range(_STEPS):
        if size <= goal:
            break
        image = apply(direction)
        step = size / float((direction * image).sum())
        kernel += step * direction
        residual -= step * image
        size, before = float((residual**2).sum()), size
        direction = residual + (size / before) * direction
    return kernel
