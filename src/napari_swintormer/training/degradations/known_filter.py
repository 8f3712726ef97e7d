"""The filter for a known blur, for a batch of patches that each have their own blur and noise.

Every patch gets the filters that a run would make for it. They are made on the CPU, by several
threads, and applied on the device of the batch.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor

from napari_swintormer.models import blur_filter
from napari_swintormer.models.transfer import send
from napari_swintormer.optics.blur_kinds import LARGEST
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.optics.light import GAMMA
from napari_swintormer.training.degradations.known_blur import Knowledge

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_MOST = 9  # candidates of a patch
_UNKNOWN = -1.0  # certainty of a blur of which nothing is known
_SIDE = 2 * REACH + 1


class KnownArrays(NamedTuple):
    """What is known of the blur of a patch, or of a batch of patches, as arrays of equal sizes."""

    psfs: Floats  # (_MOST, LARGEST, LARGEST)
    shares: Floats  # (_MOST,), 0 where there is no candidate
    numbers: Floats  # certainty, and the exponent of the curve


def known_arrays(known: Knowledge) -> KnownArrays:
    """Write what is known into arrays."""
    psfs, shares = np.zeros((_MOST, LARGEST, LARGEST), np.float32), np.zeros(_MOST, np.float32)
    for k, (share, blur) in enumerate(known.blurs()):
        psf = blur.psf()
        start = (LARGEST - len(psf)) // 2
        psfs[k, start : start + len(psf), start : start + len(psf)] = psf
        shares[k] = share
    numbers = [_UNKNOWN if known.unknown else known.certainty, known.gamma]
    return KnownArrays(psfs, shares, np.array(numbers, np.float32))


def filtered_and_maps(images: Tensor, known: KnownArrays) -> Tensor:
    """Filter images in [0, 1] and add the maps, as `KnownBlur.describe` does.

    ``(B, 3, Y + 2 * REACH, X + 2 * REACH)`` gives ``(B, 6, Y, X)``; `known` are tensors.
    """
    arrays = [part.cpu().numpy() for part in (images, *map(torch.as_tensor, known))]
    made = list(_threads().map(_filters, *arrays))
    kernels, maps, photo = (
        send(torch.from_numpy(np.stack(part)), images.device) for part in zip(*made, strict=True)
    )
    filtered = _convolved(images, kernels[:, 0])
    lit = _convolved(_light(images), kernels[:, 1])
    bright = filtered.clamp(0, 1) ** blur_filter._TAKEOVER
    share = bright / (bright + blur_filter._EVEN**blur_filter._TAKEOVER)
    share = share * photo[:, None, None, None]
    filtered = filtered + share * (_light(lit.clamp_min(0), 1 / GAMMA) - filtered)
    constants = maps[:, :, None, None].expand(-1, -1, *filtered.shape[2:])
    return torch.cat([filtered, constants], dim=1)


def _filters(
    image: Floats, psfs: Floats, shares: Floats, numbers: Floats
) -> tuple[Floats, Floats, Floats]:
    """Make the filters of the intensities and of the light, the maps, and whether it is a photo."""
    candidates = tuple((float(p), k) for p, k in zip(shares, psfs, strict=True) if p > 0)
    certainty, gamma = map(float, numbers)
    known = Knowledge(candidates, certainty, gamma, certainty == _UNKNOWN).of(image)
    kernels = np.zeros((2, _SIDE, _SIDE), np.float32)
    kernels[:, REACH, REACH] = 1
    if known.changes:
        made = known.kernels()
        kernels[: len(made)] = made
    return kernels, known.maps(), np.float32(known.power.gamma != 1)  # type: ignore[return-value]


@lru_cache(maxsize=1)
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="filters")


def _light(images: Tensor, gamma: float = GAMMA) -> Tensor:
    light: Tensor = images.sign() * images.abs() ** gamma
    return light


def _convolved(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve every image with its own kernel, and cut off what wraps around."""
    size = [next_fast_len(n, real=True) for n in images.shape[2:]]
    transform = torch.fft.rfft2(kernels, s=size)[:, None]
    convolved: Tensor = torch.fft.irfft2(torch.fft.rfft2(images, s=size) * transform, s=size)
    height, width = images.shape[2:]
    return convolved[..., 2 * REACH : height, 2 * REACH : width]
