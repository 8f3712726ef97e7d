"""The lens of a microscope, as far as the file of a layer says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import sqrt

from napari.layers import Image

from napari_swintormer.imaging.carried import NOTHING, Carried
from napari_swintormer.optics.blur_kinds import LARGEST
from napari_swintormer.plugin.layers.layer_data import CARRIED, pixel_sizes
from napari_swintormer.runs.stack_inputs import known_optics

_AIR, _OIL = 1.0, 1.515  # refractive indices of the immersion where the file names none


@dataclass(frozen=True)
class Lens:
    """The numbers of a lens that a blur follows from; lengths are in micrometres."""

    na: float
    wavelength: float
    pixel_size: float
    index: float

    def told(self, defocus: float) -> str:
        """Write the blur at a distance from the focus, as the option `blur` takes it."""
        numbers = (self.na, self.wavelength, self.pixel_size, defocus, self.index)
        return "optics:" + "@".join(f"{number:.6g}" for number in numbers)

    @property
    def deepest(self) -> float:
        """Largest distance from the focus whose blur can be undone."""
        sine = self.na / self.index
        radius = LARGEST / 2 - 0.61 * self.wavelength / self.na / self.pixel_size - 1
        return max(0.0, radius * self.pixel_size * sqrt(1 - sine**2) / sine)

    def describe(self) -> str:
        """Say the numbers in one line."""
        nanometres = f"{1000 * self.wavelength:.0f} nm"
        return f"NA {self.na:g}, {nanometres}, pixels of {self.pixel_size:.3g} µm"


def lens_reader(layer: Image, axes: str) -> Callable[[], Lens | None] | None:
    """Prepare to read the lens of a layer; None if its file says nothing of a microscope.

    The function that this returns parses what the file says, which may take a second. It gives None
    if NA, wavelength or pixel size is missing.
    """
    carried = layer.metadata.get(CARRIED, NOTHING)
    if carried == NOTHING or len(axes) != layer.ndim + layer.rgb:
        return None
    size, unit = pixel_sizes(axes, layer.scale, layer.units)
    return partial(_lens, carried, size, unit)


def _lens(carried: Carried, size: Mapping[str, float], unit: Mapping[str, str]) -> Lens | None:
    known = known_optics(carried, size, unit)
    emission = next((e for e in known.emissions if e), None)
    if known.na is None or emission is None or known.pixel_size is None:
        return None
    index = known.immersion_index or (_AIR if known.na < 1 else _OIL)
    if known.na >= index:
        return None  # numbers that contradict each other
    lens = Lens(known.na, emission, known.pixel_size, index)
    return lens if lens.deepest > 0 else None
