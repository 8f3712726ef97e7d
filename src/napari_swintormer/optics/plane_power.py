"""What a plane shows of noise and detail, measured once and used for any blur.

A filter for a known blur must know the noise and the sharp image's power; `sharp_spectrum` fits
both. Where the blur passes nothing, an image holds noise alone. If there is more, the blur is
wrong, or the image is sharper than the blur allows. Then this power counts as noise too, so that
the filter does little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.optics.inverse_filter import ImagePower, image_power
from napari_swintormer.optics.light import GAMMA, to_light
from napari_swintormer.optics.sharp_spectrum import fit_sharp_spectrum

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self

    from numpy.typing import NDArray

    from napari_swintormer.optics.blur import Blur
    from napari_swintormer.optics.blur_field import BlurField
    from napari_swintormer.optics.sharp_spectrum import Content, SharpSpectrum

    Window = NDArray[np.float32]

_SIDE = 256  # pixels of the squares whose spectra are averaged
_PLACE = 128  # and of those that tell what places with different blurs show
_LEAST = 8  # pixels; smaller planes have no spectrum to speak of
# Chosen on made blur of training images, a validation split: more protects better from a blur that
# was told too wide, and loses more where it is right.
_PASSED = 0.03  # share of the power that a blur passes where it passes nothing
_FROM = 0.06  # cycles per pixel; below, every blur passes much
_FEWEST = 50  # frequencies that the hidden power is measured on
_HIDDEN = 0.8  # weight of the power that the blur should have hidden
_FLOOR, _SOME = 0.02, 1e-5  # of a square's weight, where a blur is rare everywhere


@dataclass(frozen=True)
class PlanePower:
    """Noise, gradients and spectrum of the intensities of a plane, or of its light."""

    image: ImagePower
    spectrum: NDArray[np.float64]  # mean power on the grid of rfft2; white noise has its variance

    def sharp(self, blur: Blur, content: Content, grid: int) -> SharpSpectrum:
        """Fit the sharp image's spectrum on a grid, and the noise, for a blur."""
        side = len(self.spectrum)
        frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side))
        passed = blur.otf_moments((side, side))[1].astype(np.float64)
        fitted = fit_sharp_spectrum(self.spectrum, passed, self.image.noise**2, content, grid)
        hidden = (passed < _PASSED) & (frequency > _FROM)
        power = float(self.spectrum[hidden].mean()) if hidden.sum() > _FEWEST else 0.0
        return replace(fitted, noise=max(fitted.noise, _HIDDEN * power))

    def in_places(
        self,
        windows: Sequence[Window],
        corners: Sequence[tuple[int, int]],
        weights: NDArray[np.float64],
    ) -> list[PlanePower]:
        """Average the spectra of squares with weights ``(squares, K)``, once for each column."""
        squares = [square for *_, square in _place_squares(windows, corners)]
        spectra = np.stack([_spectrum(square) for square in squares])
        return [
            replace(self, spectrum=spectrum) for spectrum in np.tensordot(weights.T, spectra, 1)
        ]


@dataclass(frozen=True)
class PowerOfPlane:
    """The power of a plane as it is displayed, and as light.

    Attributes
    ----------
    gamma
        Exponent that turns intensities into light; 1 where they are light already.
    intensities
        Power of the intensities; None for a plane too small or too even to measure.
    light
        Power of the light; the same object where `gamma` is 1.
    """

    gamma: float = 1.0
    intensities: PlanePower | None = None
    light: PlanePower | None = None

    @classmethod
    def measured(cls, windows: Sequence[Window], *, photo: bool) -> Self:
        """Measure windows ``(C, h, w)`` in unit intensities; photos were blurred as light."""
        shown = _measure(windows)
        if shown is None or not photo:
            return cls(1.0, shown, shown)
        return cls(GAMMA, shown, _measure([to_light(window, GAMMA) for window in windows]))

    def in_places(
        self, windows: Sequence[Window], corners: Sequence[tuple[int, int]], field: BlurField
    ) -> tuple[Self, ...]:
        """Measure what the places with each blur of a field show, without the first blur.

        `windows` are those that the plane was measured on, and `corners` their first pixels. The
        noise is that of the plane.
        """
        if self.light is None or self.intensities is None:
            return (self,) * (len(field.blurs) - 1)
        weights = np.array(
            [
                field.mean_shares(y, x, side, side)
                for y, x, side, _ in _place_squares(windows, corners)
            ]
        )[:, 1:]
        weights = np.square(weights + _FLOOR * weights.mean(axis=0) + _SOME)
        weights /= weights.sum(axis=0)
        shown = self.intensities.in_places(windows, corners, weights)
        if self.gamma == 1:
            return tuple(replace(self, intensities=part, light=part) for part in shown)
        lights = [to_light(window, self.gamma) for window in windows]
        lit = self.light.in_places(lights, corners, weights)
        return tuple(replace(self, intensities=a, light=b) for a, b in zip(shown, lit, strict=True))


def _measure(windows: Sequence[Window]) -> PlanePower | None:
    side = min([_SIDE, *(n for window in windows for n in window.shape[1:])])
    if side < _LEAST:
        return None
    image = image_power(channel for window in windows for channel in window)
    if not image.gradients > 0:
        return None
    spectra = [_spectrum(square) for square in _squares(windows, side)]
    return PlanePower(image, np.mean(spectra, axis=0))


def _spectrum(square: Window) -> NDArray[np.float64]:
    """Measure the power of ``(C, n, n)``, the mean over the channels."""
    side = square.shape[-1]
    fading = _fading(side)
    means = square.mean(axis=(1, 2), keepdims=True)
    spectrum = np.fft.rfft2((square - means) * fading)
    power: NDArray[np.float64] = (spectrum.real**2 + spectrum.imag**2).mean(axis=0) / side**2
    return power


@lru_cache(maxsize=4)
def _fading(side: int) -> NDArray[np.float64]:
    """Fade a square out towards its border, without changing the power of white noise."""
    along = np.hanning(side + 2)[1:-1]
    fading = np.outer(along, along)
    return fading / math.sqrt(float((fading**2).mean()))


def _squares(windows: Sequence[Window], side: int) -> Iterator[Window]:
    """Cut windows into squares that lie edge to edge."""
    for window in windows:
        height, width = window.shape[1:]
        for y in range(0, height - side + 1, side):
            for x in range(0, width - side + 1, side):
                yield window[:, y : y + side, x : x + side]


def _place_squares(
    windows: Sequence[Window], corners: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int, int, Window]]:
    """Cut windows into squares that overlap by a half: first pixel, side, and values."""
    side = min([_PLACE, *(n for window in windows for n in window.shape[1:])])
    for window, (top, left) in zip(windows, corners, strict=True):
        height, width = window.shape[1:]
        for y in range(0, height - side + 1, max(side // 2, 1)):
            for x in range(0, width - side + 1, max(side // 2, 1)):
                yield top + y, left + x, side, window[:, y : y + side, x : x + side]
