"""Deconvolution before the network: a local mixture of Wiener filters, chosen by local spectra.

Blur leaves a known curve in the power spectrum. A few layers read the spectra of windows and
predict the share of each filter at every grid point. A small network learns that faster than it
learns deconvolution from pixels. The layers look far around, because blur is often the same over
large areas, and even areas do not show their blur.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_swintormer.models.network.constants import on_cpu
from napari_swintormer.models.network.wiener import WienerBank

if TYPE_CHECKING:
    from napari_swintormer.models.network.network_settings import DeconvolutionSettings

STRIDE = 16
"""Pixels between grid points, at which the shares of the filters are predicted."""

_WINDOW = 64  # pixels of the windows whose spectra are taken
_RINGS, _COARSE_RINGS, _SECTORS = 24, 8, 4  # of frequencies; coarse rings are cut into sectors
_BINS = _RINGS + _COARSE_RINGS * _SECTORS
_ROWS_AT_ONCE = 2  # of windows
_FLOOR = 1e-4  # power, far below the rounding noise of 8-bit images
# Normalise the logarithms of power spectra to about mean 0 and deviation 1.
_LOG_MEAN, _LOG_DEVIATION = -2.0, 4.0


class LocalDeconvolution(nn.Module):
    """Predicts the residual of a deconvolution from local spectra; zero before training."""

    bins: Tensor
    fading: Tensor

    def __init__(self, settings: DeconvolutionSettings) -> None:
        super().__init__()
        self.knows_kind = settings.knows_kind
        self.bank = WienerBank(settings)
        self.register_buffer("bins", frequency_bins(), persistent=False)
        self.register_buffer("fading", _fading(), persistent=False)
        self.embed = nn.Linear(_BINS + 1, settings.dim)
        if settings.knows_kind:
            self.embed_photo = nn.Parameter(torch.zeros(settings.dim))
        self.blocks = nn.ModuleList(ConvBlock(settings.dim, d) for d in settings.dilations)
        self.shares = nn.Linear(settings.dim, settings.n_results)
        nn.init.zeros_(self.shares.weight)
        nn.init.zeros_(self.shares.bias)

    def forward(self, images: Tensor, photo: Tensor | None = None) -> Tensor:
        """Return the residual of ``(B, C, H, W)`` in unit intensities, the same shape, float32.

        H and W are multiples of `STRIDE`. `photo` is ``(B,)``, 1 for photos and 0 for micrographs,
        for a deconvolution that knows the kind.
        """
        # spectra and wide filters need float32, and cost little
        with torch.autocast(images.device.type, enabled=False):
            images = images.float()
            luminance = images.mean(dim=1, keepdim=True)
            brightness = (F.avg_pool2d(luminance, STRIDE) - 0.5).permute(0, 2, 3, 1)
            x = self.embed(torch.cat([self._spectra(luminance[:, 0]), brightness], dim=-1))
            if photo is not None:
                x = x + photo.float()[:, None, None, None] * self.embed_photo
            for block in self.blocks:
                x = block(x)
            shares = self.shares(x).permute(0, 3, 1, 2).contiguous()
            shares = F.interpolate(
                shares, scale_factor=STRIDE, mode="bilinear", align_corners=False
            )
            return self.bank.mix(images, shares)

    def _spectra(self, planes: Tensor) -> Tensor:
        """Take the logarithm of the power around each grid point, ``(B, H/16, W/16, bins)``."""
        margin = (_WINDOW - STRIDE) // 2
        padded = F.pad(planes[:, None], (margin,) * 4, mode="replicate")[:, 0]
        rows = padded.unfold(1, _WINDOW, STRIDE).unfold(2, _WINDOW, STRIDE)
        on_cpu = planes.device.type == "cpu"
        # what is made of a few rows of windows stays in the cache of a CPU
        parts = torch.split(rows, _ROWS_AT_ONCE, dim=1) if on_cpu else (rows,)
        return torch.cat([self._logarithms(part) for part in parts], dim=1)

    def _logarithms(self, windows: Tensor) -> Tensor:
        windows = windows - windows.mean(dim=(-2, -1), keepdim=True)
        transformed = torch.fft.rfft2(windows * self.fading)
        power = transformed.real.square() + transformed.imag.square()
        logarithm = torch.log(power.flatten(-2) @ self.bins.T + _FLOOR)
        return (logarithm - _LOG_MEAN) / _LOG_DEVIATION


class ConvBlock(nn.Module):
    """Dilated depthwise convolution and two linear maps, added to the input."""

    def __init__(self, dim: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=dilation, dilation=dilation, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.project = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Transform ``(B, H, W, C)``."""
        y = self.depthwise(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        residual: Tensor = self.project(F.gelu(self.expand(self.norm(y))))
        return x + residual


@on_cpu
def _fading() -> Tensor:
    fading = torch.hann_window(_WINDOW, periodic=False)
    return fading[:, None] * fading


@on_cpu
def frequency_bins() -> Tensor:
    """Make the matrix that averages half a spectrum over rings, and over sectors of coarser rings.

    ``(bins, 64 * 33)`` with rows of sum 1; multiplies the flattened power of `torch.fft.rfft2`.
    """
    fy, fx = torch.fft.fftfreq(_WINDOW)[:, None], torch.fft.rfftfreq(_WINDOW)
    frequency = torch.hypot(fy, fx)
    # half a spectrum has the directions of lines: opposite directions are the same
    sector = ((torch.atan2(fy, fx) / torch.pi + 0.5) * _SECTORS + 0.5).long() % _SECTORS

    def rings(number: int) -> Tensor:
        return (frequency * 2 * number).long().clamp_max(number - 1)

    fine, coarse = rings(_RINGS), rings(_COARSE_RINGS) * _SECTORS + sector
    masks = [(fine == i) for i in range(_RINGS)]
    masks += [(coarse == i) for i in range(_COARSE_RINGS * _SECTORS)]
    bins = torch.stack(masks).flatten(1).float()
    return bins / bins.sum(dim=1, keepdim=True)
