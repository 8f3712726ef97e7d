"""How the light of a scene reaches a sensor: from a flat scene, from depth, or in motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_swintormer.training.degradations.occlusion import (
    blur_by_depth,
    blur_over,
    draw_depth_map,
    draw_occluder,
)
from napari_swintormer.training.degradations.primitives import blend, blur, crop, largest_margin

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]
    Formed = tuple[FloatArray, FloatArray]

_WHITE = 0.95  # light above which a place can glare; the sensor saturates at 1


class Optics(Protocol):
    """Turns the light of a scene into blurred light on a sensor."""

    @property
    def margin(self) -> int:
        """Pixels around a patch that the blur reaches."""

    def form(self, light: FloatArray, rng: np.random.Generator) -> Formed:
        """Blur ``(C, Y + 2 * margin, X + 2 * margin)``; return blurred and sharp ``(C, Y, X)``."""


@dataclass(frozen=True)
class FlatOptics:
    """Optics before a flat scene, at one depth or slowly changing between two.

    Attributes
    ----------
    kernels
        One kernel, or two that are blended along a smooth random mask.
    in_focus
        Kernel of the sharp image; None takes the scene itself for the sharp image.
    haze, haze_kernel
        Share of the light that comes from other planes, and its wide blur. The sharp image keeps
        only the mean of this light.
    """

    kernels: tuple[FloatArray, ...]
    in_focus: FloatArray | None = None
    haze: float = 0.0
    haze_kernel: FloatArray | None = None

    @property
    def margin(self) -> int:
        """Pixels around a patch that the blur reaches."""
        return largest_margin(*self.kernels, self.in_focus, self.haze_kernel)

    def form(self, light: FloatArray, rng: np.random.Generator) -> Formed:
        """Blur ``(C, Y + 2 * margin, X + 2 * margin)``; return blurred and sharp ``(C, Y, X)``."""
        margin = self.margin
        blurred = blend([blur(light, kernel, margin) for kernel in self.kernels], rng)
        sharp = crop(light, margin)
        if self.in_focus is not None:
            sharp = blur(light, self.in_focus, margin)
        if self.haze_kernel is not None:
            glow = blur(_other_place(light), self.haze_kernel, margin)
            rest, haze = np.float32(1 - self.haze), np.float32(self.haze)
            blurred = rest * blurred + haze * glow
            sharp = rest * sharp + haze * glow.mean(axis=(1, 2), keepdims=True)
        return blurred, sharp


@dataclass(frozen=True)
class DepthOptics:
    """A lens before a scene with depth.

    Attributes
    ----------
    kernels
        Kernels of the layers, from far to near.
    occluder
        Kernel of an object in front of everything; None for no such object.
    glare
        Light of the whitest places, relative to what saturates the sensor. Blurred, such places
        become images of the PSF. The sensor clips the blurred and the sharp image alike.
    """

    kernels: tuple[FloatArray, ...]
    occluder: FloatArray | None = None
    glare: float = 1.0

    @property
    def margin(self) -> int:
        """Pixels around a patch that the blur reaches."""
        return largest_margin(*self.kernels, self.occluder)

    def form(self, light: FloatArray, rng: np.random.Generator) -> Formed:
        """Blur ``(C, Y + 2 * margin, X + 2 * margin)``; return blurred and sharp ``(C, Y, X)``."""
        bright, depth = light, draw_depth_map(light, rng)
        if self.glare > 1:
            full = max(1.0, float(light.max()))
            bright = np.where(light.min(axis=0) > _WHITE, np.float32(self.glare * full), light)
            light = np.minimum(bright, np.float32(full))
        blurred = blur_by_depth(bright, depth, self.kernels, self.margin)
        if self.glare > 1:
            blurred = np.minimum(blurred, np.float32(full))
        return _with_occluder(light, blurred, self.occluder, self.margin, rng)


@dataclass(frozen=True)
class MotionOptics:
    """A shaking camera before a scene with a moving object.

    Attributes
    ----------
    corners
        Kernels at the corners of the patch, which are blended between them. There is one kernel if
        the camera does not roll, and none if it does not move.
    occluder
        Kernel of the moving object; None for no such object.
    """

    corners: tuple[FloatArray, ...]
    occluder: FloatArray | None = None

    @property
    def margin(self) -> int:
        """Pixels around a patch that the blur reaches."""
        return largest_margin(*self.corners, self.occluder)

    def form(self, light: FloatArray, rng: np.random.Generator) -> Formed:
        """Blur ``(C, Y + 2 * margin, X + 2 * margin)``; return blurred and sharp ``(C, Y, X)``."""
        margin = self.margin
        blurred = crop(light, margin)
        if self.corners:
            blurred = blur(light, self.corners[0], margin)
        if len(self.corners) > 1:
            y, x = (np.linspace(0, 1, n, dtype=np.float32) for n in blurred.shape[1:])
            y = y[:, None]
            shares = ((1 - y) * (1 - x), (1 - y) * x, y * (1 - x), y * x)
            blurred = shares[0] * blurred
            for share, kernel in zip(shares[1:], self.corners[1:], strict=True):
                blurred += share * blur(light, kernel, margin)
        return _with_occluder(light, blurred, self.occluder, margin, rng)


def _other_place(light: FloatArray) -> FloatArray:
    """Turn a scene by 180 degrees: it serves as another place of the same kind."""
    return np.ascontiguousarray(np.rot90(light, 2, axes=(1, 2)))


def _with_occluder(
    light: FloatArray,
    blurred: FloatArray,
    kernel: FloatArray | None,
    margin: int,
    rng: np.random.Generator,
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
