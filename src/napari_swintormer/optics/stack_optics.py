"""The optics of a fluorescence microscope that recorded a stack, as validated numbers."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, get_args

from napari_swintormer.errors import SettingsError
from napari_swintormer.settings.deblur_settings import Modality

IMMERSION_INDEX = {"air": 1.0, "water": 1.333, "glycerol": 1.47, "oil": 1.515}
"""Refractive index of each immersion medium by name."""


@dataclass(frozen=True)
class StackOptics:
    """The numbers of a microscope that its 3-D point-spread function follows from.

    Attributes
    ----------
    na
        Numerical aperture of the objective; less than `immersion_index`.
    emission
        Wavelength of the recorded light, in micrometres.
    pixel_size
        Side of a pixel on the object, in micrometres.
    z_step
        Distance between two planes of the stack, in micrometres.
    immersion_index
        Refractive index between objective and cover glass: 1 for air, 1.333 water, 1.515 oil.
    sample_index
        Refractive index of the specimen; None means equal to `immersion_index`.
    specimen_depth
        Depth of the middle of the stack below the cover glass, in micrometres; matters only where
        the two indices differ.
    modality
        How the light is selected: ``"widefield"``, ``"confocal"``, ``"spinning-disk"`` or
        ``"light-sheet"``.
    excitation
        Wavelength that excites the dye, in micrometres; None means 0.93 times `emission`.
    pinhole
        Diameter of a confocal pinhole in Airy units.
    sheet_thickness
        Full width at half maximum of a light sheet, in micrometres.

    Raises
    ------
    SettingsError
        A number is impossible, or two numbers contradict each other.
    """

    na: float
    emission: float
    pixel_size: float
    z_step: float
    immersion_index: float = 1.515
    sample_index: float | None = None
    specimen_depth: float = 0.0
    modality: Modality = "widefield"
    excitation: float | None = None
    pinhole: float = 1.0
    sheet_thickness: float = 3.0

    def __post_init__(self) -> None:
        for name, unit in (
            ("na", ""),
            ("emission", " micrometres"),
            ("pixel_size", " micrometres"),
            ("z_step", " micrometres"),
            ("pinhole", " Airy units"),
            ("sheet_thickness", " micrometres"),
        ):
            if not 0 < getattr(self, name) < 1e4:
                raise SettingsError(
                    f"{name} must be a positive number{' of' if unit else ''}{unit} "
                    f"(got {name}={getattr(self, name):g})."
                )
        for name in ("immersion_index", "sample_index"):
            index = getattr(self, name)
            if index is not None and not 1 <= index <= 2:
                raise SettingsError(
                    f"{name} is a refractive index from 1 to 2 (got {name}={index:g}). "
                    "Use 1 for air, 1.333 for water, 1.515 for oil."
                )
        if self.na >= self.immersion_index:
            raise SettingsError(
                f"na must be less than the refractive index of the immersion (got na={self.na:g}, "
                f"immersion_index={self.immersion_index:g}). Check both on the objective."
            )
        if self.emission > 10 or (self.excitation is not None and self.excitation > 10):
            raise SettingsError(
                "Wavelengths are in micrometres (got "
                f"emission={self.emission:g}, excitation={self.excitation}). Use 0.52 for 520 nm."
            )
        if self.excitation is not None and not 0 < self.excitation <= self.emission:
            raise SettingsError(
                "excitation must be positive and not longer than emission (got "
                f"excitation={self.excitation:g}, emission={self.emission:g})."
            )
        if not 0 <= self.specimen_depth <= 1000:
            raise SettingsError(
                "specimen_depth is a depth below the cover glass from 0 to 1000 micrometres (got "
                f"specimen_depth={self.specimen_depth:g})."
            )
        if self.modality not in get_args(Modality):
            raise SettingsError(
                f"There is no such modality (got modality={self.modality!r}). "
                f"Use one of {', '.join(get_args(Modality))}."
            )

    @property
    def index(self) -> float:
        """Refractive index of the specimen."""
        return self.immersion_index if self.sample_index is None else self.sample_index

    def to_dict(self) -> dict[str, Any]:
        """Give the numbers as plain values, for JSON and the provenance of a result."""
        return asdict(self)

    def describe(self) -> str:
        """Describe the microscope in a few words.

        Examples
        --------
        >>> StackOptics(1.4, emission=0.52, pixel_size=0.1, z_step=0.3).describe()
        'widefield, NA 1.4, index 1.515, 520 nm'
        """
        index = f"index {self.immersion_index:g}"
        if self.specimen_depth and self.index != self.immersion_index:
            index += f", {self.specimen_depth:g} µm deep in index {self.index:g}"
        return f"{self.modality}, NA {self.na:g}, {index}, {1000 * self.emission:g} nm"
