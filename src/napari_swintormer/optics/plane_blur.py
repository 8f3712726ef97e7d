"""What a run knows of the blur of one plane, and the filters that undo it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.inverse_filter import (
    CAUTION,
    GRID,
    blur_maps,
    inverse_kernel,
)
from napari_swintormer.optics.plane_power import PowerOfPlane

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from napari_swintormer.optics.plane_power import PlanePower

_UNMEASURED = PowerOfPlane()
# Chosen on made blur of training images: micrographs have fewer edges than the signal prior says.
_MICROGRAPH = 2.0  # factor on the caution


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
    """

    blur: Blur
    certainty: float = 1.0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Give plain values that `from_json` reads."""
        return {
            "blur": self.blur.to_json(),
            "certainty": self.certainty,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> FoundBlur:
        """Make it of the values of `to_json`."""
        blur = Blur.from_json(values["blur"])
        return cls(blur, float(values["certainty"]), str(values["reason"]))


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
    """

    found: FoundBlur
    power: PowerOfPlane = _UNMEASURED
    clipped: float | None = None

    @property
    def blur(self) -> Blur:
        """The blur."""
        return self.found.blur

    @property
    def changes(self) -> bool:
        """Whether there is something to undo, in a plane that has detail."""
        return self.blur.kind != "none" and self.power.light is not None

    @cached_property
    def digest(self) -> str:
        """What tells this from another known blur."""
        found = json.dumps([self.blur.to_json(), self.found.certainty])
        known = hashlib.sha256(f"{found}, {self.power.gamma}, {self.clipped}".encode())
        for power in (self.power.intensities, self.power.light):
            if power is not None:
                known.update(repr(power.image).encode() + power.spectrum.tobytes())
        return known.hexdigest()

    def kernels(self) -> NDArray[np.float32]:
        """Make the filters of the intensities and of the light, ``(2, 2R + 1, 2R + 1)`` of sum 1.

        There is one filter where the intensities are light. A blur that does not fit the plane gets
        a filter that does little.
        """
        photo = self.power.gamma != 1
        powers = [self._shown, self._power] if photo else [self._power]
        caution = CAUTION if photo else _MICROGRAPH * CAUTION
        moments = self.blur.otf_moments((GRID, GRID))
        return np.stack([inverse_kernel(moments, p.with_blur(self.blur), caution) for p in powers])

    def maps(self) -> NDArray[np.float32]:
        """Give the constants that a network for a known blur sees as maps."""
        radius = sum(p * candidate.radius for p, candidate in self.blur.candidates)
        return blur_maps(radius, self.found.certainty, self._power.image)

    @property
    def _power(self) -> PlanePower:
        assert self.power.light is not None
        return self.power.light

    @property
    def _shown(self) -> PlanePower:
        assert self.power.intensities is not None
        return self.power.intensities
