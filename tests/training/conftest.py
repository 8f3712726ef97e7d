"""Folders of small images to train on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from helpers.tiny import TINY_NETWORK
from napari_swintormer.training.train_settings import TrainSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def write_images(tmp_path: Path) -> Callable[..., Path]:
    """Write 8-bit PNG images of smooth blobs into a folder, and return it."""

    def write(
        folder: str, names: list[str], size: tuple[int, ...] = (48, 56, 3), sigma: float = 1.5
    ) -> Path:
        target = tmp_path / folder
        target.mkdir(exist_ok=True)
        for number, name in enumerate(names):
            image = np.random.default_rng(number).standard_normal(size)
            image = ndimage.gaussian_filter(image, (sigma, sigma, 0)[: len(size)])
            image = (image - image.min()) / np.ptp(image)
            Image.fromarray(np.round(255 * image).astype(np.uint8)).save(target / name)
        return target

    return write


@pytest.fixture
def settings(write_images: Callable[..., Path], tmp_path: Path) -> TrainSettings:
    """A training of eight steps on four images, that validates and saves on the way."""
    return TrainSettings(
        sharp=(write_images("sharp", ["a.png", "b.png", "c.png", "d.png"]),),
        out=tmp_path / "mine.safetensors",
        synthesize="defocus",
        network=TINY_NETWORK,
        steps=8,
        batch_size=2,
        patch_size=32,
        learning_rate=1e-3,
        warmup=2,
        held_out=0.25,
        device="cpu",
        precision="fp32",
        validate_every=4,
        checkpoint_every=3,
        title="Mine",
    )
