"""Losses, and the PSNR that validation reports.

A target is NaN where annotations leave pixels out; the difference counts as zero there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from napari_swintormer.training.loop.perceptual_loss import Perceptual
from napari_swintormer.training.settings_check import parse_loss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    Loss = Callable[[Tensor, Tensor], Tensor]

_CHARBONNIER_EPSILON = 1e-3
_DECIBEL_EPSILON = 1e-4  # the error at 40 dB; smaller errors hardly count


def l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of two ``(B, C, H, W)`` batches in unit range."""
    return _difference(restored, sharp).abs().mean()


def charbonnier(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean of ``sqrt(difference² + 1e-6)``: like `l1`, but smooth for small differences."""
    difference = _difference(restored, sharp)
    return (difference.square() + _CHARBONNIER_EPSILON**2).sqrt().mean()


def frequency(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean magnitude of the Fourier coefficients of the difference (orthonormal transform).

    Fine details count as much as large areas.
    """
    coefficients: Tensor = torch.fft.rfft2(_difference(restored, sharp), norm="ortho")
    return coefficients.abs().mean()


def decibel(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean over the patches of the mean squared difference in decibels: minus the PSNR.

    A decibel counts the same in every patch. In a mean of differences, a widely blurred patch
    counts ten times as much as a nearly sharp one.
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
    """Make the loss of a weighted sum such as ``"l1 + 0.1 * frequency"``.

    `vgg19` is the file of the perceptual loss; None fetches it.
    """
    terms = [
        (weight, Perceptual(vgg19) if name == "perceptual" else _LOSSES[name])
        for weight, name in parse_loss(text)
    ]

    def loss(restored: Tensor, sharp: Tensor) -> Tensor:
        (weight, function), *others = terms
        total = weight * function(restored, sharp)
        for weight, function in others:
            total = total + weight * function(restored, sharp)
        return total

    return loss


def psnr(image: Tensor, sharp: Tensor) -> float:
    """Mean over a batch of the peak signal-to-noise ratio in dB, for a peak of 1.

    At most 60 dB per image, so that an equal image does not make the mean infinite.
    """
    known = sharp.isfinite().sum(dim=(1, 2, 3)).clamp_min(1)
    mse = _difference(image, sharp).square().sum(dim=(1, 2, 3)) / known
    return float((-10 / math.log(10) * mse.clamp_min(1e-6).log()).mean())


def _difference(restored: Tensor, sharp: Tensor) -> Tensor:
    return torch.where(sharp.isnan(), 0.0, restored - sharp)
