"""Steps that all degradations share: the intensity curve, blur, masks and file formats."""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import fft, ndimage, special

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    Rng = np.random.Generator
    Sizes = tuple[int, ...]


def blur(image: FloatArray, kernel: FloatArray, margin: int) -> FloatArray:
    """Convolve ``(C, Y, X)`` with an odd square kernel and cut `margin` pixels off every side.

    `margin` is at least half the kernel, so that no pixel of the result depends on the border.
    """
    half = len(kernel) // 2
    # The kernel starts at the origin, so the result lies `half` pixels further down and right. The
    # circular convolution wraps around within the margin only.
    shape = [fft.next_fast_len(n, real=True) for n in image.shape[1:]]
    spectrum = fft.rfft2(image, shape, axes=(1, 2)) * fft.rfft2(kernel, shape)
    rows, columns = (slice(margin + half, n - margin + half) for n in image.shape[1:])
    convolved: FloatArray = fft.irfft2(spectrum, shape, axes=(1, 2))[:, rows, columns]
    return convolved


def crop(image: NDArray[Any], margin: int) -> NDArray[Any]:
    """Cut `margin` pixels off every side of the last two axes."""
    height, width = image.shape[-2:]
    return image[..., margin : height - margin, margin : width - margin]


def largest_margin(*kernels: FloatArray | None) -> int:
    """Return half the side of the largest kernel, in pixels; 0 without kernels."""
    return max((len(k) // 2 for k in kernels if k is not None), default=0)


def smooth_mask(shape: Sizes, rng: Rng) -> FloatArray:
    """Draw a smooth mask ``(Y, X)`` in [0, 1]; its edges range from gentle slopes to steps."""
    coarse = rng.standard_normal((rng.integers(3, 7),) * 2)
    factors = [n / m for n, m in zip(shape, coarse.shape, strict=True)]
    smooth = ndimage.zoom(coarse, factors, order=3)
    steepness = math.exp(rng.uniform(math.log(1.5), math.log(20)))
    mask: FloatArray = special.expit(steepness * (smooth - rng.normal(0, 0.4))).astype(np.float32)
    return mask


def blend(images: list[FloatArray], rng: Rng) -> FloatArray:
    """Blend two images along a smooth mask, or return the only image."""
    if len(images) == 1:
        return images[0]
    mask = smooth_mask(images[0].shape[1:], rng)
    return mask * images[0] + (1 - mask) * images[1]


def through_jpeg(image: FloatArray, quality: int) -> FloatArray:
    """Save a ``(C, Y, X)`` image in [0, 1], with 1 or 3 channels, as JPEG and read it back."""
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    read: FloatArray = np.atleast_3d(np.asarray(Image.open(buffer), np.float32)) / np.float32(255)
    return np.moveaxis(read, 2, 0)


def round_to_levels(image: FloatArray, levels: int) -> FloatArray:
    """Clip to [0, 1] and round to this number of grey levels."""
    rounded: FloatArray = np.round(np.clip(image, 0, 1) * (levels - 1)) / np.float32(levels - 1)
    return rounded
