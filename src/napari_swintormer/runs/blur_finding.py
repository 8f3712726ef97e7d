"""Which blur the planes of an image have: told by the user, or estimated from fixed windows.

A stack or a time series of many planes is not measured plane by plane. A fixed choice of planes is
measured, and every other plane takes the blur of the nearest one in its channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.blur import Blur, as_text
from napari_swintormer.optics.estimation.blur_places import field_of_blur
from napari_swintormer.optics.estimation.estimate import doubt, estimate_blur
from napari_swintormer.optics.estimation.sample import PLACE, place_windows, sample_windows
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane
from napari_swintormer.settings.deblur_settings import MEASURED, UNKNOWN_BLUR

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.imaging.intensity import IntensityRange
    from napari_swintormer.imaging.planes import Planes
    from napari_swintormer.settings.deblur_settings import DeblurSettings, Measured

    Wish = Blur | Measured | Literal["unknown"]
    Window = NDArray[np.float32]

_MOST_PLANES = 12  # of a channel that are measured
SHARED_WINDOWS = 9
"""Windows of different planes or images, at most, that one shared blur is measured on."""


def blur_wish(settings: DeblurSettings) -> Wish | None:
    """Read what the user says about the blur; None if nothing is said.

    Raises
    ------
    SettingsError, FileError
        The blur is impossible, is told twice, or its PSF file cannot be used.
    """
    if settings.blur is None:
        return None if settings.psf is None else Blur.from_file(settings.psf)
    text = as_text(settings.blur)
    if settings.psf is not None:
        raise SettingsError(
            f"A blur is told once (got blur={text[:40]!r} and psf={settings.psf!r}). Leave one of "
            "them out."
        )
    for word in (*MEASURED, UNKNOWN_BLUR):
        if text == word:
            return word
    return Blur.parse(text)


def measured_planes(planes: Planes) -> dict[int, int]:
    """Give the plane to measure for every plane of a whole image, by a rule of its shape alone."""
    groups: dict[tuple[int, int], list[int]] = {}
    for number in range(len(planes)):
        channel = planes.position(number).get("C", 0)
        groups.setdefault((channel, number % planes.planes_per_position), []).append(number)
    measured: dict[int, int] = {}
    for members in groups.values():
        count = min(_MOST_PLANES, len(members))
        places = np.linspace(0, len(members) - 1, count).round().astype(int)
        for place, number in enumerate(members):
            measured[number] = members[int(places[np.abs(places - place).argmin()])]
    return measured


def read_unit_windows(
    planes: Planes, plane: int, intensity: IntensityRange, *, only_middle: bool = False
) -> list[Window]:
    """Read the windows ``(C, h, w)`` of a plane in unit intensities; nothing else is read."""
    windows = sample_windows(planes.shape)
    chosen = windows[len(windows) // 2 :][:1] if only_middle else windows
    blocks = planes.read_all((plane, y, x) for y, x in chosen)
    return [intensity.to_unit(block) for block in blocks]


def read_shown_windows(planes: Planes) -> list[Window]:
    """Read windows ``(C, h, w)`` of the first plane of an 8-bit image, from 0 to 1."""
    blocks = planes.read_all((0, y, x) for y, x in sample_windows(planes.shape)[::4])
    return [np.asarray(block / 255, np.float32) for block in blocks]


def estimated(windows: Sequence[Window], *, photo: bool, varies: bool | None = None) -> FoundBlur:
    """Estimate one blur from windows ``(C, h, w)`` in unit intensities; see `estimate_blur`."""
    grey = [window.mean(axis=0) for window in windows]
    return estimate_blur(grey, "photo" if photo else "micrograph", varies)


def _estimated_at(
    planes: Planes, number: int, intensity: IntensityRange, *, photo: bool
) -> FoundBlur:
    """Estimate the blur of a plane: one, or a field where it changes from place to place."""
    windows = read_unit_windows(planes, number, intensity)
    places = place_windows(planes.shape) if photo else None
    if places is None:
        return estimated(windows, photo=photo)
    bands = (
        intensity.to_unit(planes.read(number, slice(y, y + PLACE), slice(planes.shape[1])))
        for y in places[0].starts
    )
    changing = field_of_blur(
        (band.mean(axis=0) for band in bands),
        planes.shape,
        [window.mean(axis=0) for window in windows],
        "photo",
    )
    if changing is not None and changing.plain:
        return FoundBlur.of_field(changing.field)
    found = estimated(windows, photo=photo, varies=changing is not None)
    return found if changing is None or not found.varies else FoundBlur.of_field(changing.field)


def doubted(windows: Sequence[Window], told: Blur, *, photo: bool) -> str | None:
    """Say that windows ``(C, h, w)`` in unit intensities show another size than a told defocus."""
    grey = [window.mean(axis=0) for window in windows]
    return doubt(grey, told, "photo" if photo else "micrograph")


def find_blurs(
    planes: Planes,
    ranges: Sequence[IntensityRange],
    wish: Wish,
    *,
    photo: bool,
    only: Collection[int] | None = None,
) -> dict[int, FoundBlur]:
    """Find the blur of the planes that `measured_planes` names, of a whole image.

    `ranges` are those of all planes; `photo` says that intensities follow the curve of a camera.
    `only` names some of the measured planes, for a part of the image; a shared blur needs all.
    """
    measured = sorted(set(measured_planes(planes).values()))
    if only is not None and wish != "auto-shared":
        measured = sorted(only)
    if isinstance(wish, Blur):
        told = FoundBlur(wish, 1.0, f"The blur is told: {wish.sentence()}.")
        return dict.fromkeys(measured, told)
    if wish == UNKNOWN_BLUR:
        said = "The blur is not known."
        return dict.fromkeys(measured, FoundBlur(Blur.none(), 0.0, said, unclear=True))
    if wish == "auto":
        return {
            number: _estimated_at(planes, number, ranges[number], photo=photo)
            for number in measured
        }
    found: dict[int, FoundBlur] = {}
    for channel in sorted({planes.position(number).get("C", 0) for number in measured}):
        members = [n for n in measured if planes.position(n).get("C", 0) == channel]
        places = np.linspace(0, len(members) - 1, min(SHARED_WINDOWS, len(members)))
        chosen = [members[int(place)] for place in places.round()]
        several = len(chosen) > 1
        windows = [
            window
            for number in chosen
            for window in read_unit_windows(planes, number, ranges[number], only_middle=several)
        ]
        found |= dict.fromkeys(members, estimated(windows, photo=photo))
    return found


def measure_powers(
    planes: Planes,
    ranges: Sequence[IntensityRange],
    *,
    photo: bool,
    only: Collection[int] | None = None,
) -> dict[int, PowerOfPlane]:
    """Measure noise and detail of the planes that `measured_planes` names, of a whole image.

    `only` names some of the measured planes, for a part of the image.
    """
    return {
        number: PowerOfPlane.measured(
            read_unit_windows(planes, number, ranges[number]), photo=photo
        )
        for number in sorted(set(measured_planes(planes).values()) if only is None else only)
    }


def plane_blurs(
    planes: Planes,
    ranges: Sequence[IntensityRange],
    found: Mapping[int, FoundBlur],
    powers: Mapping[int, PowerOfPlane],
) -> dict[int, PlaneBlur]:
    """Put together what the filters of a whole image need, for every plane that is measured."""
    known: dict[tuple[int, float | None], PlaneBlur] = {}
    blurs: dict[int, PlaneBlur] = {}
    for number, measured in measured_planes(planes).items():
        if measured not in found or measured not in powers:
            continue
        clipped = _clipped(ranges[number])
        key = measured, clipped
        if key not in known:
            each, power = found[measured], powers[measured]
            places = _place_powers(planes, measured, ranges[measured], each, power)
            known[key] = PlaneBlur(each, power, clipped, places)
        blurs[number] = known[key]
    return blurs


def _place_powers(
    planes: Planes, number: int, intensity: IntensityRange, found: FoundBlur, power: PowerOfPlane
) -> tuple[PowerOfPlane, ...]:
    """Measure noise and detail of the places with each blur of a field, if there is one."""
    if found.field is None:
        return ()
    corners = [(y.start, x.start) for y, x in sample_windows(planes.shape)]
    return power.in_places(read_unit_windows(planes, number, intensity), corners, found.field)


def _clipped(intensity: IntensityRange) -> float | None:
    """Return the unit intensity from which on pixels are saturated."""
    if intensity.saturation is None or intensity.gain == 0:
        return None
    return (intensity.saturation - intensity.low) / intensity.gain - 1e-6
