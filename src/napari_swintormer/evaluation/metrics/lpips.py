"""LPIPS: the distance between images in the features of a network for classification.

Zhang et al., *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric* (CVPR 2018),
version 0.1 with AlexNet, as in published tables. The authors' package needs a torchvision that
matches the installed torch exactly, but the metric itself is five convolutions. Their parameters
are fetched on first use. If that fails, a sentence says so and the metric is left out.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from napari_swintormer.models.files.published import Published

_SMALLEST = 32  # pixels on a side
# Output channels, kernel size, stride and padding of AlexNet's convolutions.
_CONVOLUTIONS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_POOLED = (1, 2)  # convolutions that come after a max pooling of 3 x 3 with stride 2
# These map intensities in [-1, 1] to the ones that AlexNet was trained on.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_FILES = {
    "alexnet": (
        "AlexNet",
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        "233 MB",
    ),
    "weights": (
        "LPIPS",
        "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/"
        "v0.1/alex.pth",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
        "6 kB",
    ),
}


def missing_lpips() -> str | None:
    """Say in a sentence why LPIPS is not available here; None if it is."""
    try:
        _distance()
    except FileError as error:
        return f"LPIPS is left out. {error}"
    return None


def lpips(
    image: NDArray[Any], reference: NDArray[Any], *, black: float, data_range: float
) -> float:
    """Learned perceptual distance of ``(Y, X)`` or ``(Y, X, 3)`` images; 0 for equal images.

    Intensities below `black` or above ``black + data_range`` are clipped. The result is NaN for
    images with a side of fewer than 32 pixels. Raises FileError without the parameters.
    """
    import torch

    if min(image.shape[:2]) < _SMALLEST:
        return float("nan")
    pair = []
    for pixels in (image, reference):
        unit = np.clip((pixels - black) / data_range, 0, 1).astype(np.float32)
        colours = np.repeat(unit[..., None], 3, axis=2) if unit.ndim == 2 else unit
        pair.append(torch.from_numpy(np.ascontiguousarray(np.moveaxis(colours, 2, 0)))[None])
    with torch.inference_mode():
        return float(_distance()(*pair))


def _published(key: str) -> Published:
    from napari_swintormer.models.files.published import Published

    return Published(*_FILES[key])


@lru_cache
def _distance() -> Callable[[Tensor, Tensor], Tensor]:
    """Make the distance of two ``(1, 3, H, W)`` tensors of unit intensities (equation 1)."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812 (its usual name)

    convolutions, heads, channels = nn.ModuleList(), nn.ModuleList(), 3
    with torch.device("meta"):  # the files overwrite all parameters, so none are initialised
        for wider, size, stride, padding in _CONVOLUTIONS:
            convolutions.append(nn.Conv2d(channels, wider, size, stride, padding))
            heads.append(nn.Conv2d(wider, 1, 1, bias=False))
            channels = wider
    alexnet, weights = _published("alexnet"), _published("weights")
    alexnet.fill_convolutions(convolutions, alexnet.fetch())
    file = weights.fetch()
    state = {  # the keys of the file look like "lin0.model.1.weight"
        f"{key.split('.')[0].removeprefix('lin')}.weight": value
        for key, value in weights.read(file).items()
    }
    weights.fill(heads, state, file)
    shift, scale = (torch.tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))

    def features(unit: Tensor) -> list[Tensor]:
        x, normalised = (2 * unit - 1 - shift) / scale, []
        for number, convolution in enumerate(convolutions):
            x = F.max_pool2d(x, 3, 2) if number in _POOLED else x
            x = F.relu(convolution(x))
            normalised.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))
        return normalised

    def distance(one: Tensor, other: Tensor) -> Tensor:
        pairs = zip(heads, features(one), features(other), strict=True)
        return torch.stack([head((a - b) ** 2).mean() for head, a, b in pairs]).sum()

    return distance
