"""Images made for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

if TYPE_CHECKING:
    from pathlib import Path


def dots(seed: int, shape: tuple[int, int] = (80, 70)) -> np.ndarray:
    """Draw small bright dots on a dark field, from 100 to about 9000."""
    rng = np.random.default_rng(seed)
    return 100 + 9000 * gaussian_filter((rng.random(shape) < 0.03).astype(float), 0.8)


def texture(height: int, width: int) -> np.ndarray:
    """An image whose power falls with the frequency, like a photo."""
    noise = np.random.default_rng(3).standard_normal((height, width))
    y, x = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    image = np.fft.ifft2(np.fft.fft2(noise) / (0.02 + np.hypot(y, x))).real
    return (0.5 + 0.12 * image / image.std()).astype(np.float32)


def write_blobs(
    folder: Path, names: list[str], size: tuple[int, ...] = (48, 56, 3), sigma: float = 1.5
) -> Path:
    """Write 8-bit PNG images of smooth blobs into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        image = np.random.default_rng(number).standard_normal(size)
        image = gaussian_filter(image, (sigma, sigma, 0)[: len(size)])
        image = (image - image.min()) / np.ptp(image)
        Image.fromarray(np.round(255 * image).astype(np.uint8)).save(folder / name)
    return folder
