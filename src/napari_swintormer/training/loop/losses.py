"""Losses, and the PSNR that validation reports.

A target is NaN where annotations leave pixels out; the difference counts as zero there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from napari_swintormer.models.files.published import Published
from napari_swintormer.training.settings_check import parse_loss

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Loss = Callable[[Tensor, Tensor], Tensor]

_CHARBONNIER_EPSILON = 1e-3
_DECIBEL_EPSILON = 1e-4  # the error at 40 dB; smaller errors hardly count


VGG19 = Published(
    "VGG19",
    "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    "548 MB",
)
# Channels of the convolutions per level; the resolution is halved between levels.
_LEVELS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
# Level and number of the convolutions that are compared: conv1_1, 2_1, 3_1, 4_1, 5_4.
_COMPARED = ((1, 1), (2, 1), (3, 1), (4, 1), (5, 4))
# Mean and standard deviation of ImageNet, which VGG19 was trained on.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


class Perceptual(nn.Module):
    """Mean absolute difference of the features of VGG19, averaged over five layers.

    `file` has the parameters as torchvision provides them; None fetches them once and keeps them.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        channels = 3
        with torch.device("meta"):  # the parameters are read from a file
            for level in _LEVELS:
                for wider in level:
                    self.convolutions.append(nn.Conv2d(channels, wider, 3, padding=1))
                    channels = wider
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        VGG19.fill_convolutions(self.convolutions, VGG19.fetch() if file is None else file)
        self.eval().requires_grad_(False)

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        """Compare two ``(B, C, H, W)`` batches in unit range, sides at least 16.

        Pixels where `sharp` is NaN count as equal. One channel counts as grey.
        """
        sharp = torch.where(sharp.isnan(), restored.detach(), sharp)
        with torch.autocast(restored.device.type, enabled=False):
            self.to(restored.device)
            pairs = zip(self._features(restored.float()), self._features(sharp), strict=True)
            return torch.stack([F.l1_loss(one, other) for one, other in pairs]).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        """Return the output of the compared layers, before the ReLU."""
        x = (images.expand(-1, 3, -1, -1) - self.mean) / self.deviation
        features, convolutions = [], iter(self.convolutions)
        for level, channels in enumerate(_LEVELS, start=1):
            for number in range(1, len(channels) + 1):
                output = next(convolutions)(x)
                if (level, number) in _COMPARED:
                    features.append(output)
                x = F.relu(output)
            x = F.max_pool2d(x, 2) if level < len(_LEVELS) else x
        return features


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
