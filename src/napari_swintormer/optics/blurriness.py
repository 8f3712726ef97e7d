"""How blurred an image is, region by region, and whether the blur has a direction.

An edge that was blurred by a Gaussian of width s has, seen through a Gaussian derivative of
width a, the slope 1 / sqrt(s² + a²) at its middle, times its height. So the slopes at two widths
a < b tell s by their ratio alone (the idea of re-blurring): with R = slope_a / slope_b,

    s² = (b² − R² a²) / (R² − 1).

Only the middles of edges that stand out of the noise count: pixels whose slope is the largest
across the edge. A region tells the median of its edges. Where there is no edge, nothing is known.

Texture makes edges look narrower to wide derivatives, noise to narrow ones: of both, the wider
median counts.

The width is that of the Gaussian that blurs an edge as much. Real edges are no perfect steps: the
order of images and regions is what to rely on. Widths above 8 pixels are shown as 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FINE, _COARSE = 0.7, 1.5  # pixels, the narrower of two widths; the other is twice as wide
LARGEST = 8.0  # pixels; above, the ratio is too near to 1
SHARP = 0.7  # pixels; up to this an image counts as sharp
_NOISE = 5.0  # standard deviations of the slope of noise that an edge must have
_STRONGEST = 0.2  # of the steepest slope in the image, below which edges are texture or noise
_FEWEST = 12  # edge pixels that a region, or a direction, needs to tell something
_OTHERS = 0.25  # of the regions of a sharp image; when more are blurred, it is worth saying
_DIRECTED = 1.5  # width over that across, if that is not sharp, from which on it is motion
_PLACES = 3  # that must have both to tell motion
_SURROUNDINGS = 64  # pixels; the two are compared within these, as depth blurs things unlike


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
        if self.kind == "motion":
            how = f"blurred along a direction of about {self.angle}°, as by motion or in stripes"
        elif self.kind == "defocus":
            how = "blurred like by defocus"
        elif known.size and np.mean(known > 2 * SHARP) > _OTHERS:
            how = "sharp in places and blurred in others"
        else:
            how = "sharp"
        span = f" ({known.min():.1f} to {known.max():.1f} px by region)" if known.size > 1 else ""
        return f"Looks {how}: edges are about {self.width:.1f} px wide{span}."


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
    fine, coarse = _find_edges(grey, _FINE), _find_edges(grey, _COARSE)
    measured = [edges for edges in (fine, coarse) if edges.widths.size >= _FEWEST]
    if not measured:
        return Blur(None, regions, region_size)
    for edges in measured:
        number = (edges.rows // region_size) * shape[1] + edges.columns // region_size
        for region, median in _medians(number, edges.widths).items():
            regions.flat[region] = np.fmax(regions.flat[region], median)
    width = max(float(np.median(edges.widths)) for edges in measured)
    kind, angle = _kind(width, coarse)
    return Blur(width, regions, region_size, kind, angle)


class _Edges(NamedTuple):
    """The middles of edges."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    widths: NDArray[np.float32]  # of the blur, in pixels
    directions: NDArray[np.int64]  # across the edge, in steps of 45°


def _find_edges(grey: NDArray[np.float32], a: float) -> _Edges:
    """Find edges by derivatives of width `a`, and measure them by those and twice as wide ones."""
    from scipy.ndimage import gaussian_filter

    def derivatives(width: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return (
            gaussian_filter(grey, width, order=(1, 0), mode="nearest"),
            gaussian_filter(grey, width, order=(0, 1), mode="nearest"),
        )

    dy, dx = derivatives(a)
    slope, wide = np.hypot(dy, dx), np.hypot(*derivatives(2 * a))
    direction = np.rint(np.arctan2(dy, dx) / (np.pi / 4)).astype(np.int64) % 4
    rows, columns = np.nonzero(_edges(grey, slope, direction, a))
    widths = _widths(slope[rows, columns], wide[rows, columns], a)
    return _Edges(rows, columns, widths, direction[rows, columns])


def _medians(number: NDArray[np.intp], widths: NDArray[np.float32]) -> dict[int, float]:
    """Give the median width of each number that has enough edges to tell one."""
    order = np.argsort(number, kind="stable")
    found, first = np.unique(number[order], return_index=True)
    groups = zip(found.tolist(), np.split(widths[order], first[1:]), strict=True)
    return {place: float(np.median(own)) for place, own in groups if own.size >= _FEWEST}


def _edges(
    grey: NDArray[np.float32], slope: NDArray[np.float32], direction: NDArray[np.int64], a: float
) -> NDArray[np.bool_]:
    """Find the middles of edges: steepest across, and steeper than noise and texture."""
    # the median absolute second difference tells the noise: edges are few
    second = grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]
    noise = 1.4826 * float(np.median(np.abs(second))) / np.sqrt(6)
    of_slope = noise / (np.sqrt(8 * np.pi) * a**2)
    steepest = float(np.quantile(slope, 0.999))
    found = slope > max(_NOISE * of_slope, _STRONGEST * steepest)
    padded = np.pad(slope, 1)
    height, width = slope.shape
    for number, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        before = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        after = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        found &= (direction != number) | ((slope >= before) & (slope > after))
    border = int(4 * a)  # there the widths see what was made up beyond
    inside = np.zeros_like(found)
    inside[border:-border, border:-border] = True
    return np.asarray(found & inside)


def _widths(slope: NDArray[np.float32], wide: NDArray[np.float32], a: float) -> NDArray[np.float32]:
    """Width of the blur at edges, from the slopes at both widths; 0 to 8 pixels."""
    b = 2 * a
    ratio = (slope / np.maximum(wide, np.finfo(np.float32).tiny)) ** 2
    largest = LARGEST**2
    # the ratio at the largest width: what is nearer to 1 is wider still
    smallest_ratio = (largest + b**2) / (largest + a**2)
    ratio = np.maximum(ratio, smallest_ratio)
    return np.sqrt(np.maximum((b**2 - ratio * a**2) / (ratio - 1), 0))


def _kind(width: float, edges: _Edges) -> tuple[Literal["sharp", "defocus", "motion"], int | None]:
    """Tell sharp, defocus and motion apart: motion widens the edges across it and no others."""
    places = np.stack([edges.rows, edges.columns]) // _SURROUNDINGS
    _, number = np.unique(places, axis=1, return_inverse=True)
    medians = [
        _medians(number[here], edges.widths[here])
        for here in (edges.directions == direction for direction in range(4))
    ]
    ratios = [0.0] * 4
    for direction, own in enumerate(medians):
        across = medians[(direction + 2) % 4]
        both = [own[place] / max(across[place], SHARP) for place in own.keys() & across.keys()]
        if len(both) >= _PLACES:
            ratios[direction] = float(np.median(both))
    widest = int(np.argmax(ratios))
    if ratios[widest] > _DIRECTED:
        return "motion", (-45 * widest) % 180  # rows count downwards
    return ("sharp" if width <= SHARP else "defocus"), None
