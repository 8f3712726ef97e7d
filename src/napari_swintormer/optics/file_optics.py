"""What a file and its user say of the microscope, until it is enough for a PSF."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.stack_optics import IMMERSION_INDEX, StackOptics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari_swintormer.settings.deblur_settings import DeblurSettings, Modality

_IN_MICROMETRES = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "angstrom": 1e-4}
_ACQUISITION_MODES: Mapping[str, Modality] = {
    "WideField": "widefield",
    "LaserScanningConfocalMicroscopy": "confocal",
    "SlitScanConfocal": "confocal",
    "SpinningDiskConfocal": "spinning-disk",
    "SPIM": "light-sheet",
}


@dataclass(frozen=True)
class FileOptics:
    """The numbers of a microscope that are known so far; None where one is not known.

    Attributes
    ----------
    na, immersion_index, sample_index, specimen_depth, modality, pixel_size, z_step
        As in `StackOptics`.
    emissions, excitations
        Wavelengths of the channels in micrometres; one for all channels, or one for each.
    """

    na: float | None = None
    immersion_index: float | None = None
    sample_index: float | None = None
    specimen_depth: float | None = None
    modality: Modality | None = None
    pixel_size: float | None = None
    z_step: float | None = None
    emissions: tuple[float | None, ...] = ()
    excitations: tuple[float | None, ...] = ()

    def completed(self, settings: DeblurSettings) -> FileOptics:
        """Let the user's options overrule what is known.

        Raises
        ------
        SettingsError
            An option is no possible number.
        """
        for name in ("na", "pixel_size", "z_step"):
            value = getattr(settings, name)
            if value is not None and not value > 0:
                raise SettingsError(f"{name} must be a positive number (got {name}={value:g}).")
        wavelength = settings.wavelength
        if wavelength is not None and not 200 <= wavelength <= 2000:
            raise SettingsError(
                f"wavelength is in nanometres, from 200 to 2000 (got wavelength={wavelength:g}). "
                "Use 520 for green light."
            )
        changes: dict[str, Any] = {
            name: getattr(settings, name)
            for name in ("na", "sample_index", "specimen_depth", "modality", "pixel_size", "z_step")
            if getattr(settings, name) is not None
        }
        if settings.immersion is not None:
            changes["immersion_index"] = immersion_index(settings.immersion)
        if wavelength is not None:
            changes |= {"emissions": (wavelength / 1000,), "excitations": ()}
        return replace(self, **changes)

    def missing(self) -> list[str]:
        """Name the options that a point-spread function still needs."""
        needed = {
            "na": self.na,
            "immersion": self.immersion_index,
            "sample_index": self.sample_index or not self.specimen_depth,
            "wavelength": self.emissions and all(self.emissions),
            "pixel_size": self.pixel_size,
            "z_step": self.z_step,
        }
        return [name for name, value in needed.items() if not value]

    def for_channels(self, count: int) -> list[StackOptics]:
        """Give the microscope of each of `count` channels.

        Raises
        ------
        SettingsError
            A number is missing or impossible.
        """
        missing = self.missing()
        if missing:
            raise SettingsError(
                f"A volume needs the numbers of the microscope (missing: {', '.join(missing)}). "
                "Give them as options, give a psf, or use depth='planes'."
            )
        emissions = self.emissions if len(self.emissions) == count else self.emissions[:1] * count
        matched = len(self.excitations) == count
        excitations = self.excitations if matched else (None,) * count
        return [
            StackOptics(
                na=self.na or 0,
                emission=emission or 0,
                pixel_size=self.pixel_size or 0,
                z_step=self.z_step or 0,
                immersion_index=self.immersion_index or 0,
                sample_index=self.sample_index,
                specimen_depth=self.specimen_depth or 0,
                modality=self.modality or "widefield",
                excitation=excitation if excitation and excitation <= (emission or 0) else None,
            )
            for emission, excitation in zip(emissions, excitations, strict=True)
        ]


def immersion_index(text: str) -> float:
    """Turn the name of an immersion, or a number as text, into a refractive index.

    Raises
    ------
    SettingsError
        It is neither.
    """
    name = text.strip().lower()
    if name in IMMERSION_INDEX:
        return IMMERSION_INDEX[name]
    try:
        index = float(name)
    except ValueError:
        index = 0.0
    if not 1 <= index <= 2:
        raise SettingsError(
            f"There is no such immersion (got immersion={text!r}). Use one of "
            f"{', '.join(IMMERSION_INDEX)}, or a refractive index such as 1.41."
        )
    return index


def voxel_size(pixel_size: Mapping[str, float], unit: Mapping[str, str]) -> dict[str, float]:
    """Give pixel size and z step of an image in micrometres, as far as they are known."""
    sizes = {
        axis: size * _IN_MICROMETRES[unit[axis]]
        for axis, size in pixel_size.items()
        if unit.get(axis) in _IN_MICROMETRES and size > 0
    }
    known = {"pixel_size": sizes.get("X", sizes.get("Y")), "z_step": sizes.get("Z")}
    return {name: size for name, size in known.items() if size is not None}


def optics_of_ome(xml: str, image: int = 0, channels: tuple[int, int] | None = None) -> FileOptics:
    """Read the microscope of one image of an OME-XML block: objective, channels, kind.

    `channels` is the first channel and the one after the last; None takes all. Numbers that are
    missing, or that make no sense, are left out. OME-XML has no word for the depth of a specimen.
    """
    from ome_types import from_xml

    try:
        ome = from_xml(xml)
        described = ome.images[image]
    except Exception:  # the reader has checked what it needs of this block; the rest is a bonus
        return FileOptics()
    objectives = {o.id: o for instrument in ome.instruments for o in instrument.objectives}
    used = described.objective_settings
    objective = objectives.get(used.id) if used is not None else None
    index = used.refractive_index if used is not None else None
    mediums = used and used.medium, objective and objective.immersion
    for medium in mediums:
        if index is None and medium is not None:
            index = IMMERSION_INDEX.get(medium.value.lower())
    chosen = described.pixels.channels[slice(*channels) if channels else slice(None)]
    modes = {c.acquisition_mode.value for c in chosen if c.acquisition_mode is not None}
    return FileOptics(
        na=_within(objective.lens_na if objective is not None else None, 0.01, 1.9),
        immersion_index=_within(index, 1.0, 2.0),
        modality=next((_ACQUISITION_MODES[m] for m in modes if m in _ACQUISITION_MODES), None),
        emissions=tuple(_wavelength(c, "emission") for c in chosen),
        excitations=tuple(_wavelength(c, "excitation") for c in chosen),
    )


def optics_of_text(text: str) -> FileOptics:
    """Read the microscope from lines such as ``Numerical Aperture = 1.2`` of ImageJ's ``Info``."""
    na = _number(r"\b(?:lens ?na|objective ?na|numerical ?aperture|na)\b", text)
    found = re.search(r"\bimmersion\w*\W+(air|water|glycerol|oil)\b", text, re.IGNORECASE)
    emission = _number(r"\bemission(?: ?wavelength)?\b", text)
    return FileOptics(
        na=_within(na, 0.01, 1.9),
        immersion_index=IMMERSION_INDEX[found[1].lower()] if found else None,
        emissions=(emission / 1000,) if emission and 200 < emission < 2000 else (),
    )


def _number(name: str, text: str) -> float | None:
    found = re.search(name + r"[^0-9\n]{0,12}?([0-9]+(?:\.[0-9]+)?)", text, re.IGNORECASE)
    return float(found[1]) if found else None


def _within(value: float | None, low: float, high: float) -> float | None:
    return value if value is not None and low <= value <= high else None


def _wavelength(channel: Any, kind: str) -> float | None:
    """Wavelength of a channel in micrometres."""
    value = getattr(channel, f"{kind}_wavelength")
    unit = getattr(channel, f"{kind}_wavelength_unit")
    if value is None or unit.name.lower() not in _IN_MICROMETRES:
        return None
    return _within(value * _IN_MICROMETRES[unit.name.lower()], 0.2, 2.0)
