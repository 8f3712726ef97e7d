"""The blur of an image, as a PSF or as several that are possible.

A `Blur` is told by the user, read from a file, or estimated from the image. It can be written as
JSON, and scaled to another pixel size. An uncertain blur is a mixture: each candidate has a
probability.
"""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.blur_kinds import BLUR_KINDS, check_numbers
from napari_swintormer.optics.psf_array import (
    checked_psf,
    mean_autocorrelation,
    moments,
    on_periodic_grid,
    read_plane_psf,
    scaled_psf,
    scattering,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from napari_swintormer.optics.blur_kinds import Family
    from napari_swintormer.optics.psf import PSF

_OIL = 1.515  # refractive index of immersion oil
_LONG = 1.6  # a kernel this many times longer than wide counts as motion
_SCATTERED = 1.15  # and so does one with so much darkness around its light: a path that turns
_ALIKE = 0.2  # sizes that differ by this share count as the same size
_FORMS = "3.2px, motion:14@30, gaussian:1.6, or the path of a PSF file"


def as_text(told: object) -> str:
    """Write what a user tells about a blur as a text that `Blur.parse` reads."""
    return json.dumps(told.to_json()) if isinstance(told, Blur) else str(told).strip()


@dataclass(frozen=True)
class Blur:
    """What blurs an image; make one with the class methods.

    Attributes
    ----------
    kind
        A key of `napari_swintormer.optics.blur_kinds.BLUR_KINDS`, ``"none"``, ``"kernel"`` or
        ``"mixture"``.
    numbers
        Numbers of the kind, in the order of its names.
    samples
        The PSF of a kernel: float32, row by row, as bytes.
    parts
        The candidates of a mixture with their probabilities.

    Examples
    --------
    >>> Blur.motion(14, 30).sentence()
    'motion blur of 14 pixels, direction 30°'
    >>> Blur.parse("3.2px") == Blur.disk(3.2)
    True
    """

    kind: str
    numbers: tuple[float, ...] = ()
    samples: bytes = b""
    parts: tuple[tuple[float, Blur], ...] = ()

    def __post_init__(self) -> None:
        if self.kind in BLUR_KINDS:
            check_numbers(self.kind, self.numbers)

    @classmethod
    def none(cls) -> Blur:
        """No blur: the image is sharp, or nothing is known."""
        return cls("none")

    @classmethod
    def disk(cls, radius: float) -> Blur:
        """Defocus by geometric optics, with a blur circle of `radius` pixels."""
        return cls("disk", (float(radius),))

    @classmethod
    def gaussian(cls, sigma: float) -> Blur:
        """Gaussian with a standard deviation of `sigma` pixels."""
        return cls("gaussian", (float(sigma),))

    @classmethod
    def polygon(cls, radius: float, blades: int, rotation: float = 0.0) -> Blur:
        """Defocus by an aperture of straight blades; `rotation` is in degrees."""
        return cls("polygon", (float(radius), float(blades), float(rotation)))

    @classmethod
    def lens(cls, radius: float, cutoff: float = 0.5) -> Blur:
        """Defocus by wave optics: `cutoff` is the highest frequency in cycles per pixel."""
        return cls("lens", (float(radius), float(cutoff)))

    @classmethod
    def motion(cls, length: float, angle: float) -> Blur:
        """Even motion over `length` pixels, `angle` degrees anticlockwise from the x axis."""
        if 0 < length <= 1:
            raise SettingsError(
                f"A motion is longer than one pixel (got length={length:g}). Use 2 or more, or "
                "Blur.none()."
            )
        return cls("motion", (float(length), float(angle) % 180))

    @classmethod
    def optics(
        cls,
        na: float,
        wavelength: float,
        pixel_size: float | None = None,
        defocus: float = 0.0,
        index: float | None = None,
    ) -> Blur:
        """Fluorescence microscope; lengths are in micrometres.

        `defocus` is the distance from the focus, and `index` the refractive index of the immersion:
        air for an `na` below 1, else oil.
        """
        if pixel_size is None:
            raise SettingsError(
                "The blur of a microscope needs the size of a pixel in micrometres (got none). "
                "Give pixel_size, such as pixel_size=0.1."
            )
        around = index or (1.0 if na < 1 else _OIL)
        return cls("optics", tuple(map(float, (na, wavelength, pixel_size, defocus, around))))

    @classmethod
    def kernel(cls, array: ArrayLike) -> Blur:
        """Blur with any PSF ``(Y, X)``: odd sides, not negative, no larger than 65 pixels.

        The sum becomes 1, and zeros are added so that the centre of mass lies in the middle pixel.
        """
        return cls("kernel", samples=checked_psf(array, "the array").tobytes())

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Blur:
        """Read a PSF from an image file; an even background around it is taken off."""
        return cls("kernel", samples=read_plane_psf(Path(path)).tobytes())

    @classmethod
    def mixture(cls, parts: Iterable[tuple[float, Blur]]) -> Blur:
        """Blur that is one of several candidates: pairs of a probability and a blur.

        Probabilities are brought to the sum 1; equal blurs count once.
        """
        total: dict[Blur, float] = {}
        for share, blur in parts:
            if not 0 <= share < math.inf:
                raise SettingsError(
                    f"A probability is not negative (got {share:g}). Use numbers from 0 to 1."
                )
            for probability, candidate in blur.candidates:
                total[candidate] = total.get(candidate, 0.0) + float(share) * probability
        whole = sum(total.values())
        if not whole > 0:
            raise SettingsError(
                "A mixture needs a candidate with a probability above 0 (got none). Use "
                "Blur.none() for no blur."
            )
        kept = tuple((p / whole, blur) for blur, p in total.items() if p > 0)
        return kept[0][1] if len(kept) == 1 else cls("mixture", parts=kept)

    @classmethod
    def parse(cls, told: object) -> Blur:
        """Make a blur of what a user tells.

        A number is the radius of a defocus in pixels. A text is such a number, ``none``, a kind and
        its numbers like ``motion:14@30``, or the path of a PSF file.
        """
        if isinstance(told, Blur):
            return told
        if isinstance(told, int | float) and not isinstance(told, bool):
            return cls.disk(told)
        text = str(told).strip()
        if text.lower() == "none":
            return cls.none()
        if number := re.fullmatch(r"([-+]?\d*\.?\d+)\s*(px|pixels?)?", text):
            return cls.disk(float(number[1]))
        if text.startswith("{"):
            return cls._of_text(text)
        kind, colon, rest = text.partition(":")
        if colon and kind.lower() in BLUR_KINDS:
            return cls._of_numbers(kind.lower(), rest, text)
        if isinstance(told, Path) or Path(text).suffix:
            return cls.from_file(text)
        raise SettingsError(f"This is no blur (got {text!r}). Use {_FORMS}.")

    @classmethod
    def _of_text(cls, text: str) -> Blur:
        """Make a blur of JSON text."""
        try:
            return cls.from_json(json.loads(text))
        except json.JSONDecodeError as error:
            raise SettingsError(f"This is no blur (got {text[:40]!r}). Use {_FORMS}.") from error

    @classmethod
    def _of_numbers(cls, kind: str, rest: str, text: str) -> Blur:
        """Make a blur of a kind and of numbers like ``14@30``."""
        try:
            numbers = [float(part.strip().removesuffix("px")) for part in rest.split("@")]
            made: Blur = getattr(cls, kind)(*numbers)
        except (ValueError, TypeError) as error:
            if isinstance(error, SettingsError):
                raise
            names = "@".join(name.upper() for name in BLUR_KINDS[kind].names)
            raise SettingsError(
                f"The numbers of this blur cannot be read (got {text!r}). Use {kind}:{names}, such "
                "as motion:14@30."
            ) from error
        return made

    @property
    def candidates(self) -> tuple[tuple[float, Blur], ...]:
        """Pairs of a probability and a blur; a blur that is no mixture is its only candidate."""
        return self.parts if self.kind == "mixture" else ((1.0, self),)

    @property
    def family(self) -> Family:
        """What people call it: none, defocus or motion; of a mixture, the most probable."""
        if self.kind == "mixture":
            shares: dict[Family, float] = {}
            for p, blur in self.parts:
                shares[blur.family] = shares.get(blur.family, 0.0) + p
            return max(shares, key=lambda family: shares[family])
        if self.kind == "kernel":
            moves = self._straight or scattering(self.psf()) > _SCATTERED
            return "motion" if moves else "defocus"
        return "none" if self.kind == "none" else BLUR_KINDS[self.kind].family

    def psf(self) -> PSF:
        """PSF ``(K, K)`` float32: K is odd, the sum 1; read only. Of a mixture, the mean PSF."""
        return _psf(self)

    def otf_moments(
        self, shape: tuple[int, int]
    ) -> tuple[NDArray[np.complex64], NDArray[np.float32]]:
        """Mean OTF and mean squared size of the OTF on the grid of ``rfft2`` over `shape`."""
        mean = np.fft.rfft2(on_periodic_grid(self.psf(), shape)).astype(np.complex64)
        if self.kind != "mixture":
            return mean, np.abs(mean) ** 2
        alike = mean_autocorrelation((p, blur.psf()) for p, blur in self.parts)
        # the transform of an autocorrelation is |H|², so one transform serves all candidates
        square = np.fft.rfft2(on_periodic_grid(alike, shape)).real
        return mean, np.maximum(square, np.abs(mean) ** 2).astype(np.float32)

    @property
    def radius(self) -> float:
        """Root of the mean squared distance of the light from the middle, in pixels."""
        long, short, _ = moments(self.psf())
        return math.hypot(long, short)

    @property
    def reach(self) -> int:
        """Distance in pixels beyond which the PSF is zero, along an axis."""
        return len(self.psf()) // 2

    def scaled(self, factor: float) -> Blur:
        """Give the blur for pixels that are `factor` times smaller, so that it covers more."""
        if not 0 < factor < math.inf:
            raise SettingsError(
                f"A factor on the size of a blur is positive (got {factor:g}). Use 0.5 for an "
                "image of half the size."
            )
        if self.kind in BLUR_KINDS:
            return Blur(self.kind, BLUR_KINDS[self.kind].scaled(factor, *self.numbers))
        if self.kind == "kernel":
            return Blur.kernel(scaled_psf(self.psf(), factor))
        if self.kind == "mixture":
            return Blur.mixture((p, blur.scaled(factor)) for p, blur in self.parts)
        return self

    @property
    def sureness(self) -> float:
        """Probability that kind and size are those of `sentence`, to a fifth of the size."""
        family, size = self.family, self._typical().radius
        return sum(
            p
            for p, blur in self.candidates
            if blur.family == family and abs(blur.radius - size) <= _ALIKE * size
        )

    def sentence(self, certainty: float | None = None) -> str:
        """Describe the blur for people; `certainty` from 0 to 1 is added in per cent."""
        sure = self.sureness if certainty is None and self.kind == "mixture" else certainty
        end = "" if sure is None else f"; {100 * sure:.0f} % sure"
        typical = self._typical()
        if typical.kind == "none":
            return f"no blur{end}"
        if typical.kind in BLUR_KINDS:
            words = BLUR_KINDS[typical.kind].words(*typical.numbers)
        else:
            long, short, angle = moments(typical.psf())
            words = (
                f"defocus blur with a radius of about {math.sqrt(2) * typical.radius:.2g} pixels"
            )
            if typical._straight:
                length = math.sqrt(12 * (long**2 - short**2))
                words = f"motion blur of about {length:.2g} pixels, direction {angle:.0f}°"
            elif typical.family == "motion":
                across = math.sqrt(12) * typical.radius
                words = f"motion blur on a path about {across:.2g} pixels across"
        if self.kind == "mixture":
            words = re.sub(r" of (?=\d)", " of about ", words, count=1)
        return words + end

    @property
    def _straight(self) -> bool:
        """Whether the PSF is much longer than wide."""
        long, short, _ = moments(self.psf())
        return long > _LONG * short

    def _typical(self) -> Blur:
        """Give the candidate of the main family whose radius is nearest to the mean."""
        own = [(p, blur) for p, blur in self.candidates if blur.family == self.family]
        mean = sum(p * blur.radius for p, blur in own) / sum(p for p, _ in own)
        return min((blur for _, blur in own), key=lambda blur: abs(blur.radius - mean))

    def to_json(self) -> dict[str, Any]:
        """Give plain values that `from_json` reads."""
        if self.kind in BLUR_KINDS:
            return {"kind": self.kind, **dict(zip(self._names, self.numbers, strict=True))}
        if self.kind == "kernel":
            packed = base64.b64encode(zlib.compress(self.samples, 9)).decode()
            return {"kind": "kernel", "side": len(self.psf()), "float32_zlib_base64": packed}
        if self.kind == "mixture":
            return {"kind": "mixture", "parts": [[p, blur.to_json()] for p, blur in self.parts]}
        return {"kind": "none"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Blur:
        """Make a blur of the values of `to_json`."""
        try:
            kind = values["kind"]
            if kind in BLUR_KINDS:
                return cls(kind, tuple(float(values[name]) for name in BLUR_KINDS[kind].names))
            if kind == "kernel":
                samples = zlib.decompress(base64.b64decode(values["float32_zlib_base64"]))
                side = int(values["side"])
                psf = np.frombuffer(samples, np.float32).reshape(side, side)
                if side % 2 == 0 or not (psf.min() >= 0 and abs(psf.sum() - 1) < 1e-3):
                    raise ValueError("no PSF")
                return cls("kernel", samples=samples)
            if kind == "mixture":
                # as they are: the sum is 1 up to the last bits already
                parts = tuple((float(p), cls.from_json(blur)) for p, blur in values["parts"])
                return cls("mixture", parts=parts)
            if kind == "none":
                return cls.none()
        except SettingsError:
            raise
        except (KeyError, TypeError, ValueError, zlib.error) as error:
            raise SettingsError(
                f"The stored blur cannot be read (got {str(values)[:80]}). Measure it again, or "
                f"use {_FORMS}."
            ) from error
        raise SettingsError(
            f"There is no such kind of blur (got {kind!r}). Use one of "
            f"{', '.join(['none', *BLUR_KINDS, 'kernel', 'mixture'])}."
        )

    @property
    def _names(self) -> tuple[str, ...]:
        return BLUR_KINDS[self.kind].names


@lru_cache(maxsize=512)
def _psf(blur: Blur) -> PSF:
    if blur.kind == "none":
        psf = np.ones((1, 1), np.float32)
    elif blur.kind == "kernel":
        side = math.isqrt(len(blur.samples) // 4)
        psf = np.frombuffer(blur.samples, np.float32).reshape(side, side)
    elif blur.kind == "mixture":
        side = max(len(candidate.psf()) for _, candidate in blur.parts)
        psf = np.zeros((side, side), np.float32)
        for probability, candidate in blur.parts:
            own = candidate.psf()
            inner = slice((side - len(own)) // 2, (side + len(own)) // 2)
            psf[inner, inner] += np.float32(probability) * own
    else:
        psf = BLUR_KINDS[blur.kind].psf(*blur.numbers)
    psf.flags.writeable = False
    return psf
