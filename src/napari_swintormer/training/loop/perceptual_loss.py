"""The perceptual loss: the difference of features of VGG19, at the layers that the paper names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from napari_swintormer.models.files.published import Published

if TYPE_CHECKING:
    from pathlib import Path

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
