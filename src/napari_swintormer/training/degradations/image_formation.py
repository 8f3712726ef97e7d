"""How a scene becomes light on a sensor: a flat specimen, a scene with depth, a motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_swintormer.training.degradations.occlusion import (
    blur_in_depth,
    blur_over,
    depth_map,
    thing,
)
from napari_swintormer.training.degradations.simple import blur, smooth_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    Formed = tuple[FloatArray, FloatArray]


_WHITE = 0.95  # of the sensor's range, in light


class Optics(Protocol):
    """What turns a scene into blurred light."""

    @property
    def margin(self) -> int:
        """Pixels around a patch that it looks at."""

    def form(self, light: FloatArray, rng: np.random.Generator) -> Formed:
        """Blur ``(C, Y + 2 * margin, X + 2 * margin)``; return blurred and sharp ``(C, Y, X)``."""


@dataclass(frozen=True)
class FlatOptics:
    """A flat scene, in one depth or slowly changing between two.

    Attributes
    ----------
    kernels
        One, or two that are blended along a smooth random mask.
    in_focus
        Kernel of the sharp image, None where the scene itself is the sharp image.
    haze, haze_kernel
        Share of the light, and the wide blur, of things in other planes that the sharp image does
        not show; its mean stays in the sharp image.
    """

    kernels: tuple[FloatArray, ...]
    in_focus: FloatArray | None = None
    haze: float = 0.0
    haze_kernel: FloatArray | None = None

    @property
    def margin(self) -> int:
        """See `Optics`."""
        return _margin(*self.kernels, self.in_focus, self.haze_kernel)

    def form(self, light: FloatArray, rng: np.random.Generator) -> Formed:
        """See `Optics`."""
        margin = self.margin
        images = [blur(light, kernel, margin) for kernel in self.kernels]
        blurred = images[0]
        if len(images) > 1:
            mask = smooth_mask(blurred.shape[1:], rng)
            blurred = mask * images[0] + (1 - mask) * images[1]
        focused = (
            _inner(light, margin) if self.in_focus is None else blur(light, self.in_focus, margin)
        )
        if self.haze_kernel is not None:
            other = np.ascontiguousarray(np.rot90(light, 2, axes=(1, 2)))
            glow = blur(other, self.haze_kernel, margin)
            rest, haze = np.float32(1 - self.haze), np.float32(self.haze)
            blurred = rest * blurred + haze * glow
            focused = rest * focused + haze * glow.mean(axis=(1, 2), keepdims=True)
        return blurred, focused


@dataclass(frozen=True)
class DepthOptics:
    """A scene with depth before a lens.

    Attributes
    ----------
    kernels
        Of the layers, from far to near.
    front
        Kernel of a thing in front of all, cut from elsewhere in the scene; None for none.
    glare
        How many times more light than the sensor can hold the whitest places send: they become blur
        figures of their own. The sensor cuts both halves off alike.
    """

    kernels: tuple[FloatArray, ...]
    front: FloatArray | None = None
    glare: float = 1.0

    @property
    def margin(self) -> int:
        """See `Optics`."""
        return _margin(*self.kernels, self.front)

    def form(self, light: FloatArray, rng: np.random.Generator) -> Formed:
        """See `Optics`."""
        margin = self.margin
        bright, depth = light, depth_map(light, rng)
        if self.glare > 1:
            full = max(1.0, float(light.max()))
            bright = np.where(light.min(axis=0) > _WHITE, np.float32(self.glare * full), light)
            light = np.minimum(bright, np.float32(full))
        blurred = blur_in_depth(bright, depth, self.kernels, margin)
        if self.glare > 1:
            blurred = np.minimum(blurred, np.float32(full))
        return _with_thing(light, blurred, self.front, margin, rng)


@dataclass(frozen=True)
class MotionOptics:
    """A scene before a camera that shakes, with a thing that moves by itself.

    Attributes
    ----------
    corners
        Kernels in the corners of the patch, blended between them; a single one where the camera
        does not roll, none where it is still.
    thing
        Kernel of the moving thing, cut from elsewhere in the scene; None for none.
    """

    corners: tuple[FloatArray, ...]
    thing: FloatArray | None = None

    @property
    def margin(self) -> int:
        """See `Optics`."""
        return _margin(*self.corners, self.thing)

    def form(self, light: FloatArray, rng: np.random.Generator) -> Formed:
        """See `Optics`."""
        margin = self.margin
        blurred = _inner(light, margin)
        if self.corners:
            blurred = blur(light, self.corners[0], margin)
        if len(self.corners) > 1:
            y, x = (np.linspace(0, 1, n, dtype=np.float32) for n in blurred.shape[1:])
            y = y[:, None]
            shares = ((1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x)
            blurred = shares[0] * blurred
            for share, kernel in zip(shares[1:], self.corners[1:], strict=True):
                blurred += share * blur(light, kernel, margin)
        return _with_thing(light, blurred, self.thing, margin, rng)


def _with_thing(
    light: FloatArray,
    blurred: FloatArray,
    kernel: FloatArray | None,
    margin: int,
    rng: np.random.Generator,
) -> Formed:
    """Lay a thing, cut from the scene seen in a mirror, over the scene and its blurred image."""
    sharp = _inner(light, margin)
    if kernel is None:
        return blurred, sharp
    texture = np.ascontiguousarray(np.rot90(light, 2, axes=(1, 2)))
    opacity = thing(light.shape[1:], rng)
    shares = _inner(opacity, margin)
    sharp = shares * _inner(texture, margin) + (1 - shares) * sharp
    return blur_over(blurred, texture, opacity, kernel, margin), sharp


def _inner(image: FloatArray, margin: int) -> FloatArray:
    """Cut `margin` pixels off every side of the last two axes."""
    height, width = image.shape[-2:]
    return image[..., margin : height - margin, margin : width - margin]


def _margin(*kernels: FloatArray | None) -> int:
    return max((len(k) // 2 for k in kernels if k is not None), default=0)
