"""Scenes in depth: near objects hide far ones, blurred or not.

Light from behind shines through the border of a blurred near object. A blurred background ends at
the border of a sharp object. To get both, every layer is blurred with its own opacity and laid over
the layers behind it; blending two blurred images along a mask would get neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_swintormer.training.degradations.primitives import blur

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]


def blur_over(
    behind: FloatArray, light: FloatArray, opacity: FloatArray, kernel: FloatArray, margin: int
) -> FloatArray:
    """Blur a layer and lay it over what lies behind.

    Parameters
    ----------
    behind
        ``(C, Y, X)``, already blurred.
    light, opacity
        Layer ``(C, Y + 2 * margin, X + 2 * margin)``, and its opacity in [0, 1] without the C.
    kernel
        Blur of the layer.
    margin
        At least half the kernel.
    """
    both = blur(np.concatenate([light * opacity, opacity[None]]), kernel, margin)
    over: FloatArray = both[:-1] + (1 - both[-1:]) * behind
    return over


def blur_by_depth(
    light: FloatArray, depth: FloatArray, kernels: Sequence[FloatArray], margin: int
) -> FloatArray:
    """Blur an image by its depth, near layers over far ones.

    Layer k holds everything nearer than kernel k, so that no gap opens between blurred borders. The
    kernels are blended on slopes of the depth.

    Parameters
    ----------
    light
        ``(C, Y + 2 * margin, X + 2 * margin)``.
    depth
        ``(Y + 2 * margin, X + 2 * margin)``: 0 is far, 1 is near.
    kernels
        Kernels for evenly spaced depths from 0 to 1.
    margin
        At least half of the largest kernel.
    """
    blurred = blur(light, kernels[0], margin)
    gaps = len(kernels) - 1
    for k in range(1, len(kernels)):
        opacity = np.clip(depth * gaps - (k - 1), 0, 1)
        blurred = blur_over(blurred, light, opacity, kernels[k], margin)
    return blurred


def draw_depth_map(light: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw a depth in [0, 1] for every pixel of ``(C, Y, X)``.

    The depth mixes sloping ground, random hills, random steps, and the brightness of the image
    after a median filter. Brightness changes at the borders of objects, so depth does, too.
    """
    shape = light.shape[1:]
    y, x = (np.linspace(-1, 1, n) for n in shape)
    angle = rng.uniform(0, 2 * np.pi)
    ground = np.sin(angle) * y[:, None] + np.cos(angle) * x
    hills = smooth_noise(shape, rng)
    steps = np.sign(smooth_noise(shape, rng) - rng.normal(0, 0.3))
    image = ndimage.median_filter(light.mean(axis=0)[::2, ::2], 5)
    image = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)[: shape[0], : shape[1]]
    image = (image - image.mean()) / (image.std() + 1e-3)
    weights = rng.dirichlet((0.6, 0.6, 0.6, 0.6))
    signs = rng.choice((-1.0, 1.0), 4)
    parts = (ground, hills, steps, image)
    mixed = sum(w * s * p for w, s, p in zip(weights, signs, parts, strict=True))
    low, high = np.percentile(mixed, (2, 98))
    depth: FloatArray = np.clip((mixed - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return depth


def draw_occluder(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Draw the opacity ``(Y, X)`` of an object in front: an irregular mass, or thin branches."""
    noise = smooth_noise(shape, rng) + 0.15 * smooth_noise(shape, rng, (8, 20))
    if rng.random() < 0.3:
        noise = rng.uniform(0.05, 0.3) - np.abs(noise)
    else:
        noise -= rng.normal(0.2, 0.4)
    slope = np.hypot(*np.gradient(noise)).astype(np.float32)
    # noise / slope is the distance from the border in pixels: the border is one pixel wide
    opacity: FloatArray = np.clip(noise / (slope + 1e-4) + 0.5, 0, 1).astype(np.float32)
    return opacity


def smooth_noise(
    shape: tuple[int, ...], rng: np.random.Generator, waves: tuple[int, int] = (3, 7)
) -> FloatArray:
    """Draw noise ``(Y, X)`` of about unit variance from few cosines in each direction.

    `waves` gives the smallest number of cosines, and the largest plus one.
    """
    count = int(rng.integers(*waves))
    amplitudes = rng.standard_normal((count, count))
    y, x = (
        np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(count))) * np.sqrt(2)
        for n in shape
    )
    noise: FloatArray = (y @ amplitudes @ x.T / count).astype(np.float32)
    return noise
