"""What JPEG does to images, with operations of any device: the transform, and its rounding.

Colours are halved in resolution, as most programs do. A file agrees to a grey level or two.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from torch import Tensor

from napari_swintormer.models.transfer import send

_SIDE = 8  # pixels of a block
# The tables of the standard (annex K), for light and for colour.
_LIGHT = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_COLOUR = (
    *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
    *([99] * 32),
)
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def through_jpeg(images: Tensor, quality: Tensor) -> Tensor:
    """Save RGB images ``(B, 3, H, W)`` in [0, 1] as JPEG and read them back.

    `quality` is ``(B,)`` on the same device, from 1 to 100.
    """
    height, width = images.shape[2:]
    levels = (images.clamp(0, 1) * 255).round()
    levels = F.pad(levels, (0, -width % 16, 0, -height % 16), mode="replicate")
    colours = torch.einsum("ij,bjhw->bihw", send(torch.tensor(_TO_YCC), images.device), levels)
    colours = colours.round()  # a file has 8 bits for each
    light = _rounded(colours[:, :1] - 128, _table(_LIGHT, quality, images.device))
    halved = F.avg_pool2d(colours[:, 1:], 2).round()
    halved = _rounded(halved, _table(_COLOUR, quality, images.device))
    colour = F.interpolate(halved, scale_factor=2, mode="bilinear", align_corners=False)
    both = torch.cat([light + 128, colour.round()], dim=1)
    read = torch.einsum("ij,bjhw->bihw", send(torch.tensor(_TO_RGB), images.device), both)
    return read[..., :height, :width].round().clamp(0, 255) / 255


def _table(table: tuple[int, ...], quality: Tensor, device: torch.device) -> Tensor:
    """Scale a table to qualities, ``(B, 1, 1, 1, 8, 8)``."""
    quality = quality.float()[:, None]
    scale = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    numbers = send(torch.tensor(table, dtype=torch.float32), device)
    scaled = ((numbers * scale + 50) / 100).floor().clamp(1, 255)
    by_block: Tensor = scaled.reshape(-1, 1, 1, 1, _SIDE, _SIDE)
    return by_block


def _rounded(channels: Tensor, table: Tensor) -> Tensor:
    """Transform blocks of 8 x 8, round to multiples of the table, and transform back."""
    cosines = send(_cosines(), channels.device)
    blocks = channels.unflatten(3, (-1, _SIDE)).unflatten(2, (-1, _SIDE))  # type: ignore[no-untyped-call]
    blocks = blocks.permute(0, 1, 2, 4, 3, 5)
    coefficients = cosines @ blocks @ cosines.T
    coefficients = (coefficients / table).round() * table
    back = (cosines.T @ coefficients @ cosines).permute(0, 1, 2, 4, 3, 5)
    rounded: Tensor = back.reshape(channels.shape).round().clamp(-128, 127)
    return rounded


def _cosines() -> Tensor:
    """Return the matrix of the discrete cosine transform, ``(8, 8)`` and orthonormal."""
    frequency, place = torch.meshgrid(torch.arange(_SIDE), torch.arange(_SIDE), indexing="ij")
    matrix = torch.cos(math.pi * frequency * (2 * place + 1) / (2 * _SIDE)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix
