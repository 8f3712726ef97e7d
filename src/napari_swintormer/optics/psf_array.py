"""Arrays and files that hold the PSF of a plane: checked, centred, scaled."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.errors import SettingsError
from napari_swintormer.optics.blur_kinds import LARGEST

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from napari_swintormer.optics.psf import PSF

_NEGATIVE = 0.02  # share of the light that may be negative, as noise makes it
_PARTS = 8  # a pixel is cut into this many parts along each axis when a PSF is scaled


def checked_psf(array: ArrayLike, source: str) -> PSF:
    """Return the PSF ``(K, K)`` that an array holds: K odd, sum 1, centred, not negative.

    `source` names the array in messages.

    Raises
    ------
    SettingsError
        It has another number of dimensions, an even or too large side, or holds no light.
    """
    psf = np.asarray(array, np.float64)
    if psf.ndim != 2:
        raise SettingsError(
            f"The PSF of a plane has the dimensions Y and X (got {psf.ndim} dimensions in "
            f"{source}). Use the plane in focus, or restore a stack with depth='volume'."
        )
    if any(side % 2 == 0 for side in psf.shape):
        raise SettingsError(
            f"The sides of a PSF are odd, with the bright part in the middle (got {psf.shape} in "
            f"{source}). Cut off one row or column."
        )
    if max(psf.shape) > LARGEST:
        raise SettingsError(
            f"The sides of a PSF are at most {LARGEST} pixels (got {psf.shape} in {source}). Cut "
            "out the part with light."
        )
    if not np.isfinite(psf).all() or psf.clip(max=0).sum() < -_NEGATIVE * psf.clip(min=0).sum():
        raise SettingsError(
            f"A PSF holds finite numbers that are not negative (got others in {source}). Take off "
            "less background."
        )
    psf = psf.clip(min=0)
    if not psf.sum() > 0:
        raise SettingsError(f"A PSF holds light (got nothing but zeros in {source}). Use another.")
    centred = _centred(psf / psf.sum())
    return np.ascontiguousarray(centred / centred.sum(), np.float32)


def read_plane_psf(path: Path) -> PSF:
    """Read the PSF of a plane from an image file.

    Colours are averaged. The median along the border is taken off: a camera adds an offset.
    """
    from napari_swintormer.imaging.formats.reading import open_image

    with open_image(path) as image:
        psf = np.asarray(image.data[...]).astype(np.float64)
        colours = "S" in image.axes
    psf = np.squeeze(psf[..., :3].mean(axis=-1) if colours else psf)
    if psf.ndim == 2 and min(psf.shape) > 2:
        border = np.concatenate([psf[0], psf[-1], psf[1:-1, 0], psf[1:-1, -1]])
        background = float(np.median(border))
        if 0 < background < psf.max():
            psf = (psf - background).clip(min=0)
    return checked_psf(psf, path.name)


def moments(psf: PSF) -> tuple[float, float, float]:
    """Give a PSF's standard deviations along and across its main direction, and the direction.

    Lengths are in pixels. The direction is in degrees from 0 to 180, anticlockwise from the x axis.
    """
    half = len(psf) // 2
    y, x = np.mgrid[half : -half - 1 : -1, -half : half + 1]
    light = psf.astype(np.float64)
    my, mx = (light * y).sum(), (light * x).sum()
    yy, xx = (light * (y - my) ** 2).sum(), (light * (x - mx) ** 2).sum()
    xy = (light * (y - my) * (x - mx)).sum()
    root = math.hypot((xx - yy) / 2, xy)
    long, short = (xx + yy) / 2 + root, (xx + yy) / 2 - root
    angle = math.degrees(math.atan2(2 * xy, xx - yy) / 2) % 180
    return math.sqrt(max(long, 0)), math.sqrt(max(short, 0)), angle


def scattering(psf: PSF) -> float:
    """Tell how much of the area around a PSF's middle lies dark: 1 for a disk, more for a path.

    It is the area of the circle around the centre of mass that holds half of the light, over the
    smallest area that holds half of the light.
    """
    light = psf.astype(np.float64)
    y, x = np.indices(light.shape)
    middle = [(light * axis).sum() / light.sum() for axis in (y, x)]
    distance = np.hypot(y - middle[0], x - middle[1]).ravel()
    around, brightest = (
        np.interp(0.5 * light.sum(), np.cumsum(light.ravel()[order]), np.arange(1, light.size + 1))
        for order in (distance.argsort(kind="stable"), (-light).ravel().argsort(kind="stable"))
    )
    return float(around / brightest)


def scaled_psf(psf: PSF, factor: float) -> PSF:
    """Resample a PSF for pixels that are `factor` times smaller; light and centre stay."""
    half = len(psf) // 2
    fine = (np.arange(len(psf) * _PARTS) + 0.5) / _PARTS - half - 0.5
    reach = math.ceil((half + 0.5) * factor) + 1
    side = 2 * reach + 1
    spread = np.zeros((side, len(fine)))
    place = fine * factor + reach
    nearest = np.rint(place).astype(int)
    spread[nearest, np.arange(len(fine))] = 1 / _PARTS
    along = spread.reshape(side, len(psf), _PARTS).sum(axis=2)
    scaled = along @ psf.astype(np.float64) @ along.T
    return _trimmed(scaled / scaled.sum()).astype(np.float32)


def mean_autocorrelation(candidates: Iterable[tuple[float, PSF]]) -> NDArray[np.float64]:
    """Average the autocorrelations of PSFs with probabilities, ``(2K - 1, 2K - 1)``."""
    from scipy.fft import next_fast_len

    known = list(candidates)
    side = 2 * max(len(psf) for _, psf in known) - 1
    grid = (next_fast_len(side),) * 2
    power = np.zeros((grid[0], grid[1] // 2 + 1))
    for probability, psf in known:
        power += probability * np.abs(np.fft.rfft2(psf, grid)) ** 2
    whole = np.roll(np.fft.irfft2(power, grid), (side // 2, side // 2), (0, 1))
    return whole[:side, :side]


def on_periodic_grid(psf: NDArray[Any], shape: tuple[int, int]) -> NDArray[np.float64]:
    """Lay a PSF onto a periodic grid, with its middle at the origin."""
    grid = np.zeros(shape)
    half = len(psf) // 2
    rows, columns = (np.arange(-half, half + 1) % n for n in shape)
    np.add.at(grid, np.ix_(rows, columns), psf)
    return grid


def _centred(psf: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make a PSF square, with its centre of mass in the middle pixel.

    It moves by whole pixels, so no interpolation blurs it.
    """
    y, x = (np.arange(n) for n in psf.shape)
    middle = round(float((psf.sum(1) * y).sum())), round(float((psf.sum(0) * x).sum()))
    reach = max(max(m, n - 1 - m) for m, n in zip(middle, psf.shape, strict=True))
    square = np.zeros((2 * reach + 1,) * 2)
    top, left = (reach - m for m in middle)
    square[top : top + psf.shape[0], left : left + psf.shape[1]] = psf
    return _trimmed(square)


def _trimmed(psf: NDArray[Any]) -> NDArray[Any]:
    """Cut off a border of zeros, evenly on all sides."""
    half = len(psf) // 2
    rows, columns = np.nonzero(psf)
    reach = int(max(np.abs(rows - half).max(), np.abs(columns - half).max()))
    return psf[half - reach : half + reach + 1, half - reach : half + reach + 1]
