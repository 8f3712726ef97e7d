"""The filter for a known blur, for a batch of patches that each have their own blur and noise.

`KnownBlur.describe` does the same for one patch, with the code of a run. Here all patches of a
batch are measured and filtered together, on the device where they are.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from scipy.fft import next_fast_len
from torch import Tensor

from napari_swintormer.models import blur_filter
from napari_swintormer.models.transfer import send
from napari_swintormer.optics import inverse_filter, plane_blur, plane_power
from napari_swintormer.optics.inverse_filter import CAUTION, GRID, REACH
from napari_swintormer.optics.light import GAMMA

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_swintormer.training.degradations.known_blur import KnownBlur


class FilterNumbers(NamedTuple):
    """What is known of the blur of a patch, or of a batch of patches."""

    mean: NDArray[np.complex64]  # mean OTF, (GRID, GRID // 2 + 1)
    power: NDArray[np.float32]  # mean squared size of the OTF, the same shape
    hidden: NDArray[np.float32]  # shares of the frequencies that the blur hides, of sum 1 or 0
    # whether there is a blur to undo, whether it is a photo, its size and certainty as maps, and
    # the part of its gradients that a blur leaves of natural images
    numbers: NDArray[np.float32]


def filter_numbers(known: KnownBlur, side: int) -> FilterNumbers:
    """Prepare the filter of a patch; `side` is that of the patch and what the filter reaches."""
    blur = known.blur
    mean, power = blur.otf_moments((GRID, GRID))
    window = min(GRID, side)
    passed = power if window == GRID else blur.otf_moments((window, window))[1]
    frequency = np.hypot(np.fft.fftfreq(window)[:, None], np.fft.rfftfreq(window))
    hides = (passed < plane_power._PASSED) & (frequency > plane_power._FROM)
    shares = hides / hides.sum() if hides.sum() > plane_power._FEWEST else 0.0 * hides
    radius = sum(p * candidate.radius for p, candidate in blur.candidates)
    size, certainty, _ = inverse_filter.blur_maps(
        radius, known.certainty, inverse_filter.ImagePower(0, 0)
    )
    natural = inverse_filter._SHARES * power * inverse_filter._GRADIENT * inverse_filter._SIGNAL
    changes, photo = blur.kind != "none", known.gamma != 1
    numbers = np.array([changes, photo, size, certainty, natural.sum()], np.float32)
    return FilterNumbers(mean, np.asarray(power), shares.astype(np.float32), numbers)


def filtered_and_maps(images: Tensor, known: FilterNumbers) -> Tensor:
    """Filter images in [0, 1] and add the maps, as `KnownBlur.describe` does.

    ``(B, 3, Y + 2 * REACH, X + 2 * REACH)`` gives ``(B, 6, Y, X)``; `known` are tensors.
    """
    numbers: Tensor = known.numbers  # type: ignore[assignment]
    changes, photo, size, certainty, _ = numbers.T
    lit = _light(images)
    in_light = torch.where(photo[:, None, None, None] > 0, lit, images)
    noise, gradients, spectrum = _measured(in_light)
    shown_noise, shown_gradients, shown_spectrum = _measured(images)
    caution = torch.where(photo > 0, CAUTION, plane_blur._MICROGRAPH * CAUTION)
    first = _kernel(known, shown_noise, shown_gradients, shown_spectrum, caution)
    second = _kernel(known, noise, gradients, spectrum, caution)
    filtered = _convolved(images, first)
    from_light = _light(_convolved(lit, second).clamp_min(0), 1 / GAMMA)
    bright = filtered.clamp(0, 1) ** blur_filter._TAKEOVER
    share = bright / (bright + blur_filter._EVEN**blur_filter._TAKEOVER)
    share = share * photo[:, None, None, None]
    filtered = filtered + share * (from_light - filtered)
    inner = images[..., REACH:-REACH, REACH:-REACH]
    does = (changes > 0) & (shown_gradients > 0)
    filtered = torch.where(does[:, None, None, None], filtered, inner)
    # without a blur the maps say: no size, no noise
    level = torch.where(does, noise, 1e-4).clamp_min(1e-4).log10() / 2 + 1.5
    size = torch.where(does, size, math.log2(0.25) / 4)
    maps = torch.stack([size, certainty, level], dim=1)[:, :, None, None]
    return torch.cat([filtered, maps.expand(-1, -1, *inner.shape[2:])], dim=1)


def _light(images: Tensor, gamma: float = GAMMA) -> Tensor:
    light: Tensor = images.sign() * images.abs() ** gamma
    return light


def _measured(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Measure noise ``(B,)``, gradients ``(B,)`` and spectrum as `PowerOfPlane.measured` does."""
    device, channels = images.device, images.shape[1]
    corner = send(torch.from_numpy(inverse_filter._CORNER).float(), device)
    corners = F.conv2d(images, corner.expand(channels, 1, 5, 5), groups=channels)
    noise = corners.square().mean(dim=(1, 2, 3)).sqrt()
    gradients = sum(images.diff(dim=d).square().mean(dim=(1, 2, 3)) for d in (2, 3))
    side = min(GRID, *images.shape[2:])
    squares = images.unfold(2, side, side).unfold(3, side, side)  # (B, C, y, x, side, side)
    squares = squares - squares.mean(dim=(-1, -2), keepdim=True)
    fading = np.outer(*[np.hanning(side + 2)[1:-1]] * 2)
    fading /= math.sqrt(float((fading**2).mean()))
    transform = torch.fft.rfft2(squares * send(torch.from_numpy(fading).float(), device))
    spectrum = torch.view_as_real(transform).square().sum(-1).mean(dim=(1, 2, 3)) / side**2
    return noise, gradients, spectrum  # type: ignore[return-value]


def _kernel(
    known: FilterNumbers, noise: Tensor, gradients: Tensor, spectrum: Tensor, caution: Tensor
) -> Tensor:
    """Make the filters as `inverse_kernel` does, ``(B, 2 * REACH + 1, 2 * REACH + 1)``."""
    mean, power, hidden, numbers = (torch.as_tensor(part) for part in known)
    hides = (spectrum * hidden).sum(dim=(1, 2))
    noise = torch.maximum(noise, (plane_power._HIDDEN * hides).sqrt())
    height = (gradients - 4 * noise**2).clamp_min(1e-10) / numbers[:, 4]
    noise = caution * (noise**2 + inverse_filter._LEAST_NOISE**2)
    signal = send(torch.from_numpy(inverse_filter._SIGNAL).float(), mean.device)
    filters = mean.conj() / (power + (noise / height)[:, None, None] / signal)
    filters = filters + (1 - filters.abs()).clamp_min(0)
    whole = torch.fft.irfft2(filters, s=(GRID, GRID)).roll((REACH, REACH), (1, 2))
    fading = send(torch.from_numpy(inverse_filter._FADING).float(), mean.device)
    kernel: Tensor = whole[:, : 2 * REACH + 1, : 2 * REACH + 1] * fading
    rest = (1 - kernel.sum(dim=(1, 2))) / float(inverse_filter._FADING.sum())
    return kernel + fading * rest[:, None, None]


def _convolved(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve every image with its own kernel, and cut off what wraps around."""
    size = [next_fast_len(n, real=True) for n in images.shape[2:]]
    transform = torch.fft.rfft2(kernels, s=size)[:, None]
    convolved: Tensor = torch.fft.irfft2(torch.fft.rfft2(images, s=size) * transform, s=size)
    height, width = images.shape[2:]
    return convolved[..., 2 * REACH : height, 2 * REACH : width]
