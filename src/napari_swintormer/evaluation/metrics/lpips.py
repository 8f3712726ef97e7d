"""LPIPS: images are compared by what a network for classification sees in them.

Zhang et al., *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric* (CVPR 2018),
version 0.1 with AlexNet, as published tables show it. Its package wants a torchvision that fits
the installed torch to the digit; the metric itself is five convolutions. Their parameters are
fetched at first use; where they cannot be had a sentence says so, and the metric is left out.
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
# Channels, size, stride and padding of AlexNet's convolutions; before the second and the third the
# largest of 3 x 3 is taken at every other place.
_CONVOLUTIONS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
_POOLED = (1, 2)
# From intensities in [-1, 1] to those that AlexNet was trained on.
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
    """Say in a sentence why LPIPS cannot be had here; None if it can."""
    try:
        _distance()
    except FileError as error:
        return f"LPIPS is left out. {error}"
    return None


def lpips(
    image: NDArray[Any], reference: NDArray[Any], *, black: float, data_range: float
) -> float:
    """Learned perceptual distance with the features of AlexNet, as published tables show it.

    Parameters
    ----------
    image, reference
        ``(Y, X)`` or ``(Y, X, 3)`` of equal shape; intensities are cut to the data range.
    black, data_range
        Intensity that is 0, and the distance from there to 1.

    Returns
    -------
    float
        0 for equal images; NaN for images of less than 32 pixels on a side.

    Raises
    ------
    FileError
        The parameters cannot be had, see `missing_lpips`.
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
    """Give the distance of two ``(1, 3, H, W)`` tensors in unit intensities (eq. 1)."""
    import torch
    from torch import nn
    from torch.nn import functional as F  # noqa: N812 (its usual name)

    convolutions, heads, channels = nn.ModuleList(), nn.ModuleList(), 3
    with torch.device("meta"):  # no random numbers for what is read from files
        for wider, size, stride, padding in _CONVOLUTIONS:
            convolutions.append(nn.Conv2d(channels, wider, size, stride, padding))
            heads.append(nn.Conv2d(wider, 1, 1, bias=False))
            channels = wider
    alexnet, weights = _published("alexnet"), _published("weights")
    alexnet.fill_convolutions(convolutions, alexnet.fetch())
    file = weights.fetch()
    state = {  # "lin0.model.1.weight"
        f"{key.split('.')[0].removeprefix('lin')}.weight": value
        for key, value in weights.read(file).items()
    }
    weights.fill(heads, state, file)
    shift, scale = (torch.tensor(values)[:, None, None] for values in (_SHIFT, _SCALE))

    def features(unit: Tensor) -> list[Tensor]:
        x, seen = (2 * unit - 1 - shift) / scale, []
        for number, convolution in enumerate(convolutions):
            x = F.max_pool2d(x, 3, 2) if number in _POOLED else x
            x = F.relu(convolution(x))
            seen.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))
        return seen

    def distance(one: Tensor, other: Tensor) -> Tensor:
        pairs = zip(heads, features(one), features(other), strict=True)
        return torch.stack([head((a - b) ** 2).mean() for head, a, b in pairs]).sum()

    return distance
