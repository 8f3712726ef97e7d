"""How blurred an image is, region by region, and whether the blur has a direction.

An edge that was blurred by a Gaussian of width s has, seen through a Gaussian derivative of
width a, the slope 1 / sqrt(s² + a²) at its middle, times its height. So the slopes at two widths
a < b tell s by their ratio alone (the idea of re-blurring): with R = slope_a / slope_b,

    s² = (b² − R² a²) / (R² − 1).

Only the middles of edges that stand out of the noise count: pixels whose slope is the largest
across the edge. A region tells the median of its edges. Where there is no edge, nothing is known.

The width is that of the Gaussian that blurs an edge as much. Real edges are no perfect steps, and
neighbouring details make wide blur look narrower: the order of images and regions is what to rely
on. Widths above 8 pixels are shown as 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_A, _B = 1.5, 3.0  # pixels, the two widths
LARGEST = 8.0  # pixels; above, the ratio is too near to 1
SHARP = 1.0  # pixels; up to this an image counts as sharp
_NOISE = 5.0  # standard deviations of the slope of noise that an edge must have
_STRONGEST = 0.2  # of the steepest slope in the image, below which edges are texture or noise
_FEWEST = 12  # edge pixels that a region, or a direction, needs to tell something
_DIRECTED = 2.0  # widest over its own across, of 1 pixel at least, from which on it is motion


@dataclass(frozen=True)
class Blur:
    """What was found.

    Attributes
    ----------
    width
        Median over all edges, in pixels; None without an edge.
    regions
        Width by region, float32 ``(rows, columns)`` in pixels; NaN without an edge.
    region_size
        Side of the regions in pixels.
    kind
        ``"sharp"``, ``"defocus"`` for blur that is alike in all directions, or ``"motion"``; None
        where nothing is known.
    angle
        Of the motion in degrees, 0 to 135 in steps of 45, anticlockwise from the x axis; None for
        other kinds.
    """

    width: float | None
    regions: NDArray[np.float32]
    region_size: int
    kind: Literal["sharp", "defocus", "motion"] | None = None
    angle: int | None = None

    def describe(self) -> str:
        """Say in one line what was found."""
        if self.width is None:
            return "There are no clear edges to tell the blur from."
        known = self.regions[np.isfinite(self.regions)]
        span = f"{known.min():.1f} to {known.max():.1f} px" if known.size > 1 else ""
        if self.kind == "sharp":
            return f"Looks sharp: edges are about {self.width:.1f} px wide" + (
                f" ({span} by region)." if span else "."
            )
        how = (
            "blurred like by defocus"
            if self.kind == "defocus"
            else (f"blurred along a direction of about {self.angle}°, as by motion")
        )
        return f"Looks {how}: edges are about {self.width:.1f} px wide" + (
            f" ({span} by region)." if span else "."
        )


def estimate_blur(plane: NDArray[np.generic], region_size: int = 64) -> Blur:
    """Estimate the width of the blur of a plane.

    Parameters
    ----------
    plane
        ``(Y, X)`` or ``(C, Y, X)``, of any real dtype and scale; channels are averaged.
    region_size
        Side of the regions in pixels.

    Returns
    -------
    Blur
        See there.
    """
    grey = np.asarray(plane, np.float32)
    grey = grey.mean(axis=0) if grey.ndim == 3 else grey
    grey = np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0)
    shape = tuple(-(-n // region_size) for n in grey.shape)
    regions = np.full(shape, np.nan, np.float32)
    if min(grey.shape) < 8:
        return Blur(None, regions, region_size)
    slope, wide, direction = _slopes(grey)
    rows, columns = np.nonzero(_edges(grey, slope, direction))
    if rows.size < _FEWEST:
        return Blur(None, regions, region_size)
    widths = _widths(slope[rows, columns], wide[rows, columns])
    number = (rows // region_size) * shape[1] + columns // region_size
    for region in np.unique(number):
        here = widths[number == region]
        if here.size >= _FEWEST:
            regions.flat[region] = np.median(here)
    width = float(np.median(widths))
    kind, angle = _kind(width, widths, direction[rows, columns])
    return Blur(width, regions, region_size, kind, angle)


def _slopes(
    grey: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]:
    """Give the slopes at both widths, and the direction across the edge, in steps of 45°."""
    from scipy.ndimage import gaussian_filter

    def derivatives(width: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return (
            gaussian_filter(grey, width, order=(1, 0), mode="nearest"),
            gaussian_filter(grey, width, order=(0, 1), mode="nearest"),
        )

    dy, dx = derivatives(_A)
    slope, wide = np.hypot(dy, dx), np.hypot(*derivatives(_B))
    direction = np.rint(np.arctan2(dy, dx) / (np.pi / 4)).astype(np.int64) % 4
    return slope, wide, direction


def _edges(
    grey: NDArray[np.float32], slope: NDArray[np.float32], direction: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Find the middles of edges: steepest across, and steeper than noise and texture."""
    # the median absolute second difference tells the noise: edges are few
    second = grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]
    noise = 1.4826 * float(np.median(np.abs(second))) / np.sqrt(6)
    of_slope = noise / (np.sqrt(8 * np.pi) * _A**2)
    steepest = float(np.quantile(slope, 0.999))
    found = slope > max(_NOISE * of_slope, _STRONGEST * steepest)
    padded = np.pad(slope, 1)
    height, width = slope.shape
    for number, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        before = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        after = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        found &= (direction != number) | ((slope >= before) & (slope > after))
    border = int(2 * _B)  # there the widths see what was made up beyond
    inside = np.zeros_like(found)
    inside[border:-border, border:-border] = True
    return np.asarray(found & inside)


def _widths(slope: NDArray[np.float32], wide: NDArray[np.float32]) -> NDArray[np.float32]:
    """Width of the blur at edges, from the slopes at both widths; 0 to 8 pixels."""
    ratio = (slope / np.maximum(wide, np.finfo(np.float32).tiny)) ** 2
    largest = LARGEST**2
    # the ratio at the largest width: what is nearer to 1 is wider still
    smallest_ratio = (largest + _B**2) / (largest + _A**2)
    ratio = np.maximum(ratio, smallest_ratio)
    return np.sqrt(np.maximum((_B**2 - ratio * _A**2) / (ratio - 1), 0))


def _kind(
    width: float, widths: NDArray[np.float32], direction: NDArray[np.int64]
) -> tuple[Literal["sharp", "defocus", "motion"], int | None]:
    """Tell sharp, defocus and motion apart: motion widens the edges across it and no others."""
    medians = {
        number: float(np.median(widths[direction == number]))
        for number in range(4)
        if np.count_nonzero(direction == number) >= _FEWEST
    }
    widest = max(medians, key=lambda number: medians[number]) if medians else 0
    across = (widest + 2) % 4
    if across in medians and medians[widest] > _DIRECTED * max(medians[across], SHARP):
        return "motion", (-45 * widest) % 180  # rows count downwards
    return ("sharp" if width <= SHARP else "defocus"), None
