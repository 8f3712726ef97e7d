"""The kinds of blur that people and estimators can name. One line adds a kind here.

`napari_swintormer.optics.blur.Blur` holds the numbers of one kind; a property suite in the tests
covers every kind of this list. Lengths are in pixels and angles in degrees, but for microscopes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics import psf
from napari_swintormer.optics.microscope import Microscope
from napari_swintormer.optics.motion import motion_psf

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_swintormer.optics.psf import PSF

Family = Literal["none", "defocus", "motion"]

LARGEST = 65
"""Largest width of a blur in pixels: the side of a PSF, a motion, or twice a radius."""
_FINEST_CUTOFF, _COARSEST_CUTOFF = 2.0, 0.08  # cycles per pixel that a lens passes
_SHARPEST_WAVES = 5.0  # waves of defocus that the sampled pupil resolves


@dataclass(frozen=True)
class BlurKind:
    """One kind of blur.

    Attributes
    ----------
    names
        Names of the numbers.
    family
        What people call it.
    psf
        PSF of the numbers.
    width
        Width of the PSF in pixels, as `LARGEST` limits it.
    scaled
        Numbers for pixels that are `factor` times smaller: ``scaled(factor, *numbers)``.
    words
        The kind and its numbers in words.
    check
        Raises `SettingsError` for numbers that are impossible for another reason than the width.
    """

    names: tuple[str, ...]
    family: Family
    psf: Callable[..., PSF]
    width: Callable[..., float]
    scaled: Callable[..., tuple[float, ...]]
    words: Callable[..., str]
    check: Callable[..., None] = lambda *_: None


def _line(length: float, angle: float) -> PSF:
    """PSF of an even motion along a line; `angle` is anticlockwise from the x axis."""
    times = np.linspace(-0.5, 0.5, 64)
    direction = math.radians(angle)
    path = length * times[:, None] * np.array([-math.sin(direction), math.cos(direction)])
    return motion_psf(path)


def _lens(radius: float, cutoff: float) -> PSF:
    """PSF of a defocused lens that diffraction limits.

    A wide blur is the disk of geometric optics, blurred by the lens in focus: its phase changes too
    fast for the sampled pupil.
    """
    if radius * cutoff / 4 <= _SHARPEST_WAVES:
        return psf.defocus(radius, cutoff)
    return _blurred(psf.disk(radius), psf.defocus(0, cutoff))


def _microscope(
    na: float, wavelength: float, pixel_size: float, defocus: float, index: float
) -> PSF:
    """PSF of a fluorescence microscope; lengths are in micrometres."""
    microscope = Microscope(na, wavelength, pixel_size, index)
    radius = _optics_radius(na, wavelength, pixel_size, defocus, index)
    if radius * microscope.cutoff / 4 <= _SHARPEST_WAVES:
        return microscope.fluorescence(defocus)
    return _blurred(psf.disk(radius), microscope.fluorescence(0))


def _blurred(first: PSF, second: PSF) -> PSF:
    from scipy.signal import convolve2d

    both = convolve2d(first, second)
    blurred: PSF = (both / both.sum()).astype(np.float32)
    return blurred


def _optics_radius(
    na: float, wavelength: float, pixel_size: float, defocus: float, index: float
) -> float:
    """Radius of the geometric blur circle, in pixels."""
    sine = na / index
    return abs(defocus) * sine / math.sqrt(1 - sine**2) / pixel_size


def _optics_width(
    na: float, wavelength: float, pixel_size: float, defocus: float, index: float
) -> float:
    airy = 0.61 * wavelength / na / pixel_size
    return 2 * (_optics_radius(na, wavelength, pixel_size, defocus, index) + airy)


def _scaled_lens(factor: float, radius: float, cutoff: float) -> tuple[float, float]:
    finer = min(max(cutoff / factor, _COARSEST_CUTOFF), _FINEST_CUTOFF)
    return factor * radius, finer


def _check_lens(radius: float, cutoff: float) -> None:
    if not _COARSEST_CUTOFF <= cutoff <= _FINEST_CUTOFF:
        raise SettingsError(
            f"The cutoff of a lens is in cycles per pixel (got cutoff={cutoff:g}). Use a number "
            f"between {_COARSEST_CUTOFF:g} and {_FINEST_CUTOFF:g}, such as 0.5."
        )


def _check_polygon(radius: float, blades: float, rotation: float) -> None:
    if blades != int(blades) or not 3 <= blades <= 20:
        raise SettingsError(
            f"An aperture has 3 to 20 straight blades (got blades={blades:g}). Use a whole number, "
            "such as 6."
        )


def _check_optics(
    na: float, wavelength: float, pixel_size: float, defocus: float, index: float
) -> None:
    if not 0 < na < index:
        raise SettingsError(
            "The numerical aperture lies between 0 and the refractive index of the immersion (got "
            f"na={na:g}, index={index:g}). Use index=1.515 for oil, or a smaller na."
        )
    if not 0.1 <= wavelength <= 10:
        raise SettingsError(
            "The wavelength of a blur is in micrometres, between 0.1 and 10 (got "
            f"wavelength={wavelength:g}). Green light has 0.52."
        )


def _optics_words(
    na: float, wavelength: float, pixel_size: float, defocus: float, index: float
) -> str:
    focus = f"{abs(defocus):.3g} µm out of focus" if defocus else "in focus"
    return f"blur of a microscope with NA {na:g} at {1000 * wavelength:.0f} nm, {focus}"


BLUR_KINDS: dict[str, BlurKind] = {
    "disk": BlurKind(
        names=("radius",),
        family="defocus",
        psf=psf.disk,
        width=lambda radius: 2 * radius,
        scaled=lambda factor, radius: (factor * radius,),
        words=lambda radius: f"defocus blur with a radius of {radius:.2g} pixels",
    ),
    "gaussian": BlurKind(
        names=("sigma",),
        family="defocus",
        psf=lambda sigma: psf.gaussian(2 * sigma),
        width=lambda sigma: 6 * sigma,
        scaled=lambda factor, sigma: (factor * sigma,),
        words=lambda sigma: f"Gaussian blur with a sigma of {sigma:.2g} pixels",
    ),
    "polygon": BlurKind(
        names=("radius", "blades", "rotation"),
        family="defocus",
        psf=lambda radius, blades, rotation: psf.polygon(
            radius, int(blades), math.radians(rotation)
        ),
        width=lambda radius, *_: 2 * radius,
        scaled=lambda factor, radius, blades, rotation: (factor * radius, blades, rotation),
        words=lambda radius, blades, _: (
            f"defocus blur with a radius of {radius:.2g} pixels, by {blades:.0f} aperture blades"
        ),
        check=_check_polygon,
    ),
    "lens": BlurKind(
        names=("radius", "cutoff"),
        family="defocus",
        psf=_lens,
        width=lambda radius, cutoff: 2 * (radius + 1.22 / cutoff),
        scaled=_scaled_lens,
        words=lambda radius, _: (
            f"defocus blur with a radius of {radius:.2g} pixels, with diffraction"
        ),
        check=_check_lens,
    ),
    "motion": BlurKind(
        names=("length", "angle"),
        family="motion",
        psf=_line,
        width=lambda length, _: length,
        scaled=lambda factor, length, angle: (factor * length, angle),
        words=lambda length, angle: (
            f"motion blur of {length:.3g} pixels, direction {angle % 180:.0f}°"
        ),
    ),
    "optics": BlurKind(
        names=("na", "wavelength", "pixel_size", "defocus", "index"),
        family="defocus",
        psf=_microscope,
        width=_optics_width,
        scaled=lambda factor, na, wavelength, pixel_size, defocus, index: (
            na,
            wavelength,
            pixel_size / factor,
            defocus,
            index,
        ),
        words=_optics_words,
        check=_check_optics,
    ),
}
"""The kinds that a few numbers describe; `Blur` also knows none, free kernels and mixtures."""

POSITIVE = {"radius", "sigma", "length", "cutoff", "na", "wavelength", "pixel_size", "index"}
"""Numbers that are larger than 0; others may have any sign."""


def check_numbers(kind: str, numbers: tuple[float, ...]) -> None:
    """Refuse numbers that are impossible for a kind."""
    known = BLUR_KINDS[kind]
    for name, number in zip(known.names, numbers, strict=True):
        if not math.isfinite(number) or (name in POSITIVE and number <= 0):
            # in a microscope or a lens in focus, the radius comes from diffraction alone
            if kind == "lens" and name == "radius" and number == 0:
                continue
            raise SettingsError(
                f"The {name.replace('_', ' ')} of a blur is a positive number (got {name}="
                f"{number:g}). Use a larger one, or none for no blur."
            )
    known.check(*numbers)
    width = known.width(*numbers)
    if width > LARGEST:
        raise SettingsError(
            f"A blur is at most {LARGEST} pixels wide (got {width:.0f} pixels). Restore a smaller "
            "copy of the image, or use a smaller blur."
        )
