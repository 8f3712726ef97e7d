"""What training minimises and validation reports.

A target is NaN where annotations leave pixels out: the difference counts as zero there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from napari_swintormer.training.loop.perceptual_loss import Perceptual
from napari_swintormer.training.train_settings import parse_loss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    Loss = Callable[[Tensor, Tensor], Tensor]

_CHARBONNIER_EPSILON = 1e-3
_DECIBEL_EPSILON = 1e-4  # that of 40 dB: what is better is good


def l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of two ``(B, C, H, W)`` batches in unit range."""
    return _difference(restored, sharp).abs().mean()


def charbonnier(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean of ``sqrt(difference² + 1e-6)``: like `l1`, but smooth where the difference is small."""
    difference = _difference(restored, sharp)
    return (difference.square() + _CHARBONNIER_EPSILON**2).sqrt().mean()


def frequency(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean magnitude of the difference's Fourier coefficients (of an orthonormal transform).

    Details weigh as much as areas, which holds the network to them.
    """
    coefficients: Tensor = torch.fft.rfft2(_difference(restored, sharp), norm="ortho")
    return coefficients.abs().mean()


def decibel(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean over the patches of the mean squared difference in decibels: minus the PSNR.

    A decibel won counts alike in every patch. In a mean of differences, a patch that is blurred
    widely counts ten times as much as one that is nearly sharp.
    """
    mse = _difference(restored, sharp).square().mean(dim=(1, 2, 3))
    return (10 * (mse + _DECIBEL_EPSILON).log10()).mean()


_LOSSES: dict[str, Loss] = {
    "l1": l1,
    "charbonnier": charbonnier,
    "frequency": frequency,
    "decibel": decibel,
}


def make_loss(text: str, vgg19: Path | None = None) -> Loss:
    """Make the function of a weighted sum, see `train_settings.parse_loss`.

    Parameters
    ----------
    text
        The sum.
    vgg19
        File that the perceptual loss reads; None fetches it.
    """

    def find(name: str) -> Loss:
        return Perceptual(vgg19) if name == "perceptual" else _LOSSES[name]

    (first, begin), *others = [(weight, find(name)) for weight, name in parse_loss(text)]

    def loss(restored: Tensor, sharp: Tensor) -> Tensor:
        total = first * begin(restored, sharp)
        for weight, other in others:
            total = total + weight * other(restored, sharp)
        return total

    return loss


def psnr(image: Tensor, sharp: Tensor) -> float:
    """Mean over a batch of the peak signal-to-noise ratio in dB, for a peak of 1.

    An image closer than 60 dB counts as 60 dB, so that an equal one does not make the mean
    infinite.
    """
    known = sharp.isfinite().sum(dim=(1, 2, 3)).clamp_min(1)
    mse = _difference(image, sharp).square().sum(dim=(1, 2, 3)) / known
    return float((-10 / math.log(10) * mse.clamp_min(1e-6).log()).mean())


def _difference(restored: Tensor, sharp: Tensor) -> Tensor:
    return torch.where(sharp.isnan(), 0.0, restored - sharp)
