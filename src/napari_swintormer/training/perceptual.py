"""The perceptual loss: images are compared by what a network for classification sees in them.

Features are those of VGG19 trained on ImageNet, at the layers that the paper names.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor, nn

from napari_swintormer.config import cache_folder
from napari_swintormer.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Mapping

VGG19_URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
VGG19_SHA256 = "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44"
# Channels of the convolutions, level by level; between levels the resolution is halved.
_LEVELS = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
# Convolutions whose output is compared, by level and number there: conv1_1, 2_1, 3_1, 4_1, 5_4.
_COMPARED = ((1, 1), (2, 1), (3, 1), (4, 1), (5, 4))
# Of the images that VGG19 was trained on.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Perceptual(nn.Module):
    """Mean absolute difference of VGG19's features, the mean over its five layers.

    Parameters
    ----------
    file
        VGG19's parameters as torchvision gives them; None fetches them once and keeps them.

    Raises
    ------
    TrainingError
        The parameters cannot be had, or are others.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, file: Path | None = None) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        channels = 3
        with torch.device("meta"):  # no random numbers for what is read from a file
            for level in _LEVELS:
                for wider in level:
                    self.convolutions.append(nn.Conv2d(channels, wider, 3, padding=1))
                    channels = wider
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        _load(self.convolutions, _fetch() if file is None else file)
        self.eval().requires_grad_(False)

    def forward(self, restored: Tensor, sharp: Tensor) -> Tensor:
        """Compare two ``(B, C, H, W)`` batches in unit range, sides at least 16.

        Where `sharp` is NaN it counts as equal; one channel is taken for grey.
        """
        sharp = torch.where(sharp.isnan(), restored.detach(), sharp)
        with torch.autocast(restored.device.type, enabled=False):
            self.to(restored.device)
            pairs = zip(self._features(restored.float()), self._features(sharp), strict=True)
            return torch.stack([F.l1_loss(one, other) for one, other in pairs]).mean()

    def _features(self, images: Tensor) -> list[Tensor]:
        """Give what the compared layers see, before it is rectified."""
        x = (images.expand(-1, 3, -1, -1) - self.mean) / self.deviation
        features, convolutions = [], iter(self.convolutions)
        for level, channels in enumerate(_LEVELS, start=1):
            for number in range(1, len(channels) + 1):
                seen = next(convolutions)(x)
                if (level, number) in _COMPARED:
                    features.append(seen)
                x = F.relu(seen)
            x = F.max_pool2d(x, 2) if level < len(_LEVELS) else x
        return features


def _fetch() -> Path:
    import pooch

    folder = cache_folder() / "vgg19"
    try:
        return Path(
            pooch.retrieve(
                VGG19_URL, f"sha256:{VGG19_SHA256}", VGG19_URL.rpartition("/")[2], folder
            )
        )
    except (OSError, ValueError) as error:  # no connection; or not the file that was expected
        raise TrainingError(
            f"VGG19's parameters (548 MB) cannot be fetched from {VGG19_URL} "
            f"({' '.join(str(error).split())[:200]}). Fetch the file by other means and name it as "
            "vgg19, or use another loss."
        ) from error


def _load(convolutions: nn.ModuleList, file: Path) -> None:
    """Take the convolutions out of torchvision's file, as data: nothing in it is executed."""
    if not file.is_file():
        raise TrainingError(f"There is no file {file} with VGG19's parameters.")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or truncated pickle can raise anything
        raise TrainingError(
            f"{file} is damaged, or holds more than plain weights. Use torchvision's "
            f"{VGG19_URL.rpartition('/')[2]}."
        ) from error
    state = _renamed(content) if isinstance(content, dict) else {}
    wanted = {key: value.shape for key, value in convolutions.state_dict().items()}
    if {key: value.shape for key, value in state.items()} != wanted:
        raise TrainingError(
            f"{file} does not hold the parameters of VGG19. Use torchvision's "
            f"{VGG19_URL.rpartition('/')[2]}."
        )
    convolutions.load_state_dict(state, assign=True)


def _renamed(content: Mapping[str, object]) -> dict[str, Tensor]:
    """Count the convolutions alone; torchvision counts what lies between them, too."""
    own = {key: value for key, value in content.items() if str(key).startswith("features.")}
    places = sorted({int(k.split(".")[1]) for k in own if k.split(".")[1].isdecimal()})
    return {
        f"{places.index(int(number))}.{kind}": value
        for (_, number, kind), value in ((key.split("."), value) for key, value in own.items())
        if isinstance(value, Tensor)
    }
