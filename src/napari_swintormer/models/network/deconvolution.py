"""Deconvolution before the network: of Wiener filters, those that the local spectrum asks for.

How blurred a place is shows in its power spectrum, in which blur leaves a known curve: sooner
than a network learns to see that in pixels, a small one learns it from the spectra of windows. What
undoes the blur need not be learned at all, see `models.network.wiener`. So a few layers say
 of every place how much is to be taken of which filter, and the network goes on from there. They
look far around, because most blur is the same there and many a place is too even to tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_swintormer.models.network.wiener import WienerBank

if TYPE_CHECKING:
    from napari_swintormer.models.network.network_settings import DeconvolutionSettings

STRIDE = 16
"""Pixels from one place that is looked at to the next."""

_WINDOW = 64  # pixels of the windows whose spectra are taken
_RINGS, _COARSE_RINGS, _SECTORS = 24, 8, 4  # of frequencies; the coarse rings are cut into sectors
_BINS = _RINGS + _COARSE_RINGS * _SECTORS
_FLOOR = 1e-4  # power, that of noise far below what 8 bits round
# Brings the logarithms of power spectra to a mean near 0 and a deviation near 1.
_LOG_MEAN, _LOG_DEVIATION = -2.0, 4.0


class LocalDeconvolution(nn.Module):
    """Says what deconvolution adds, as local spectra ask for; one that is not trained, nothing.

    Parameters
    ----------
    settings
        Filters, and sizes of what chooses among them.
    """

    bins: Tensor
    fading: Tensor

    def __init__(self, settings: DeconvolutionSettings) -> None:
        super().__init__()
        self.bank = WienerBank(settings)
        self.register_buffer("bins", frequency_bins(), persistent=False)
        fading = torch.hann_window(_WINDOW, periodic=False)
        self.register_buffer("fading", fading[:, None] * fading, persistent=False)
        self.embed = nn.Linear(_BINS + 1, settings.dim)
        self.blocks = nn.ModuleList(ConvBlock(settings.dim, d) for d in settings.dilations)
        self.shares = nn.Linear(settings.dim, settings.n_results)
        nn.init.zeros_(self.shares.weight)
        nn.init.zeros_(self.shares.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Look at ``(B, C, H, W)`` in unit intensities; H and W are multiples of `STRIDE`.

        Returns
        -------
        Tensor
            What is to be added, the same shape, float32.
        """
        # spectra and wide filters need all digits, and cost little
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            luminance = images.mean(dim=1, keepdim=True)
            bright = F.avg_pool2d(luminance, STRIDE) - 0.5
            seen = torch.cat([self._spectra(luminance[:, 0]), bright.permute(0, 2, 3, 1)], dim=-1)
            x = self.embed(seen)
            for block in self.blocks:
                x = block(x)
            shares = self.shares(x).permute(0, 3, 1, 2).contiguous()
            shares = F.interpolate(
                shares, scale_factor=STRIDE, mode="bilinear", align_corners=False
            )
            return self.bank.mix(images, shares)

    def _spectra(self, planes: Tensor) -> Tensor:
        """Logarithm of the power by frequency around every place, ``(B, H / 16, W / 16, bins)``."""
        margin = (_WINDOW - STRIDE) // 2
        padded = F.pad(planes[:, None], (margin,) * 4, mode="replicate")[:, 0]
        windows = padded.unfold(1, _WINDOW, STRIDE).unfold(2, _WINDOW, STRIDE)
        windows = windows - windows.mean(dim=(-2, -1), keepdim=True)
        transformed = torch.fft.rfft2(windows * self.fading)
        power = transformed.real.square() + transformed.imag.square()
        logarithm = torch.log(power.flatten(-2) @ self.bins.T + _FLOOR)
        return (logarithm - _LOG_MEAN) / _LOG_DEVIATION


class ConvBlock(nn.Module):
    """Depthwise convolution and two linear maps, added to the input.

    Parameters
    ----------
    dim
        Channels.
    dilation
        Of the convolution.
    """

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=dilation, dilation=dilation, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.project = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, H, W, C)``."""
        y = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        added: Tensor = self.project(F.gelu(self.expand(self.norm(y))))
        return x + added


def frequency_bins() -> Tensor:
    """Mean over rings of frequencies, and over sectors of coarser rings, of half a spectrum.

    Returns
    -------
    Tensor
        ``(bins, 64 * 33)``, rows of sum 1; multiplies the flattened power of `torch.fft.rfft2`.
    """
    fy, fx = torch.fft.fftfreq(_WINDOW)[:, None], torch.fft.rfftfreq(_WINDOW)
    frequency = torch.hypot(fy, fx)
    # half of the plane is there, so directions are those of lines: no side of them is told apart
    sector = ((torch.atan2(fy, fx) / torch.pi + 0.5) * _SECTORS + 0.5).long() % _SECTORS

    def rings(number: int) -> Tensor:
        return (frequency * 2 * number).long().clamp_max(number - 1)

    fine, coarse = rings(_RINGS), rings(_COARSE_RINGS) * _SECTORS + sector
    masks = [(fine == i) for i in range(_RINGS)]
    masks += [(coarse == i) for i in range(_COARSE_RINGS * _SECTORS)]
    bins = torch.stack(masks).flatten(1).float()
    return bins / bins.sum(dim=1, keepdim=True)
