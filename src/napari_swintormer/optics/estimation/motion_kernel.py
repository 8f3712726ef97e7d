"""The kernel of a camera's shake, estimated from the strong edges of one image.

From coarse to fine, two steps alternate. The image is deconvolved with the kernel so far and its
edges are sharpened; then the kernel is fitted that blurs these edges as the image shows them.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import ndimage

from napari_swintormer.optics.estimation.blurred_window import BlurredWindow
from napari_swintormer.optics.estimation.motion_signs import border_light, signs
from napari_swintormer.optics.estimation.strong_edges import (
    gradients,
    sharpened_edges,
    shrunk_gradients,
    strongest,
)
from napari_swintormer.optics.light import to_light

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_swintormer.optics.psf import PSF

    Floats = NDArray[np.float32]
    Kernel = NDArray[np.float64]

_HALF = 13  # pixels from the middle of a kernel to its border
_LARGE_HALF = 32  # tried where the first kernel reaches its border
_AT_BORDER = 0.01  # share of a kernel's light there
_SMALLEST_WINDOW = 112  # pixels
_FLAT = 1e-3  # standard deviation of a window without content
_RATIO = math.sqrt(0.5)  # between two scales
_SMALLEST = 24  # pixels, side of an image at the coarsest scale
_ROUNDS = 6  # at each scale
_DAMPING = 6e-3  # of the deconvolution between two fits
CONTRAST = 0.2
"""Standard deviation that images are brought to."""
THREADS = 2
"""Parts of an image that kernels are estimated on at the same time."""
KERNEL_DAMPING = 1e-2
"""Share of the power of the edges that keeps a fitted kernel small."""
_EDGES = 32  # gradients for each pixel of the kernel's side and range of direction
_MORE_EDGES = 1.1  # in each round
_FAINT = 0.1  # pixels of a kernel below this share of its maximum are noise
_NOTHING = 1e-3  # share of the maximum that interpolation alone leaves
_SMALL_PART = 0.1  # and so are parts with less than this share of its light
_FINE_ROUNDS = 4
_FINE_DAMPING = 6e-3
_FINE_EDGES = 240
_SHRINKAGE = 0.02  # of gradients, after the deconvolution


class MotionTrial(NamedTuple):
    """A kernel, and what speaks for it.

    Attributes
    ----------
    kernel
        Float32, odd side up to 65 pixels, not negative, sum 1, centre of mass in the middle.
    signs
        See `motion_signs`.
    image
        Light ``(Y, X)`` of the window that the kernel was found on.
    half
        Pixels from the middle of a kernel to its border, at most.
    first
        The kernel before it was refined.
    refined
        The kernel before its centre was moved by parts of a pixel.
    """

    kernel: PSF
    signs: dict[str, float]
    image: Floats
    half: int
    first: Kernel
    refined: Kernel


def motion_trials(windows: Sequence[Floats], gamma: float = 1.0) -> list[MotionTrial]:
    """Estimate the one kernel that blurs all windows of an image, if motion blurs it.

    The window with the strongest edges in all directions decides. Parts of the other windows, or
    the halves of a single one, vote: they are sure to differ where no kernel can be found.

    Parameters
    ----------
    windows
        Parts ``(Y, X)`` of one image, with intensities in 0 to 1 of its range.
    gamma
        Exponent of the intensity curve: light is ``intensity ** gamma``; 2.2 for photos, 1 for
        micrographs.

    Returns
    -------
    A kernel of at most 27 pixels. If it reaches that, a larger one follows. Nothing, if no window
    is large enough or has any detail.
    """
    lights = [_light(w, gamma) for w in windows if min(w.shape) >= _SMALLEST_WINDOW]
    lights = sorted((w for w in lights if w.std() > _FLAT), key=edge_strength, reverse=True)
    if not lights:
        return []
    image, *others = lights
    parts = [part for other in others or [image] for part in _halves(other)]
    voters = sorted(parts, key=edge_strength, reverse=True)[:2]
    trials = [_trial(image, voters, _HALF)]
    if border_light(trials[0].kernel, _HALF) > _AT_BORDER:
        trials.append(_trial(image, voters, _LARGE_HALF))
    return trials


def _trial(image: Floats, voters: Sequence[Floats], half: int) -> MotionTrial:
    """Estimate a kernel of at most `half` pixels to each side."""
    half = min(half, min(min(part.shape) for part in (image, *voters)) // 4)
    with ThreadPoolExecutor(THREADS) as threads:
        voting = threads.map(lambda part: coarse_to_fine(part, half), voters)
        first = coarse_to_fine(image, half)
        fine = refined(image, first, half)
        kernel = centred(fine)
        votes = list(voting)
    told = signs(image, kernel, half, votes)
    return MotionTrial(kernel.astype(np.float32), told, image, half, first, fine)


def coarse_to_fine(image: Floats, half: int, damping: float = KERNEL_DAMPING) -> Kernel:
    """Estimate the kernel of an image ``(Y, X)`` in light, at most `half` pixels to each side.

    `damping` keeps the kernels small that are fitted, as a share of the power of the edges.
    """
    image = image * np.float32(CONTRAST / max(float(image.std()), 1e-6))
    scales = [1.0]
    while half * scales[-1] * _RATIO >= 1 and min(image.shape) * scales[-1] * _RATIO > _SMALLEST:
        scales.append(scales[-1] * _RATIO)
    kernel = np.zeros((3, 3))
    kernel[1, 1] = 1
    for scale in reversed(scales):
        reach = max(1, math.floor(half * scale + 0.5))
        if scale != scales[-1]:
            kernel = _resized(_enlarged(kernel), reach)
        window = BlurredWindow(_reduced(image, scale), reach)
        for turn in range(_ROUNDS):
            sharp = sharpened_edges(window.deconvolved(kernel, _DAMPING))
            count = int(_EDGES * len(kernel) * _MORE_EDGES**turn)
            kernel = _fit(window, gradients(sharp), count, kernel, damping)
    return kernel


def refined(image: Floats, kernel: Kernel, half: int) -> Kernel:
    """Fit a kernel again to many more gradients, on no more pixels than it needs."""
    image = image * np.float32(CONTRAST / max(float(image.std()), 1e-6))
    reach = min(_extent(kernel) + 2, half)
    kernel = _resized(kernel, reach)
    window = BlurredWindow(image, reach)
    for _ in range(_FINE_ROUNDS):
        sharp = shrunk_gradients(window.deconvolved(kernel, _FINE_DAMPING), _SHRINKAGE)
        kernel = _fit(window, sharp, _FINE_EDGES * len(kernel), kernel)
    return kernel


def centred(kernel: Kernel) -> Kernel:
    """Move a kernel's centre of mass into the middle of the middle pixel."""
    kernel = np.pad(kernel, 2)
    middle = len(kernel) // 2
    y, x = ndimage.center_of_mass(kernel)
    kernel = ndimage.shift(kernel, (middle - y, middle - x), order=3)
    kernel = np.where(kernel > _NOTHING * kernel.max(), kernel, 0)
    return _resized(kernel, min(max(_extent(kernel), 1), _LARGE_HALF))


def edge_strength(image: Floats) -> float:
    """Power of the strongest gradients in the direction that has fewest of them."""
    along_y, along_x = gradients(image)
    inside = np.zeros(image.shape, bool)
    inside[1:-1, 1:-1] = True
    power = along_y**2 + along_x**2
    ranges = 2 * (along_x * along_y < 0) + (np.abs(along_y) > np.abs(along_x))
    keep = strongest(along_y, along_x, inside, _EDGES * 2 * _HALF)
    return float(min(power[keep & (ranges == k)].sum() for k in range(4)))


def _light(window: Floats, gamma: float) -> Floats:
    finite = np.nan_to_num(np.ascontiguousarray(window, np.float32), posinf=1.0, neginf=0.0)
    return to_light(np.maximum(finite, 0), gamma)


def _halves(image: Floats) -> tuple[Floats, Floats]:
    """Cut an image across its longer axis."""
    axis = int(np.argmax(image.shape))
    first, second = np.array_split(image, 2, axis)
    return first, second


def _fit(
    window: BlurredWindow,
    sharp: tuple[Floats, Floats],
    count: int,
    kernel: Kernel,
    damping: float = KERNEL_DAMPING,
) -> Kernel:
    keep = strongest(*sharp, window.inside, count)
    chosen = sharp[0] * keep, sharp[1] * keep
    return _cleaned(window.fitted_kernel(chosen, kernel, damping))


def _cleaned(kernel: Kernel) -> Kernel:
    """Remove negative and faint pixels and small parts; centre by whole pixels, sum 1."""
    middle = len(kernel) // 2
    peak = kernel.max()
    kernel = np.where(kernel >= max(_FAINT * peak, 0), np.maximum(kernel, 0), 0)
    if not kernel.sum() > 0:
        kernel = np.zeros_like(kernel)
        kernel[middle, middle] = 1
        return kernel
    parts, count = ndimage.label(kernel, np.ones((3, 3)))
    light = ndimage.sum_labels(kernel, parts, np.arange(count + 1))
    small = light < min(_SMALL_PART * kernel.sum(), light.max())
    kernel[small[parts]] = 0
    y, x = ndimage.center_of_mass(kernel)
    kernel = ndimage.shift(kernel, (round(middle - y), round(middle - x)), order=0)
    moved: Kernel = kernel / kernel.sum()
    return moved


def _reduced(image: Floats, scale: float) -> Floats:
    if scale == 1:
        return image
    smooth = ndimage.gaussian_filter(image, 0.4 / scale * math.sqrt(1 - scale**2))
    small: Floats = ndimage.zoom(smooth, scale, order=1)
    return small


def _enlarged(kernel: Kernel) -> Kernel:
    """Enlarge a kernel from one scale to the next."""
    middle = len(kernel) // 2
    reach = math.ceil(middle / _RATIO)
    along = np.arange(-reach, reach + 1) * _RATIO + middle
    places = np.meshgrid(along, along, indexing="ij")
    large: Kernel = ndimage.map_coordinates(kernel, places, order=1)
    return large


def _resized(kernel: Kernel, half: int) -> Kernel:
    """Cut or pad a kernel to `half` pixels on each side; its sum becomes 1."""
    surplus = len(kernel) // 2 - half
    kernel = kernel[surplus:-surplus, surplus:-surplus] if surplus > 0 else np.pad(kernel, -surplus)
    fitted: Kernel = kernel / kernel.sum()
    return fitted


def _extent(kernel: Kernel) -> int:
    """Distance in pixels from the middle to the farthest pixel with light, along an axis."""
    places = np.abs(np.argwhere(kernel > 0) - len(kernel) // 2)
    return int(places.max())
