"""Scenes in depth: how a lens or a motion blurs things that lie in front of each other.

A near thing that is blurred lets the things behind shine through its border, and a blurred
background ends at the border of a sharp thing. Blurring the whole image and blending by a mask
shows neither; blurring every layer with its own opacity and laying one over the other does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from napari_swintormer.training.degradations.simple import blur

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]


def blur_over(
    behind: FloatArray, light: FloatArray, opacity: FloatArray, kernel: FloatArray, margin: int
) -> FloatArray:
    """Lay a blurred layer over what lies behind.

    Parameters
    ----------
    behind
        ``(C, Y, X)``, blurred already and without its margin.
    light, opacity
        Of the layer: ``(C, Y + 2 * margin, X + 2 * margin)`` and, in [0, 1], without the C.
    kernel
        Blur of the layer.
    margin
        At least half the kernel.
    """
    both = blur(np.concatenate([light * opacity, opacity[None]]), kernel, margin)
    over: FloatArray = both[:-1] + (1 - both[-1:]) * behind
    return over


def blur_in_depth(
    light: FloatArray, depth: FloatArray, kernels: Sequence[FloatArray], margin: int
) -> FloatArray:
    """Blur an image by its depth, near things over far ones.

    The layer of kernel k holds all that is nearer than it, so that no gap opens where blurred
    borders meet; on slopes of the depth the kernels are blended.

    Parameters
    ----------
    light
        ``(C, Y + 2 * margin, X + 2 * margin)``.
    depth
        The same without the C: 0 far, 1 near.
    kernels
        Of depths from 0 to 1, evenly spaced; at least two.
    margin
        At least half of the largest kernel.
    """
    blurred = blur(light, kernels[0], margin)
    gaps = len(kernels) - 1
    for k in range(1, len(kernels)):
        opacity = np.clip(depth * gaps - (k - 1), 0, 1)
        blurred = blur_over(blurred, light, opacity, kernels[k], margin)
    return blurred


def depth_map(light: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw a depth in [0, 1] for every pixel of ``(C, Y, X)``.

    A mixture of ground that comes nearer downwards (or any other way), of hills at random, of steps
    between things at random, and of the image's own brightness, smoothed within its borders: things
    are of one brightness, so these steps lie where things end.
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


def thing(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Draw the opacity of something in front: a mass with an irregular border, or thin branches."""
    noise = smooth_noise(shape, rng) + 0.15 * smooth_noise(shape, rng, (8, 20))
    if rng.random() < 0.3:
        noise = rng.uniform(0.05, 0.3) - np.abs(noise)
    else:
        noise -= rng.normal(0.2, 0.4)
    slope = np.hypot(*np.gradient(noise)).astype(np.float32)
    # distance from the border in pixels, so that it is one pixel wide
    opacity: FloatArray = np.clip(noise / (slope + 1e-4) + 0.5, 0, 1).astype(np.float32)
    return opacity


def smooth_noise(
    shape: tuple[int, ...], rng: np.random.Generator, waves: tuple[int, int] = (3, 7)
) -> FloatArray:
    """Draw smooth noise ``(Y, X)`` of about unit variance: a random number of cosines each way."""
    count = int(rng.integers(*waves))
    amplitudes = rng.standard_normal((count, count))
    y, x = (
        np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(count))) * np.sqrt(2)
        for n in shape
    )
    noise: FloatArray = (y @ amplitudes @ x.T / count).astype(np.float32)
    return noise
