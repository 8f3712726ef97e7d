"""Richardson-Lucy deconvolution of stacks in three dimensions, on any device of torch.

The image is taken to be ``counts = PSF * object + noise``, with Poisson and camera noise. Every
iteration multiplies the estimate of the object by the back-projected ratio of the counts and the
blurred estimate. Three things are added to the textbook form:

- **Borders.** The object goes on beyond the image, as far as the PSF reaches. Voxels outside the
  image, saturated voxels and NaN have no say: they get weight 0 (Bertero and Boccacci, Astron.
  Astrophys. 437, 2005).
- **Speed.** Nesterov's momentum, whose size depends on the iteration alone. So an image may be
  worked on in blocks: whatever a block shows, it takes the same steps as its neighbours.
- **The end.** `choose_iterations` decides on a sample of the image when to stop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.ndimage import uniform_filter
from scipy.optimize import nnls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    Volume = NDArray[np.float32]

ITERATIONS_MAX = 60
# The fit counts as finished when its excess error falls by less than this share per iteration,
_LEAST_PROGRESS = 0.04
_PROGRESS_OVER = 5  # measured over this many iterations.
_LEAST_WEIGHT = 0.01  # of the PSF's light that must fall on known voxels for a voxel to be fitted
_LEAST_KEPT = 0.1  # of a voxel, before momentum: an estimate of zero stays zero for ever
_SMALLEST = 1e-6


@dataclass(frozen=True)
class NoiseModel:
    """Variance of the noise in counts squared: ``gain * signal + floor``.

    Attributes
    ----------
    gain
        Counts per photon.
    floor
        Variance of the camera without light.
    """

    gain: float
    floor: float


class RegionDeconvolver:
    """Makes Richardson-Lucy steps on regions ``(Z, h, w)`` of one size.

    The object has `room` more planes than the image. What the PSF throws over the first plane
    comes back after the last, and falls into this room. Along Y and X a region ends either where
    the object does, or at a cut: then the outer part of the result, twice as wide as half of the
    PSF, is not valid.

    Parameters
    ----------
    psf
        ``(Z, Y, X)``, odd, of sum 1; its middle voxel is the origin.
    planes
        Planes of the image.
    height, width
        Size of the regions in pixels.
    device
        Where the work is done.
    cut
        Whether a region can end at a cut; False for the whole object.
    """

    def __init__(
        self,
        psf: Volume,
        planes: int,
        height: int,
        width: int,
        device: torch.device,
        *,
        cut: bool = True,
    ) -> None:
        self.planes, self.height, self.width, self.device = planes, height, width, device
        self.depth = object_planes(psf, planes)
        # At a cut there is light to come back at the other end; where the object ends is none.
        room = [side // 2 if cut else 0 for side in psf.shape[1:]]
        height, width = (
            next_fast_len(n + more, real=True)
            for n, more in zip((height, width), room, strict=True)
        )
        self._period = (self.depth, height, width)
        kernel = torch.zeros(self._period, device=device)
        kernel[tuple(slice(0, n) for n in psf.shape)] = torch.tensor(psf, device=device)
        kernel = torch.roll(kernel, [-(n // 2) for n in psf.shape], (0, 1, 2))
        self._otf = torch.fft.rfftn(kernel)

    def weight(self, known: Tensor) -> Tensor:
        """Share of a voxel's light that falls on `known` voxels, ``(depth, h, w)``; at least 0.01.

        `known` is ``(planes, h, w)`` of 0 and 1.
        """
        return self._correlate(known).clamp(min=_LEAST_WEIGHT)

    def ahead(self, estimate: Tensor, previous: Tensor, step: int) -> Tensor:
        """Move on from the last two estimates by Nesterov's momentum; not negative."""
        momentum = max(0, step - 1) / (step + 2)
        moved = estimate + momentum * (estimate - previous)
        return torch.maximum(moved, _LEAST_KEPT * estimate)

    def blur(self, x: Tensor) -> Tensor:
        """Blur an object ``(depth, h, w)`` into its image ``(planes, h, w)``, which is positive."""
        spectrum = torch.fft.rfftn(x, self._period) * self._otf
        blurred: Tensor = torch.fft.irfftn(spectrum, self._period)
        return blurred[: self.planes, : self.height, : self.width].clamp(min=_SMALLEST)

    def factor(self, counts: Tensor, blurred: Tensor, weight: Tensor) -> Tensor:
        """Give what the estimate is multiplied by, ``(depth, h, w)``; `counts` may hold NaN."""
        ratio = torch.nan_to_num(counts / blurred, nan=0.0)
        return self._correlate(ratio) / weight

    def update(self, ahead: Tensor, factor: Tensor, weight: Tensor) -> Tensor:
        """Make the next estimate; voxels that no known voxel sees stay as they are."""
        return torch.where(weight > _LEAST_WEIGHT, ahead * factor.clamp(min=0), ahead)

    def _correlate(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfftn(x, self._period) * self._otf.conj()
        back: Tensor = torch.fft.irfftn(spectrum, self._period)
        return back[:, : self.height, : self.width]


def object_planes(psf: Volume, planes: int) -> int:
    """Planes of the object: those of the image, and room for half of the PSF."""
    return int(next_fast_len(planes + psf.shape[0] // 2, real=True))


def margin(psf: Volume) -> tuple[int, int]:
    """Pixels along Y and X that the object goes on beyond the image: half of the PSF."""
    return psf.shape[1] // 2, psf.shape[2] // 2


def start_value(counts: Volume) -> float:
    """Value that all voxels of the estimate begin with: the mean of the counts."""
    known = counts[np.isfinite(counts)]
    return max(float(known.mean(dtype=np.float64)) if known.size else 0.0, _SMALLEST)


def estimates(
    psf: Volume, counts: Volume, device: torch.device, start: float | None = None
) -> Iterator[Volume]:
    """Deconvolve a volume that fits into memory; yield the estimate after every iteration.

    Parameters
    ----------
    psf
        See `RegionDeconvolver`.
    counts
        ``(Z, Y, X)``, the camera's offset taken off; NaN where nothing is known.
    device
        Where the work is done.
    start
        First value of the estimate; None takes the mean of the counts.

    Yields
    ------
    ndarray
        ``(Z, Y, X)`` float32, not negative, in the units of `counts`; without end.
    """
    for estimate, _, _ in _whole_steps(psf, counts, device, None, start):
        yield estimate


def choose_iterations(psf: Volume, counts: Volume, noise: NoiseModel, device: torch.device) -> int:
    """Find out after how many iterations to stop, on a volume that stands for the image.

    The counts are split into two halves with independent noise. Both ask for a change of the
    estimate. As long as they agree, the change fits the object; when they do not, it fits the noise
    (gradient consensus, Manton and York 2023). Where the PSF is not quite right the halves agree on
    errors, too. So the iterations also end when the misfit beyond the noise falls by less than 4 %
    per iteration.

    Parameters
    ----------
    psf, counts, device
        See `estimates`.
    noise
        Noise of the counts.

    Returns
    -------
    int
        1 to `ITERATIONS_MAX`.
    """
    excess: list[float] = []
    for done, (_, agreement, misfit) in enumerate(_whole_steps(psf, counts, device, noise)):
        if agreement < 0 or done == ITERATIONS_MAX:
            return max(1, done)
        excess.append(max(misfit - 1, 0.0))
        if done >= _PROGRESS_OVER:
            before, now = excess[done - _PROGRESS_OVER], excess[done]
            if now > before * (1 - _LEAST_PROGRESS) ** _PROGRESS_OVER:
                return done
    raise AssertionError("the iterations have no end of their own")


def _whole_steps(
    psf: Volume,
    counts: Volume,
    device: torch.device,
    noise: NoiseModel | None,
    start: float | None = None,
) -> Iterator[tuple[Volume, float, float]]:
    """Iterate on a whole volume; with a noise model also tell how the halves agree, and the misfit.

    Agreement and misfit are those of the estimate before the one that is yielded.
    """
    (top, left), (planes, height, width) = margin(psf), counts.shape
    steps = RegionDeconvolver(psf, planes, height + 2 * top, width + 2 * left, device, cut=False)
    inside = slice(0, planes), slice(top, top + height), slice(left, left + width)
    measured = torch.full((planes, steps.height, steps.width), torch.nan, device=device)
    measured[inside] = torch.tensor(counts, device=device)
    known = torch.isfinite(measured)
    weight = steps.weight(known.float())
    estimate = torch.full(
        (steps.depth, steps.height, steps.width),
        start_value(counts) if start is None else start,
        device=device,
    )
    previous = estimate
    halves = None if noise is None else _split(measured, noise)
    step = 0
    while True:
        ahead = steps.ahead(estimate, previous, step)
        blurred = steps.blur(ahead)
        agreement = misfit = 0.0
        if halves is None or noise is None:
            factor = steps.factor(measured, blurred, weight)
        else:
            one, other = (steps.factor(half, blurred, weight) for half in halves)
            factor = (one + other) / 2
            changes = (ahead**2 * (one - 1) * (other - 1))[inside]
            agreement = float(changes.double().sum())
            variance = noise.gain * blurred + noise.floor + _SMALLEST
            misfit = float(((measured - blurred) ** 2 / variance)[known].double().mean())
        previous, estimate = estimate, steps.update(ahead, factor, weight)
        step += 1
        yield estimate[inside].cpu().numpy(), agreement, misfit


def _split(measured: Tensor, noise: NoiseModel) -> tuple[Tensor, Tensor]:
    """Make two noisy versions of the counts whose noise is independent of each other."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(measured.shape, generator=generator).to(measured.device)
    added = normal * (noise.gain * measured.clamp(min=0) + noise.floor).sqrt()
    return measured + added, measured - added


def estimate_noise(counts: Volume) -> NoiseModel:
    """Estimate the noise of a volume from what its planes hold at the finest scale.

    Parameters
    ----------
    counts
        ``(Z, Y, X)``, the camera's offset taken off; NaN is left out.
    """
    filled = np.nan_to_num(counts, nan=0.0)
    if min(filled.shape[1:]) < 8:
        return NoiseModel(1.0, 1.0)
    second = filled[:, 2:] - 2 * filled[:, 1:-1] + filled[:, :-2]
    detail = (second[..., 2:] - 2 * second[..., 1:-1] + second[..., :-2]) / 6  # unit noise gain
    level = uniform_filter(filled, (1, 3, 3))[:, 1:-1, 1:-1]
    use = np.isfinite(counts)[:, 1:-1, 1:-1]
    level, detail = level[use].clip(min=0), np.abs(detail[use])
    if level.size < 64:
        return NoiseModel(1.0, 1.0)
    groups = np.array_split(np.argsort(level), min(32, level.size // 32))
    signals = np.array([level[group].mean() for group in groups])
    variances = np.array([(np.median(detail[group]) / 0.6745) ** 2 for group in groups])
    weights = 1 / np.maximum(variances, 1e-12)
    terms = np.stack([signals, np.ones_like(signals)], axis=1)
    for _ in range(5):  # texture raises single groups: these count less
        (gain, floor), _ = nnls(terms * weights[:, None], variances * weights)
        ratio = variances / (gain * signals + floor + 1e-12)
        weights = np.where(ratio > 1.3, 0.1, 1) / np.maximum(variances, 1e-12)
    return NoiseModel(float(gain), float(floor))
