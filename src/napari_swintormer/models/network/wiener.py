"""A bank of Wiener filters, one for each of several blurs that an image may have.

The inverse of a blur is a filter that is wider than the blur and changes its sign many times. A
small network learns such a filter slowly, and it is known in closed form. The bank holds filters
for some disks and Gaussians; mixtures of them undo the blurs between.

With the blur's optical transfer function (OTF) ``H`` a filter is ``H / (H² + noise)``, as a kernel
of finite reach. A pixel depends on its surroundings only, so neighbouring tiles agree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor, nn

from napari_swintormer.models.network.constants import on_cpu

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_swintormer.models.network.network_settings import DeconvolutionSettings

_DARK = 1e-30  # light that stands for none
_GRID = 256  # pixels of the grid that kernels are computed on, far beyond their reach


class WienerBank(nn.Module):
    """Filters images; on a CPU plane by plane, so that a result does not depend on the batch."""

    kernels: Tensor

    def __init__(self, settings: DeconvolutionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("kernels", wiener_kernels(settings), persistent=False)
        self._transformed: tuple[object, Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave cached spectra out of pickles and copies."""
        return self.__dict__ | {"_transformed": None}

    def _apply(self, fn: Any, recurse: bool = True) -> WienerBank:
        """Move the bank, and drop cached spectra, which would stay on the old device."""
        self._transformed = None
        return super()._apply(fn, recurse)  # type: ignore[no-any-return, no-untyped-call]

    def mix(self, images: Tensor, shares: Tensor) -> Tensor:
        """Sum the residuals of the filters, weighted by their shares; ``(B, C, H, W)`` float32.

        Parameters
        ----------
        images
            ``(B, C, H, W)`` float32 in unit intensities; H and W are larger than the reach.
        shares
            ``(B, settings.n_results, H, W)`` float32, in the order of `residuals`.
        """
        if images.device.type != "cpu":  # one call for all planes: each call costs time
            return self._mixed(images, shares)
        mixed = [
            self._mixed(plane[None, None], own[None])
            for image, own in zip(images, shares, strict=True)
            for plane in image
        ]
        return torch.cat(mixed).view(images.shape)

    def _mixed(self, images: Tensor, shares: Tensor) -> Tensor:
        n_filters, total = self.settings.n_filters, torch.zeros_like(images)
        if self.settings.gamma is not None:  # filters in light yield images, not residuals
            total.addcmul_(images, shares[:, n_filters:].sum(dim=1, keepdim=True), value=-1)
        for number, result in self._results(images):
            total.addcmul_(shares[:, number, None], result)
        return total

    def residuals(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield filtered minus given ``(..., H, W)`` with the number of its share.

        The numbers count the filters, and on from there the filters in light.
        """
        for number, result in self._results(images):
            yield number, result if number < self.settings.n_filters else result - images

    def _results(self, images: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield the residual of each filter, and what each filter in light makes of `images`."""
        gamma, n_filters = self.settings.gamma, self.settings.n_filters
        if gamma is None:
            yield from enumerate(self.convolved(images))
            return
        light = images.clamp_min(0) ** gamma
        # a real filter leaves the parts of a complex image apart: one transform does for two
        for number, both in enumerate(self.convolved(torch.complex(images, light))):
            yield number, both.real
            # the root of zero takes ten times as long as that of other numbers
            yield n_filters + number, (light + both.imag).clamp_min_(_DARK) ** (1 / gamma)

    def convolved(self, images: Tensor) -> Iterator[Tensor]:
        """Convolve ``(..., H, W)``, mirrored at its border, with each kernel; real or complex.

        One kernel at a time needs little memory. On a CPU one plane at a time stays in its cache.
        """
        (height, width), reach = images.shape[-2:], self.settings.reach
        padded = F.pad(images.reshape(1, -1, height, width), (reach,) * 4, mode="reflect")
        padded = padded.view(*images.shape[:-2], *padded.shape[2:])
        # a circular convolution wraps around within the margin only
        size = [next_fast_len(n, real=True) for n in padded.shape[-2:]]
        both = images.is_complex()
        forward, back = (
            (torch.fft.fft2, torch.fft.ifft2) if both else (torch.fft.rfft2, torch.fft.irfft2)
        )
        spectrum = forward(padded, s=size)
        for transform in self._transform(size, whole=both):
            filtered = back(_scaled(spectrum, transform), s=size)
            yield filtered[..., reach : reach + height, reach : reach + width]

    def _transform(self, size: list[int], whole: bool) -> Tensor:
        """Transform the kernels, which are even, to real spectra; cached for the last size.

        The spectra are whole, or half of that for real images.
        """
        kernels = self.kernels
        key = (*size, whole, kernels.device, kernels.dtype)
        cached = self._transformed  # read once: threads may share the bank
        if cached is None or cached[0] != key:
            side, reach = kernels.shape[-1], self.settings.reach
            with torch.inference_mode(False):  # training may use the cached spectra later
                padded = F.pad(kernels.clone(), (0, size[1] - side, 0, size[0] - side))
                padded = padded.roll((-reach, -reach), (1, 2))
                spectra = torch.fft.fft2(padded) if whole else torch.fft.rfft2(padded)
                # once for the real and once for the imaginary part: torch would make complex
                # numbers of real ones before it multiplies
                transform = spectra.real.repeat_interleave(2, dim=-1)
            cached = self._transformed = (key, transform)
        return cached[1]


def _scaled(spectrum: Tensor, factors: Tensor) -> Tensor:
    """Multiply complex numbers ``(..., W)`` by real ones, each given twice, ``(..., 2 * W)``."""
    parts = torch.view_as_real(spectrum).flatten(-2) * factors
    return torch.view_as_complex(parts.view(*spectrum.shape, 2))


@on_cpu
def wiener_kernels(settings: DeconvolutionSettings) -> Tensor:
    """Make the kernels of the residuals, ``(K, 2 * reach + 1, 2 * reach + 1)`` of sum 0.

    At the frequency f the OTF of a disk of radius r is ``2 J1(2πfr) / (2πfr)``, that of a Gaussian
    ``exp(-2 (πfσ)²)``. Kernels fade to zero from half their reach on.
    """
    axis = torch.fft.fftfreq(_GRID, dtype=torch.float64)
    frequency = torch.hypot(axis[:, None], axis)
    # 1e-9 stands for zero, where the quotient has its limit
    angles = [(2 * math.pi * r * frequency).clamp_min(1e-9) for r in settings.disks]
    otfs = [2 * torch.special.bessel_j1(angle) / angle for angle in angles]
    otfs += [torch.exp(-2 * (math.pi * sigma * frequency) ** 2) for sigma in settings.gaussians]

    reach, noise = settings.reach, settings.noise
    near = torch.arange(-reach, reach + 1, dtype=torch.float64)
    distance = torch.hypot(near[:, None], near)
    fading = ((reach + 0.5 - distance) / (reach / 2)).clamp(0, 1)
    fading = (1 - torch.cos(math.pi * fading)) / 2
    middle = slice(_GRID // 2 - reach, _GRID // 2 + reach + 1)
    kernels = []
    for otf in otfs:
        kernel = torch.fft.ifft2((1 + noise) * otf / (otf.square() + noise)).real
        kernel = torch.fft.fftshift(kernel)[middle, middle] * fading
        kernel[reach, reach] -= 1
        # an even image must not change: spread the sum that was cut off over the kernel
        kernel = kernel - fading * (kernel.sum() / fading.sum())
        kernels.append(kernel)
    return torch.stack(kernels).float()
