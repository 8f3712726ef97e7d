"""A bank of Wiener filters: what an image would be, had it been blurred in one of several ways.

What undoes a blur is a filter wider than the blur, whose sign changes many times: a small network
is slow to learn that, and it is known in closed form. There is one for each of some disks and
Gaussians, and mixtures of them undo what lies between.

A filter is ``H / (H² + noise)``, of the blur's transfer function ``H``, as a kernel of finite
reach: what a pixel gets depends on its surroundings alone, so that neighbouring tiles agree.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from scipy.fft import next_fast_len
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_swintormer.models.network.network_settings import DeconvolutionSettings

_GRID = 256  # pixels of the grid that kernels are computed on, far beyond their reach


class WienerBank(nn.Module):
    """Filters images plane by plane, so that a result does not depend on the batch.

    Parameters
    ----------
    settings
        Blurs to undo, and how strongly.
    """

    kernels: Tensor

    def __init__(self, settings: DeconvolutionSettings) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("kernels", wiener_kernels(settings), persistent=False)
        self._transformed: tuple[object, Tensor] | None = None

    def mix(self, images: Tensor, shares: Tensor) -> Tensor:
        """Sum up what the filters add, each with its share.

        Parameters
        ----------
        images
            ``(B, C, H, W)`` float32 in unit intensities; H and W are larger than the reach.
        shares
            ``(B, settings.n_results, H, W)`` float32; of the K filters, then of the same in light.

        Returns
        -------
        Tensor
            ``(B, C, H, W)`` float32.
        """
        mixed = []
        for image, own in zip(images, shares, strict=True):
            for plane in image:
                total = torch.zeros_like(plane)
                for share, result in zip(own, self.results(plane), strict=True):
                    total = total + share * result
                mixed.append(total)
        return torch.stack(mixed).view(images.shape)

    def results(self, plane: Tensor) -> Iterator[Tensor]:
        """Yield what each filter adds to ``(H, W)``, then what each adds to it in light."""
        gamma = self.settings.gamma
        yield from self.added(plane)
        if gamma is not None:
            light = plane.clamp_min(0) ** gamma
            for added in self.added(light):
                yield (light + added).clamp_min(0) ** (1 / gamma) - plane

    def added(self, plane: Tensor) -> Iterator[Tensor]:
        """Convolve ``(H, W)``, mirrored at its border, with each kernel, one after the other.

        All at once would take longer: one fits in the cache of a CPU.
        """
        (height, width), reach = plane.shape, self.settings.reach
        padded = F.pad(plane[None, None], (reach,) * 4, mode="reflect")[0, 0]
        # what wraps around a circular convolution stays within the margin
        size = [next_fast_len(n, real=True) for n in padded.shape]
        spectrum = torch.fft.rfft2(padded, s=size)
        for transform in self._transform(size):
            filtered = torch.fft.irfft2(spectrum * transform, s=size)
            yield filtered[reach : reach + height, reach : reach + width]

    def _transform(self, size: list[int]) -> Tensor:
        """Transform the kernels: real, since they are even, and kept while the size is the same."""
        kernels = self.kernels
        asked_for = (*size, kernels.device, kernels.dtype)
        known = self._transformed  # looked at once: threads may share the bank
        if known is None or known[0] != asked_for:
            side, reach = kernels.shape[-1], self.settings.reach
            with torch.inference_mode(False):  # else training could not use what it left
                placed = F.pad(kernels.clone(), (0, size[1] - side, 0, size[0] - side))
                placed = placed.roll((-reach, -reach), (1, 2))
                transform = torch.fft.rfft2(placed).real.contiguous()
            known = self._transformed = (asked_for, transform)
        return known[1]


def wiener_kernels(settings: DeconvolutionSettings) -> Tensor:
    """Make the kernels of what the filters add, ``(K, 2 * reach + 1, 2 * reach + 1)`` of sum 0.

    The transfer function of a disk of radius r is ``2 J1(2πfr) / (2πfr)`` at the frequency f, that
    of a Gaussian ``exp(-2 (πfσ)²)``. From half their reach on the kernels fade out.
    """
    axis = torch.fft.fftfreq(_GRID, dtype=torch.float64)
    frequency = torch.hypot(axis[:, None], axis)
    # 1e-9 stands for zero, where the quotient has its limit
    angles = [(2 * math.pi * r * frequency).clamp_min(1e-9) for r in settings.disks]
    transfer = [2 * torch.special.bessel_j1(angle) / angle for angle in angles]
    transfer += [torch.exp(-2 * (math.pi * sigma * frequency) ** 2) for sigma in settings.gaussians]

    reach, noise = settings.reach, settings.noise
    near = torch.arange(-reach, reach + 1, dtype=torch.float64)
    distance = torch.hypot(near[:, None], near)
    fading = ((reach + 0.5 - distance) / (reach / 2)).clamp(0, 1)
    fading = (1 - torch.cos(math.pi * fading)) / 2
    kernels = []
    for blur in transfer:
        kernel = torch.fft.ifft2((1 + noise) * blur / (blur.square() + noise)).real
        kernel = torch.fft.fftshift(kernel)
        middle = slice(_GRID // 2 - reach, _GRID // 2 + reach + 1)
        kernel = kernel[middle, middle] * fading
        kernel[reach, reach] -= 1
        # an even image stays as it is: what is cut off of a wide kernel is made good smoothly
        kernel = kernel - fading * (kernel.sum() / fading.sum())
        kernels.append(kernel)
    return torch.stack(kernels).float()
