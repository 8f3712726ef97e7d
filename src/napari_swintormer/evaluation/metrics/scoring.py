"""The metrics of a protocol, computed for one restored image and its sharp reference.

PSNR, MAE and SSIM are summed over bands of rows, so images of any size fit into memory. The other
metrics need the whole image at once and are left out for huge images.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_swintormer.evaluation.metrics import frc
from napari_swintormer.evaluation.metrics.alignment import aligned_scores
from napari_swintormer.evaluation.metrics.lpips import lpips
from napari_swintormer.evaluation.metrics.similarity import (
    SSIM_REACH,
    gmsd,
    intensity_span,
    ms_ssim,
    ssim,
    ssim3d,
)
from napari_swintormer.evaluation.metrics.volumes import score_volume
from napari_swintormer.imaging.planes import Planes
from napari_swintormer.imaging.sample import sample_regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.evaluation.data.protocols import Protocol

ALWAYS = ("psnr", "ssim", "mae")
OPTIONAL = ("ssim3d", "ms_ssim", "gmsd", "lpips", "frc")
_AT_ONCE = 2**24  # samples; larger images are scored in bands, with the metrics of ALWAYS only
_BAND = 2**22  # samples of a band


@dataclass(frozen=True)
class Scale:
    """The intensity of black, and the distance from there to white, in the units of the images."""

    black: float
    span: float

    @classmethod
    def of(cls, sharp: Any, protocol: Protocol) -> Scale:
        """Give [0, 1] if the protocol divides by a full scale; else measure the sharp image."""
        if protocol.full_scale is not None:
            return cls(0.0, 1.0)
        if prod(sharp.shape) <= _AT_ONCE:
            sample = [np.asarray(sharp)]
        else:
            colours = len(sharp.shape) == 3 and not protocol.volumes
            axes = "YXS" if colours else "ZYX"[-len(sharp.shape) :]
            planes = Planes(sharp, axes, 3 if colours else 1)
            numbers = range(0, len(planes), -(-len(planes) // 8))
            sample = planes.read_all(sample_regions(list(numbers), planes.shape, 64))
        pixels = np.concatenate([region.ravel() for region in sample])
        black = float(np.percentile(pixels, 0.1))
        flat = pixels.min() == pixels.max()  # a flat image counts errors in its own units
        return cls(black, 1.0 if flat else intensity_span(pixels))


@dataclass(frozen=True)
class Fit:
    """One gain and one offset that map the intensities of an image to those of another.

    Two exposures of the same scene differ in brightness, which is not blur. So real pairs are
    compared after this fit.
    """

    gain: float = 1.0
    offset: float = 0.0

    @classmethod
    def between(cls, image: Any, sharp: Any) -> Fit:
        """Fit by least squares over all pixels; a constant image maps to the mean of `sharp`."""
        count, sums, products = 0, np.zeros(2), np.zeros(2)
        origin = None
        for _, a, b in _bands(image, sharp, 0):
            if origin is None:  # sums of small numbers keep their digits
                origin = np.array([a.mean(), b.mean()])
            a, b = a - origin[0], b - origin[1]
            count += a.size
            sums += a.sum(), b.sum()
            products += np.vdot(a, a), np.vdot(a, b)
        assert origin is not None
        means = sums / count
        variance = products[0] / count - means[0] ** 2
        covariance = products[1] / count - means[0] * means[1]
        gain = covariance / variance if variance > 0 else 0.0
        offset = means[1] + origin[1] - gain * (means[0] + origin[0])
        return cls(float(gain), float(offset))

    def __call__(self, image: NDArray[Any]) -> NDArray[np.float64]:
        """Compute ``gain · image + offset``."""
        return self.gain * np.asarray(image, np.float64) + self.offset


def score_pair(
    pair: PairImages, restored: Any, scale: Scale, metrics: Sequence[str]
) -> dict[str, float]:
    """Score a result for the blurred image of a pair, as the protocol of the pair says.

    A stack is scored as a volume, and has NaN for `metrics`, which are for planes.
    """
    if not pair.protocol.volumes:
        return score(pair.protocol, restored, pair.sharp, scale, metrics)
    scores = score_volume(restored, pair.sharp, scale, pair.planes)
    return scores | dict.fromkeys(metrics, float("nan"))


def score(
    protocol: Protocol, image: Any, sharp: Any, scale: Scale, metrics: Sequence[str]
) -> dict[str, float]:
    """Score an image, restored or not, against the sharp one as a protocol says.

    Both are array-likes of equal shape, ``(Y, X)`` or ``(Y, X, S)``, as the protocol reads them;
    `scale` is that of the sharp image. The result has the metrics of `ALWAYS` and the named ones of
    `OPTIONAL`; NaN if the image is too small or too large for a metric. The MAE is a share of the
    scale's span.
    """
    at_once = prod(sharp.shape) <= _AT_ONCE
    if at_once:
        image, sharp = np.asarray(image), np.asarray(sharp)
    if protocol.clamp:
        image = np.clip(image, 0, 1)
    if protocol.rounded:
        image = np.rint(image * 255) / 255
    fit = Fit.between(image, sharp) if protocol.match == "affine" else Fit()
    scores = _sums(image, sharp, fit, scale.span, protocol)
    if protocol.match == "realblur":
        scores |= aligned_scores(image, sharp)
    for name in metrics:
        scores[name] = _whole(name, fit(image), sharp, scale) if at_once else float("nan")
    return scores


def _whole(name: str, image: NDArray[np.float64], sharp: NDArray[Any], scale: Scale) -> float:
    """Compute a metric that needs the whole image."""
    if name == "frc":
        return frc.resolution(image, sharp)
    if name == "ssim3d":
        return ssim3d(image, sharp, data_range=scale.span) if sharp.ndim == 3 else float("nan")
    if name == "ms_ssim":
        return ms_ssim(image, sharp, data_range=scale.span)
    distance = {"gmsd": gmsd, "lpips": lpips}[name]
    return distance(image, sharp, black=scale.black, data_range=scale.span)


def _sums(image: Any, sharp: Any, fit: Fit, span: float, protocol: Protocol) -> dict[str, float]:
    """Sum PSNR, SSIM and MAE over bands of rows."""
    reach = SSIM_REACH[protocol.ssim]
    channel_axis = 2 if len(sharp.shape) == 3 else None
    squared = absolute = similarity = 0.0
    count = scored_rows = 0
    for own, a, b in _bands(image, sharp, reach):
        a = fit(a)
        error = a[own] - b[own]
        squared, absolute = squared + float(np.vdot(error, error)), absolute + np.abs(error).sum()
        count += error.size
        rows = a.shape[0] - 2 * reach
        if rows > 0 and a.shape[1] > 2 * reach:
            mean = ssim(a, b, data_range=span, channel_axis=channel_axis, window=protocol.ssim)
            similarity, scored_rows = similarity + rows * mean, scored_rows + rows
    mean_squared = squared / count
    return {
        "psnr": float("inf") if squared == 0 else float(10 * np.log10(span**2 / mean_squared)),
        "ssim": similarity / scored_rows if scored_rows else float("nan"),
        "mae": float(absolute / count / span),
    }


def _bands(
    image: Any, sharp: Any, reach: int
) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
    """Read bands of rows of both images, with `reach` more rows on each side.

    The slice selects the rows of the band without the additional ones.
    """
    height = sharp.shape[0]
    rows = max(2 * reach + 1, _BAND * height // prod(sharp.shape))
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - reach), min(height, bottom + reach)
        a, b = (np.asarray(x[first:last]).astype(np.float64) for x in (image, sharp))
        yield slice(top - first, bottom - first), a, b
