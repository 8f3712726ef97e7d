"""Drawn patterns, and how often they replace a patch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from napari_swintormer.imaging.intensity import IntensityConvention
from napari_swintormer.training.data.listing import list_pairs
from napari_swintormer.training.data.pairs import sharp_planes
from napari_swintormer.training.data.patches import PatchSampler
from napari_swintormer.training.degradations.patterns import draw_pattern

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("channels", [1, 3])
def test_patterns_have_two_colours(channels):
    spans = []
    for seed in range(60):
        pattern = draw_pattern((channels, 50, 41), np.random.default_rng(seed))
        assert (pattern.shape, pattern.dtype) == ((channels, 50, 41), np.float32)
        assert pattern.min() >= 0
        assert pattern.max() <= 1
        spans.append(np.ptp(pattern))
    assert np.median(spans) > 0.4


def test_some_patches_are_patterns_and_most_of_these_are_not_blurred(tmp_path: Path):
    # what an even image shows is noise; a pattern has more contrast
    Image.new("RGB", (64, 64), (120, 130, 140)).save(tmp_path / "even.png")
    (pair,) = list_pairs([tmp_path], kinds=["photo"])[0]
    planes = sharp_planes(pair, 3)
    sampler = PatchSampler(planes, 32, 3, IntensityConvention(), 0, "defocus")
    patches = [sampler.draw(step, 0) for step in range(250)]
    drawn = [(blurred, sharp) for blurred, sharp in patches if sharp.std(axis=(1, 2)).max() > 0.1]
    assert 0.03 < len(drawn) / len(patches) < 0.12
    kept = [np.allclose(blurred, sharp, atol=1e-6) for blurred, sharp in drawn]
    assert 0.5 < np.mean(kept) < 0.9
    sharp = sampler.draw_validation(40)[1]  # validation looks at what the images show
    assert sharp.std(axis=(2, 3)).max() < 0.1
