"""What training minimises and validation reports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def l1(restored: Tensor, sharp: Tensor) -> Tensor:
    """Mean absolute difference of two ``(B, C, H, W)`` batches in unit range."""
    return (restored - sharp).abs().mean()


def psnr(image: Tensor, sharp: Tensor) -> float:
    """Mean over a batch of the peak signal-to-noise ratio in dB, for a peak of 1.

    An image closer than 60 dB counts as 60 dB, so that an equal one does not make the mean
    infinite.
    """
    mse = (image - sharp).square().mean(dim=(1, 2, 3)).clamp_min(1e-6)
    return float((-10 / math.log(10) * mse.log()).mean())
