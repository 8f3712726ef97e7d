"""How blurred an image is, region by region, and whether the blur has a direction.

Let a Gaussian of width s blur an edge of height 1. At the middle of the edge, a Gaussian derivative
of width a then sees the slope ``1 / sqrt(s² + a²)``. The slopes at two widths a < b therefore give
s by their ratio ``R = slope_a / slope_b`` alone (the idea of re-blurring):

    s² = (b² − R² a²) / (R² − 1).

Only the middles of edges that stand out of the noise count: pixels with the largest slope across
the edge. The width of a region is the median over its edges, and unknown without an edge. Texture
makes edges look narrower to wide derivatives, noise to narrow ones. Both are tried, and the wider
median counts.

The result is the width of the Gaussian that blurs an edge as much. Real edges are no perfect steps,
so rely on the order of images and regions rather than on the numbers. Widths above 8 pixels are
shown as 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Kind = Literal["sharp", "defocus", "motion"]

_FINE, _COARSE = 0.7, 1.5  # pixels, the narrower of two widths; the other is twice as wide
LARGEST = 8.0  # pixels; above, the ratio is too near to 1
SHARP = 0.7  # pixels; up to this width an image counts as sharp
_PIXEL = 1.0  # pixels; a narrower blur is no loss that a restoration could bring back
_NOISE = 5.0  # smallest slope of an edge, in standard deviations of the slope of noise
_STRONGEST = 0.2  # smallest slope of an edge, as a share of the steepest slope in the image
_FEWEST = 12  # edge pixels that a region, or a direction, needs
_BLURRED_SHARE = 0.25  # of the regions of a sharp image; `describe` mentions more than this
_MOTION_RATIO = 1.5  # width along a direction over the width across it, at least, for motion
_MOTION_SQUARES = 3  # squares that need edges of both directions to tell motion
_SQUARE = 64  # side in pixels of the squares in which both directions are compared


@dataclass(frozen=True)
class Blurriness:
    """How blurred a plane is; widths are in pixels."""

    width: float | None  # median over all edges; None without an edge
    regions: NDArray[np.float32]  # width by region, ``(rows, columns)``; NaN without an edge
    region_size: int  # side of the regions in pixels
    kind: Kind | None = None  # defocus is alike in all directions; None where nothing is known
    angle: int | None = None  # of motion: 0, 45, 90 or 135 degrees anticlockwise from the x axis

    def describe(self) -> str:
        """Describe the blur in one line."""
        if self.width is None:
            return "There are no clear edges to measure the blur at."
        known = self.regions[np.isfinite(self.regions)]
        in_places = bool(known.size) and np.mean(known > 2 * SHARP) > _BLURRED_SHARE
        if round(self.width, 1) < _PIXEL and not in_places:
            how = "sharp"
        elif self.kind == "motion":
            how = f"blurred along a direction of about {self.angle}°, as by motion or in stripes"
        elif self.kind == "defocus":
            how = "blurred as by defocus"
        elif in_places:
            how = "sharp in places and blurred in others"
        else:
            how = "sharp"
        span = f" ({known.min():.1f} to {known.max():.1f} px by region)" if known.size > 1 else ""
        less = ", less than a pixel" if how == "sharp" and round(self.width, 1) < _PIXEL else ""
        return f"Looks {how}: edges are about {self.width:.1f} px wide{less}{span}."


def measure_blurriness(plane: NDArray[np.generic], region_size: int = 64) -> Blurriness:
    """Measure the width of the blur of a plane, ``(Y, X)`` or ``(C, Y, X)``, of any real dtype.

    Channels are averaged. `region_size` is the side of the regions in pixels.
    """
    grey = np.asarray(plane, np.float32)
    grey = grey.mean(axis=0) if grey.ndim == 3 else grey
    grey = np.nan_to_num(grey, nan=0.0, posinf=0.0, neginf=0.0)
    shape = tuple(-(-n // region_size) for n in grey.shape)
    regions = np.full(shape, np.nan, np.float32)
    if min(grey.shape) < 8:
        return Blurriness(None, regions, region_size)
    fine, coarse = _find_edges(grey, _FINE), _find_edges(grey, _COARSE)
    measured = [edges for edges in (fine, coarse) if edges.widths.size >= _FEWEST]
    if not measured:
        return Blurriness(None, regions, region_size)
    for edges in measured:
        labels = (edges.rows // region_size) * shape[1] + edges.columns // region_size
        for region, median in _medians(labels, edges.widths).items():
            regions.flat[region] = np.fmax(regions.flat[region], median)
    width = max(float(np.median(edges.widths)) for edges in measured)
    kind, angle = _kind(width, coarse)
    return Blurriness(width, regions, region_size, kind, angle)


class _Edges(NamedTuple):
    """The middle pixels of edges."""

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    widths: NDArray[np.float32]  # of the blur, in pixels
    directions: NDArray[np.int64]  # across the edge, in steps of 45°


def _find_edges(grey: NDArray[np.float32], a: float) -> _Edges:
    """Find edges by derivatives of width `a`; derivatives of width `2 a` help to measure them."""
    from scipy.ndimage import gaussian_filter

    def derivatives(width: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return (
            gaussian_filter(grey, width, order=(1, 0), mode="nearest"),
            gaussian_filter(grey, width, order=(0, 1), mode="nearest"),
        )

    dy, dx = derivatives(a)
    slope, wide = np.hypot(dy, dx), np.hypot(*derivatives(2 * a))
    direction = np.rint(np.arctan2(dy, dx) / (np.pi / 4)).astype(np.int64) % 4
    rows, columns = np.nonzero(_edge_mask(grey, slope, direction, a))
    widths = _widths(slope[rows, columns], wide[rows, columns], a)
    return _Edges(rows, columns, widths, direction[rows, columns])


def _medians(labels: NDArray[np.intp], widths: NDArray[np.float32]) -> dict[int, float]:
    """Median width by label, for labels with enough edges."""
    order = np.argsort(labels, kind="stable")
    found, first = np.unique(labels[order], return_index=True)
    groups = zip(found.tolist(), np.split(widths[order], first[1:]), strict=True)
    return {label: float(np.median(own)) for label, own in groups if own.size >= _FEWEST}


def _edge_mask(
    grey: NDArray[np.float32], slope: NDArray[np.float32], direction: NDArray[np.int64], a: float
) -> NDArray[np.bool_]:
    """Mark the pixels that are steepest across an edge, and steeper than noise and texture."""
    # edges are few, so the median absolute second difference measures the noise
    second = grey[:, 2:] - 2 * grey[:, 1:-1] + grey[:, :-2]
    noise = 1.4826 * float(np.median(np.abs(second))) / np.sqrt(6)
    noise_slope = noise / (np.sqrt(8 * np.pi) * a**2)
    steepest = float(np.quantile(slope, 0.999))
    found = slope > max(_NOISE * noise_slope, _STRONGEST * steepest)
    padded = np.pad(slope, 1)
    height, width = slope.shape
    for number, (dy, dx) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        before = padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width]
        after = padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
        found &= (direction != number) | ((slope >= before) & (slope > after))
    border = int(4 * a)  # nearer to the border, derivatives see padded pixels
    inside = np.zeros_like(found)
    inside[border:-border, border:-border] = True
    return np.asarray(found & inside)


def _widths(slope: NDArray[np.float32], wide: NDArray[np.float32], a: float) -> NDArray[np.float32]:
    """Width of the blur in pixels, 0 to `LARGEST`, from the slopes at the widths `a` and `2 a`."""
    b = 2 * a
    ratio = (slope / np.maximum(wide, np.finfo(np.float32).tiny)) ** 2
    smallest_ratio = (LARGEST**2 + b**2) / (LARGEST**2 + a**2)  # a smaller one means a wider blur
    ratio = np.maximum(ratio, smallest_ratio)
    return np.sqrt(np.maximum((b**2 - ratio * a**2) / (ratio - 1), 0))


def _kind(width: float, edges: _Edges) -> tuple[Kind, int | None]:
    """Tell sharp, defocus and motion apart: motion widens only the edges across its direction.

    Both directions are compared within small squares, since blur changes with depth.
    """
    squares = np.stack([edges.rows, edges.columns]) // _SQUARE
    _, labels = np.unique(squares, axis=1, return_inverse=True)
    medians = [
        _medians(labels[here], edges.widths[here])
        for here in (edges.directions == direction for direction in range(4))
    ]
    ratios = [0.0] * 4
    for direction, own in enumerate(medians):
        across = medians[(direction + 2) % 4]
        both = [own[square] / max(across[square], SHARP) for square in own.keys() & across.keys()]
        if len(both) >= _MOTION_SQUARES:
            ratios[direction] = float(np.median(both))
    widest = int(np.argmax(ratios))
    if ratios[widest] > _MOTION_RATIO:
        return "motion", (-45 * widest) % 180  # rows count downwards
    return ("sharp" if width <= SHARP else "defocus"), None
