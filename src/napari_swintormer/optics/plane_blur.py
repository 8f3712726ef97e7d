"""What a run knows of the blur of one plane, and the filters that undo it."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.blur_kinds import LARGEST
from napari_swintormer.optics.inverse_filter import (
    GRID,
    Candidate,
    ImagePower,
    blur_maps,
    field_maps,
    inverse_kernel,
    unknown_maps,
)
from napari_swintormer.optics.plane_power import PowerOfPlane

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_swintormer.optics.plane_power import PlanePower
    from napari_swintormer.optics.sharp_spectrum import Content, SharpSpectrum

_UNMEASURED = PowerOfPlane()
# Chosen on made blur of training images: told exactly, told 20 % too wide or too narrow, estimated.
_SPREAD = 0.1  # standard deviation of the logarithm of a blur's true size around the told one
_FACTORS = np.exp(np.linspace(-3, 3, 9) * _SPREAD)
_UNSEEN = {True: 0.05, False: 0.5}  # whether told: share that does not follow the image's spectrum
_WRONG = 0.3  # share of a found motion's uncertainty that it is no blur at all
_FAR = 45.0  # how much less likely, as a logarithm, a blur is that does not fit
_ABSURD = 3.0  # power of its sharp spectrum, relative to that of the blur that fits best
_RARE = 0.0005  # probability of candidates that are left out


@dataclass(frozen=True)
class FoundBlur:
    """The blur of a plane, told or estimated.

    Attributes
    ----------
    blur
        The blur; ``Blur.none()`` leaves the plane as it is.
    certainty
        How sure it is, from 0 to 1; 1 for a blur that the user told.
    reason
        One sentence: why it was taken, or why there is none.
    unclear
        Whether the plane is blurred, but not by one blur that is sure.
    varies
        Whether the blur changes from place to place.
    field
        How it changes, where that is sure enough; `blur` is then what is possible anywhere.
    share
        Share of the change that an unclear plane gets; less than 1 if it may be sharp.
    """

    blur: Blur
    certainty: float = 1.0
    reason: str = ""
    unclear: bool = False
    varies: bool = False
    field: BlurField | None = None
    share: float = 1.0

    @classmethod
    def of_field(cls, field: BlurField) -> FoundBlur:
        """Give the blur of a plane as a field."""
        return cls(field.mean, field.certainty, field.sentence(), varies=True, field=field)

    @cached_property
    def radius(self) -> float:
        """Root mean square of the distance from the centre in pixels, the mean of what it may be.

        It is 0 where nothing is known.
        """
        return float(sum(p * candidate.radius for p, candidate in self.blur.candidates))

    @property
    def told(self) -> bool:
        """Whether the user told it: an estimate is never quite sure."""
        return self.certainty >= 1

    def to_json(self) -> dict[str, Any]:
        """Give plain values that `from_json` reads."""
        values = {
            "blur": self.blur.to_json(),
            "certainty": self.certainty,
            "reason": self.reason,
            "unclear": self.unclear,
            "varies": self.varies,
        }
        if self.field is not None:
            values["field"] = self.field.to_json()
        return values if self.share == 1 else values | {"share": self.share}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FoundBlur:
        """Make it of the values of `to_json`."""
        blur = Blur.from_json(values["blur"])
        unclear, varies = (bool(values.get(name, False)) for name in ("unclear", "varies"))
        field = BlurField.from_json(values["field"]) if "field" in values else None
        certainty, reason = float(values["certainty"]), str(values["reason"])
        share = float(values.get("share", 1.0))
        return cls(blur, certainty, reason, unclear, varies, field, share)


@dataclass(frozen=True, eq=False)
class PlaneBlur:
    """The blur of one plane, with all that its filters need.

    Attributes
    ----------
    found
        The blur.
    power
        Noise and detail of the plane.
    clipped
        Unit intensity from which on pixels are clipped; None where none is.
    places
        Noise and detail of the places with each blur of a field, without the first.
    """

    found: FoundBlur
    power: PowerOfPlane = _UNMEASURED
    clipped: float | None = None
    places: tuple[PowerOfPlane, ...] = ()

    @property
    def blur(self) -> Blur:
        """The blur."""
        return self.found.blur

    @property
    def radius(self) -> float:
        """See `FoundBlur.radius`."""
        return self.found.radius

    @property
    def changes(self) -> bool:
        """Whether there is something to undo, in a plane that has detail."""
        return self.blur.kind != "none" and self.power.light is not None

    @cached_property
    def as_unclear(self) -> PlaneBlur:
        """The plane as if nothing were known of its blur."""
        return PlaneBlur(FoundBlur(Blur.none(), 0, unclear=True), self.power, self.clipped)

    @cached_property
    def parts(self) -> tuple[PlaneBlur, ...]:
        """The blurs of a field, without the first, each as if the whole plane had it."""
        if self.found.field is None:
            return ()
        certainty = self.found.certainty
        return tuple(
            PlaneBlur(FoundBlur(blur, certainty), power, self.clipped)
            for blur, power in zip(self.found.field.blurs[1:], self.places, strict=True)
        )

    @cached_property
    def digest(self) -> str:
        """What tells this from another known blur."""
        found = json.dumps(self.found.to_json() | {"reason": ""})
        known = hashlib.sha256(f"{found}, {self.power.gamma}, {self.clipped}".encode())
        for each in (self.power, *self.places):
            for power in (each.intensities, each.light):
                if power is not None:
                    known.update(repr(power.image).encode() + power.spectrum.tobytes())
        return known.hexdigest()

    def kernels(self) -> NDArray[np.float32]:
        """Make the filters of the intensities and of the light, ``(2, 2R + 1, 2R + 1)`` of sum 1.

        There is one filter where the intensities are light. A blur that does not fit the plane gets
        a filter that does little; one that fits it in another size is taken in that size.
        """
        return np.stack([inverse_kernel(candidates) for candidates in self._weighed()])

    def _weighed(self) -> list[list[Candidate]]:
        """Weigh the possible blurs by how well they fit the plane's light, for each filter."""
        photo, possible = self.power.gamma != 1, self._possible()
        content: Content = "photo_light" if photo else "micrograph"
        light = [self._power.sharp(blur, content, GRID) for _, blur in possible]
        before = np.array([p for p, _ in possible])
        with np.errstate(divide="ignore"):  # what is impossible before stays so
            likely = np.log(before) - [fit.misfit for fit in light]
        likely -= likely.max()
        after = np.exp(likely)
        unseen = _UNSEEN[self.found.told]
        shares = unseen * before + (1 - unseen) * after / after.sum()
        best, far = int(likely.argmax()), likely < -_FAR
        fits = [light]
        if photo:
            fits.insert(0, [self._shown.sharp(blur, "photo", GRID) for _, blur in possible])
        moments = [blur.otf_moments((GRID, GRID)) for _, blur in possible]
        # the sharp spectrum of a blur that does not fit can be absurd, such as a thousandfold power
        return [
            [
                Candidate(float(p), *moment, _bounded(fit, each[best]) if off else fit)
                for p, moment, fit, off in zip(shares, moments, each, far, strict=True)
                if p > _RARE
            ]
            for each in fits
        ]

    def _possible(self) -> list[tuple[float, Blur]]:
        """List the candidates; a blur that is only one may be a little wider or narrower.

        An estimated motion may be none; an estimated defocus says itself how likely that is.
        """
        candidates = self.blur.candidates
        none = _WRONG * max(0.0, 1 - self.found.certainty)
        if len(candidates) > 1:
            if any(blur.kind != "kernel" for _, blur in candidates):
                return list(candidates)
            return [*(((1 - none) * p, blur) for p, blur in candidates), (none, Blur.none())]
        weights = np.exp(-0.5 * (np.log(_FACTORS) / _SPREAD) ** 2)
        sizes = [
            ((1 - none) * float(weight), self.blur if factor == 1 else self.blur.scaled(factor))
            for weight, factor in zip(weights / weights.sum(), _FACTORS.tolist(), strict=True)
            if factor == 1 or math.ceil((self.blur.reach + 0.5) * factor) < LARGEST // 2
        ]
        return [*sizes, (none, Blur.none())]

    def maps(self) -> NDArray[np.float32]:
        """Give the constants that a network for a known blur sees as maps."""
        if self.found.unclear:
            image = self._power.image if self.power.light else ImagePower(0, 0)
            return unknown_maps(image, photo=self.power.gamma != 1)
        if not self.changes:
            return blur_maps(0, self.found.certainty, ImagePower(0, 0))
        return blur_maps(self.radius, self.found.certainty, self._power.image)

    def maps_at(self, y: int, x: int, height: int, width: int) -> NDArray[np.float32]:
        """Give the maps ``(3, height, width)`` of a region; without a field they are even."""
        field, size = self.found.field, (height, width)
        if field is None:
            return np.broadcast_to(self.maps()[:, None, None], (3, *size))
        shares = field.shares_at(y, x, *size)
        radius = np.tensordot(field.sizes.astype(np.float32) / math.sqrt(2), shares, 1)
        return field_maps(radius, shares.max(axis=0), self._power.image)

    @property
    def _power(self) -> PlanePower:
        assert self.power.light is not None
        return self.power.light

    @property
    def _shown(self) -> PlanePower:
        assert self.power.intensities is not None
        return self.power.intensities


def _bounded(fit: SharpSpectrum, best: SharpSpectrum) -> SharpSpectrum:
    """Limit the power of a sharp spectrum by that of another one."""
    return replace(fit, signal=np.minimum(fit.signal, _ABSURD * best.signal))
