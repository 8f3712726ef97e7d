from __future__ import annotations

import pytest
import torch

from napari_swintormer.training.losses import l1, psnr


def test_psnr_is_the_mean_of_the_images():
    sharp = torch.zeros(2, 3, 4, 4)
    image = sharp.clone()
    image[0] += 0.1
    image[1] += 0.01
    assert psnr(image, sharp) == pytest.approx((20 + 40) / 2, abs=1e-3)
    assert psnr(sharp, sharp) == pytest.approx(60)


def test_l1_is_the_mean_absolute_difference():
    assert l1(torch.tensor([[-1.0, 3.0]]), torch.zeros(1, 2)).item() == 2
