"""Shakes a sharp photo as a camera held by hand does, for the bundled sample.

    python recipes/make_shaken_photo.py sharp.png src/napari_swintormer/sample/shaken_board.jpg

`sharp.png` is the focus stack of https://github.com/PetteriAimonen/focus-stack, fused, 1024 × 1024
pixels. A part of it is blurred in linear light along a drawn path, gets the noise of a camera, and
is written as JPEG of quality 97. Nobody tells the path: it is measured on the photo. The path was
chosen among a few because it is recognised with any noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.signal import fftconvolve

from napari_swintormer.optics.motion import camera_shake, motion_psf

TOP, LEFT, SIDE = 256, 120, 512
EXTENT, NOISE = 14, 1.0  # pixels, grey levels
SEED, GAMMA = 6, 2.2


def shake(sharp: np.ndarray) -> np.ndarray:
    """Blur the part of the photo, with what the camera also saw around it."""
    rng = np.random.default_rng(SEED)
    psf = motion_psf(camera_shake(EXTENT, rng)).astype(np.float64)
    psf /= psf.sum()
    border = psf.shape[0] // 2
    rows, columns = (slice(at - border, at + SIDE + border) for at in (TOP, LEFT))
    light = (sharp[rows, columns] / 255.0) ** GAMMA
    shaken = np.stack([fftconvolve(light[..., c], psf, "valid") for c in range(3)], axis=-1)
    grey = 255 * np.clip(shaken, 0, 1) ** (1 / GAMMA)
    return np.clip(np.round(grey + rng.normal(0, NOISE, grey.shape)), 0, 255).astype(np.uint8)


def main() -> None:
    """Write the sample."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sharp", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    with Image.open(arguments.sharp) as file:
        sharp = np.asarray(file.convert("RGB"))
    Image.fromarray(shake(sharp)).save(arguments.out, quality=97, subsampling=0)


if __name__ == "__main__":
    main()
