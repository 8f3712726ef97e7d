"""How the light of a scene reaches a sensor: from a flat scene, from depth, or in motion.

Light from behind shines through the border of a blurred near object, and a blurred background ends
at the border of a sharp one. To get both, every layer is blurred with its own opacity and laid over
the layers behind it. Blending two blurred images along a mask would get neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_swintormer.training.degradations.primitives import blend, blur, crop, largest_margin

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_swintormer.training.degradations.primitives import FloatArray, Rng, Sizes

    Formed = tuple[FloatArray, FloatArray]

_WHITE = 0.95  # light above which a place can glare; the sensor saturates at 1


class Optics(NamedTuple):
    """Optics that turn the light of a scene into blurred light on a sensor.

    `margin` is the number of pixels around a patch that the blur reaches. `form` takes light
    ``(C, Y + 2 * margin, X + 2 * margin)`` and returns a blurred and a sharp image ``(C, Y, X)``.
    `kernels` are all that there is to optics that blend one or two kernels; else there are none.
    """

    margin: int
    form: Callable[[FloatArray, Rng], Formed]
    kernels: tuple[FloatArray, ...] = ()


def flat_optics(
    kernels: Sequence[FloatArray],
    in_focus: FloatArray | None = None,
    haze: float = 0.0,
    haze_kernel: FloatArray | None = None,
) -> Optics:
    """Make optics before a flat scene, at one depth or slowly changing between two.

    Two kernels are blended along a smooth random mask. `in_focus` is the kernel of the sharp image;
    None takes the scene itself. `haze` is the share of the light that comes from other planes; the
    sharp image keeps only its mean.
    """
    margin = largest_margin(*kernels, in_focus, haze_kernel)

    def form(light: FloatArray, rng: Rng) -> Formed:
        blurred = blend([blur(light, kernel, margin) for kernel in kernels], rng)
        sharp = crop(light, margin) if in_focus is None else blur(light, in_focus, margin)
        if haze_kernel is not None:
            glow = blur(_other_place(light), haze_kernel, margin)
            rest, share = np.float32(1 - haze), np.float32(haze)
            blurred = rest * blurred + share * glow
            sharp = rest * sharp + share * glow.mean(axis=(1, 2), keepdims=True)
        return blurred, sharp

    alone = in_focus is None and haze_kernel is None
    return Optics(margin, form, tuple(kernels) if alone else ())


def depth_optics(
    kernels: Sequence[FloatArray],
    occluder: FloatArray | None = None,
    glare: float = 1.0,
    depth: FloatArray | None = None,
) -> Optics:
    """Make a lens before a scene with depth.

    The kernels are those of the layers, from far to near; `occluder` is that of an object in front
    of everything. `glare` is the light of the whitest places, relative to what saturates the
    sensor: blurred, they become images of the PSF. The sensor clips both images alike. `depth` is
    that of the pixels of the light, see `blur_by_depth`; None draws one.
    """
    margin = largest_margin(*kernels, occluder)

    def form(light: FloatArray, rng: Rng) -> Formed:
        bright, distances = light, draw_depth_map(light, rng) if depth is None else depth
        full = max(1.0, float(light.max()))
        if glare > 1:
            bright = np.where(light.min(axis=0) > _WHITE, np.float32(glare * full), light)
            light = np.minimum(bright, np.float32(full))
        blurred = blur_by_depth(bright, distances, kernels, margin)
        if glare > 1:
            blurred = np.minimum(blurred, np.float32(full))
        return _with_occluder(light, blurred, occluder, margin, rng)

    return Optics(margin, form)


def motion_optics(corners: Sequence[FloatArray], occluder: FloatArray | None = None) -> Optics:
    """Make a shaking camera before a scene; `occluder` is the kernel of a moving object.

    The kernels at the corners of the patch are blended between them. There is one if the camera
    does not roll, and none if it does not move.
    """
    margin = largest_margin(*corners, occluder)

    def form(light: FloatArray, rng: Rng) -> Formed:
        blurred = blur(light, corners[0], margin) if corners else crop(light, margin)
        if len(corners) > 1:
            y, x = (np.linspace(0, 1, n, dtype=np.float32) for n in blurred.shape[1:])
            y = y[:, None]
            shares = ((1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x)
            blurred = shares[0] * blurred
            for share, kernel in zip(shares[1:], corners[1:], strict=True):
                blurred += share * blur(light, kernel, margin)
        return _with_occluder(light, blurred, occluder, margin, rng)

    return Optics(margin, form)


def _other_place(light: FloatArray) -> FloatArray:
    """Turn a scene by 180 degrees: it serves as another place of the same kind."""
    return np.ascontiguousarray(np.rot90(light, 2, axes=(1, 2)))


def _with_occluder(
    light: FloatArray,
    blurred: FloatArray,
    kernel: FloatArray | None,
    margin: int,
    rng: Rng,
) -> Formed:
    """Put an object in front of the sharp scene and of its blurred image."""
    sharp = crop(light, margin)
    if kernel is None:
        return blurred, sharp
    texture = _other_place(light)
    opacity = draw_occluder(light.shape[1:], rng)
    inner = crop(opacity, margin)
    sharp = inner * crop(texture, margin) + (1 - inner) * sharp
    return blur_over(blurred, texture, opacity, kernel, margin), sharp


def blur_over(
    behind: FloatArray, light: FloatArray, opacity: FloatArray, kernel: FloatArray, margin: int
) -> FloatArray:
    """Blur a layer and lay it over ``(C, Y, X)``, which is blurred already.

    The layer has a light ``(C, Y + 2 * margin, X + 2 * margin)``, and an opacity in [0, 1] without
    the C. `margin` is at least half the kernel.
    """
    both = blur(np.concatenate([light * opacity, opacity[None]]), kernel, margin)
    over: FloatArray = both[:-1] + (1 - both[-1:]) * behind
    return over


def blur_by_depth(
    light: FloatArray, depth: FloatArray, kernels: Sequence[FloatArray], margin: int
) -> FloatArray:
    """Blur ``(C, Y + 2 * margin, X + 2 * margin)`` by its depth, near layers over far ones.

    The depth runs from 0, far, to 1, near; the kernels are for evenly spaced depths. Layer k holds
    everything nearer than kernel k, so that no gap opens between blurred borders. The kernels are
    blended on slopes of the depth.
    """
    blurred = blur(light, kernels[0], margin)
    gaps = len(kernels) - 1
    for k in range(1, len(kernels)):
        opacity = np.clip(depth * gaps - (k - 1), 0, 1)
        blurred = blur_over(blurred, light, opacity, kernels[k], margin)
    return blurred


def draw_depth_map(light: FloatArray, rng: Rng) -> FloatArray:
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


def draw_occluder(shape: Sizes, rng: Rng) -> FloatArray:
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


def smooth_noise(shape: Sizes, rng: Rng, waves: tuple[int, int] = (3, 7)) -> FloatArray:
    """Draw noise ``(Y, X)`` of about unit variance from ``range(*waves)`` cosines per direction."""
    count = int(rng.integers(*waves))
    amplitudes = rng.standard_normal((count, count))
    y, x = (
        np.cos(np.pi * np.outer((np.arange(n) + 0.5) / n, np.arange(count))) * np.sqrt(2)
        for n in shape
    )
    noise: FloatArray = (y @ amplitudes @ x.T / count).astype(np.float32)
    return noise
