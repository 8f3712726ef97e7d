"""A part of a blurred image, prepared for many trials of a kernel."""

from __future__ import annotations

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
        otf = self.otf(kernel)
        power = np.abs(otf) ** 2 + np.float32(damping) * self._roughness
        return self._plane(np.conj(otf) * self._image / power)

    def crop(self, image: Floats) -> Floats:
        """Cut off the ends that make an image periodic."""
        return image[self._size]

    def otf(self, kernel: Kernel) -> Spectrum:
        """Fourier transform of a kernel whose middle pixel is the origin."""
        half = len(kernel) // 2
        plane = np.zeros(self.shape, np.float32)
        plane[: len(kernel), : len(kernel)] = kernel
        spectrum: Spectrum = fft.rfft2(np.roll(plane, (-half, -half), (0, 1)))
        return spectrum

    def fitted_kernel(self, sharp: tuple[Floats, Floats], start: Kernel, damping: float) -> Kernel:
        """Fit the kernel that turns sharp gradients into those of this window.

        Least squares with `damping` of the kernel's power, relative to the power of the gradients.
        Kernel and `start` have one size. The result can be negative.
        """
        spectra = [fft.rfft2(g) for g in sharp]
        power = sum(np.abs(s) ** 2 for s in spectra)
        cross = sum(np.conj(s) * g for s, g in zip(spectra, self._gradients, strict=True))
        return _least_squares(self._plane(power), self._plane(cross), start, damping)

    def _plane(self, spectrum: Any) -> Floats:
        plane: Floats = fft.irfft2(spectrum, self.shape)
        return plane


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


def _least_squares(power: Floats, cross: Floats, start: Kernel, damping: float) -> Kernel:
    """Solve the normal equations on the kernel's support, by conjugate gradients.

    `power` is the autocorrelation of the sharp gradients, `cross` their correlation with the
    blurred ones; both start at shift (0, 0).
    """
    half, side = len(start) // 2, len(start)
    padded = (fft.next_fast_len(4 * half + 1, real=True),) * 2
    shifts = np.arange(-2 * half, 2 * half + 1)
    table = np.zeros(padded)
    table[np.ix_(shifts, shifts)] = power[np.ix_(shifts, shifts)]
    transfer = fft.rfft2(table)
    ridge = damping * float(power[0, 0])

    def apply(kernel: Kernel) -> Kernel:
        product: Kernel = fft.irfft2(fft.rfft2(kernel, padded) * transfer, padded)
        return product[:side, :side] + ridge * kernel

    near = np.arange(-half, half + 1)
    target = cross[np.ix_(near, near)].astype(np.float64)
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
