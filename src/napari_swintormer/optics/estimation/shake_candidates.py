"""Several kernels of one shake: from parts of a window and with other settings.

A single kernel depends on small changes of the image. Several that agree are surer, and a filter
that averages over them undoes only what they have in common.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import fft, ndimage

from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_kinds import LARGEST
from napari_swintormer.optics.estimation.motion_kernel import (
    KERNEL_DAMPING,
    THREADS,
    coarse_to_fine,
)
from napari_swintormer.optics.estimation.sparse_kernel import sparse_kernel
from napari_swintormer.optics.psf_array import scaled_psf

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from napari_swintormer.optics.estimation.motion_kernel import MotionTrial
    from napari_swintormer.optics.psf import PSF

    Floats = NDArray[np.floating]
    Kernel = NDArray[np.float64]

_STEADY = 3 * KERNEL_DAMPING  # damping of the second kernel of the whole window
_PART, _LARGEST_PART = 0.75, 320  # of a window's sides, and pixels
_POWER = 4  # of the similarity, in the weights
# Chosen on blurred training images.
_REFINED = 0.4  # probability of the refined kernel
_SIZES = {0.9: 0.25, 1.0: 0.5, 1.1: 0.25}  # in which it may be, with their shares
_SPARSE = 0.7  # probability of the kernel that is fitted to all gradients
_NOTHING = 1e-3  # share of the maximum that interpolation alone leaves


class ShakeCandidates(NamedTuple):
    """Kernels that a shake may have.

    Attributes
    ----------
    blur
        A mixture of the kernels, which lie upon each other.
    agreement
        Mean similarity to the kernel that is most like the others, from 0 to 1.
    """

    blur: Blur
    agreement: float


def shake_candidates(trial: MotionTrial) -> ShakeCandidates:
    """Estimate the kernel of a trial again, with another setting and on parts of its window."""
    parts = [(trial.image, _STEADY), *((part, KERNEL_DAMPING) for part in _parts(trial.image))]
    with ThreadPoolExecutor(THREADS) as threads:
        estimates = threads.map(lambda part: coarse_to_fine(part[0], trial.half, part[1]), parts)
        kernels = [trial.refined, trial.first, *estimates]
    half = max(len(kernel) for kernel in kernels) // 2
    kernels = [np.pad(kernel, half - len(kernel) // 2) for kernel in kernels]
    pairs = [[_match(one, other) for other in kernels] for one in kernels]
    alike = np.array([[similarity for similarity, _ in row] for row in pairs])
    best = int(np.square(alike).mean(axis=1).argmax())
    shifts = [shift for _, shift in pairs[best]]
    lying = [ndimage.shift(kernel, by, order=0) for kernel, by in zip(kernels, shifts, strict=True)]
    weights = alike[best] ** _POWER
    refined, *others = _centred(lying)
    shares = (1 - _REFINED) * weights[1:] / weights[1:].sum()
    sizes = {f: p for f, p in _SIZES.items() if f <= 1 or (refined.reach + 1) * f < LARGEST // 2}
    whole = sum(sizes.values())
    candidates = [
        *((_REFINED * p / whole, _in_size(refined, f)) for f, p in sizes.items()),
        *zip(shares.tolist(), others, strict=True),
    ]
    return ShakeCandidates(
        Blur.mixture(candidates), float((alike[best].sum() - 1) / (len(kernels) - 1))
    )


def with_sparse_kernel(blur: Blur, trial: MotionTrial) -> Blur:
    """Add the kernel to a mixture that all gradients of the trial's window speak for."""
    sparse = _as_it_lies(sparse_kernel(trial.image, blur.psf().astype(np.float64)))
    others = [((1 - _SPARSE) * share, kernel) for share, kernel in blur.candidates]
    return Blur.mixture([(_SPARSE, sparse), *others])


def _parts(image: Floats) -> Iterator[Floats]:
    """Cut a part out of each corner of a window."""
    height, width = (min(round(_PART * size), _LARGEST_PART) for size in image.shape)
    for y in (0, image.shape[0] - height):
        for x in (0, image.shape[1] - width):
            yield image[y : y + height, x : x + width]


def _match(one: Kernel, other: Kernel) -> tuple[float, tuple[int, int]]:
    """Give the largest similarity of two kernels of one size, and the shift of `other` for it."""
    side = fft.next_fast_len(2 * len(one), real=True)
    product = fft.rfft2(one, (side, side)) * np.conj(fft.rfft2(other, (side, side)))
    values = fft.irfft2(product, (side, side))
    y, x = divmod(int(values.argmax()), side)
    size = np.sqrt((one**2).sum() * (other**2).sum())
    shift = y - side * (2 * y >= side), x - side * (2 * x >= side)
    return float(values[y, x] / size), shift


def _centred(kernels: Sequence[Kernel]) -> list[Blur]:
    """Move all kernels alike, so that the first lies in the middle; cut off what is dark."""
    middle = len(kernels[0]) // 2
    y, x = ndimage.center_of_mass(kernels[0])
    moved = np.stack([ndimage.shift(k, (middle - y, middle - x), order=3) for k in kernels])
    moved[moved <= _NOTHING * moved.max(axis=(1, 2), keepdims=True)] = 0
    surplus = middle - int(np.abs(np.argwhere(moved.any(axis=0)) - middle).max())
    inside = slice(surplus, len(kernels[0]) - surplus)
    return [_as_it_lies(kernel[inside, inside]) for kernel in moved]


def _in_size(kernel: Blur, factor: float) -> Blur:
    """Give a kernel as it lies, or in another size."""
    if factor == 1:
        return kernel
    return _as_it_lies(scaled_psf(kernel.psf(), factor))


def _as_it_lies(kernel: Kernel | PSF) -> Blur:
    """Make a blur of a kernel; `Blur.kernel` would move its own centre into the middle."""
    return Blur("kernel", samples=np.ascontiguousarray(kernel / kernel.sum(), np.float32).tobytes())
