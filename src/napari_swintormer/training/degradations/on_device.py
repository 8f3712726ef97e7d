"""Degradations with operations of the device, for whole batches, so that a GPU is fed.

`draw_raw` is the part of the CPU: it draws the kernels and the camera of a patch as the other
modules here do, and blurs nothing. `develop` is the part of the device. Without noise both together
give the patches of the CPU.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (its usual name)
from scipy.fft import next_fast_len
from torch import Tensor

from napari_swintormer.models.transfer import send
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.training.degradations import camera as cameras
from napari_swintormer.training.degradations.camera import MARGIN, Camera
from napari_swintormer.training.degradations.jpeg_on_device import through_jpeg
from napari_swintormer.training.degradations.known_blur import KnownBlur
from napari_swintormer.training.degradations.known_filter import (
    KnownArrays,
    filtered_and_maps,
    known_arrays,
)
from napari_swintormer.training.degradations.primitives import crop, smooth_mask
from napari_swintormer.training.degradations.simple import Degradation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_swintormer.training.degradations.primitives import FloatArray, Rng
    from napari_swintormer.training.degradations.realistic import Recording

HALF = 32
"""Pixels from the middle of a kernel to its border; larger ones are cut."""


class _Numbers(NamedTuple):
    """One number each for a patch, or a column of a batch."""

    gamma: Any
    read: Any
    shot: Any
    noise_width: Any
    normalized: Any
    in_light: Any  # whether the noise is that of light, before the curve
    mosaic: Any
    mosaic_top: Any
    mosaic_left: Any
    sharpening: Any
    sharpening_width: Any
    levels: Any  # 0 for none
    quality: Any  # 0 for another format than JPEG
    block_top: Any
    block_left: Any
    low: Any
    high: Any
    grey: Any
    unblurred: Any


class RawPatch(NamedTuple):
    """A sharp patch and how it is degraded; or a batch of them, with one axis more."""

    sharp: Any  # (3, N, N) float32, `raw_margin` pixels wider on every side
    kernels: Any  # (2, 2 * HALF + 1, 2 * HALF + 1) float32, blended along the mask
    mask: Any  # (N - 2 * HALF, N - 2 * HALF) float32
    numbers: Any  # float32, as in `_Numbers`
    # of a known blur, see `KnownArrays`; one value of no meaning without
    psfs: Any
    shares: Any
    known: Any


def raw_margin(*, known: bool) -> int:
    """Return how many pixels around a patch are needed, whatever its blur and camera."""
    return HALF + MARGIN + (REACH if known else 0)


def draw_raw(
    degradation: Degradation | Recording | KnownBlur,
    sharp: FloatArray,
    ends: tuple[float, float],
    rng: Rng,
) -> RawPatch:
    """Draw all that is left to draw of a degradation but the noise.

    `sharp` is ``(C, N, N)``, `ends` are the intensities that become 0 and 1.
    """
    recording = degradation.recording if isinstance(degradation, KnownBlur) else degradation
    side = sharp.shape[1] - 2 * HALF
    mask = np.ones((side, side), np.float32)
    offset = MARGIN, MARGIN
    if isinstance(recording, Degradation):
        kernels: Sequence[FloatArray] = recording.psfs
        camera = Camera(
            recording.gamma,
            recording.noise,
            levels=recording.levels,
            jpeg_quality=recording.jpeg_quality,
        )
        if len(kernels) > 1:
            mask = np.pad(smooth_mask((side - 2 * MARGIN,) * 2, rng), MARGIN, "edge")
    else:
        kernels = recording.optics.kernels if recording.optics is not None else ()
        assert kernels or recording.optics is None, "only a bank of kernels works on a device"
        camera = recording.camera
        if len(kernels) > 1:
            mask = smooth_mask((side, side), rng)
    mosaic = camera.mosaic and len(sharp) == 3
    places = rng.integers(2, size=2) if mosaic else (0, 0)
    if camera.jpeg_quality is not None and not isinstance(recording, Degradation):
        offset = tuple(rng.integers(MARGIN, size=2))
    noise = camera.noise
    numbers = _Numbers._make(
        (
            *(camera.gamma, noise.read, noise.shot, noise.width, noise.normalized),
            not isinstance(recording, Degradation),
            *(mosaic, *places, camera.sharpening, camera.sharpening_width),
            *(camera.levels or 0, camera.jpeg_quality or 0, *offset, *ends),
            *(len(sharp) == 1, not kernels),
        )
    )
    bank = np.zeros((2, 2 * HALF + 1, 2 * HALF + 1), np.float32)
    for slot, kernel in zip(bank, kernels or [np.ones((1, 1), np.float32)], strict=False):
        slot[...] = _in_bank(kernel)
    empty = np.zeros(1, np.float32)
    known = KnownArrays(empty, empty, empty)
    if isinstance(degradation, KnownBlur):
        known = known_arrays(degradation.known)
    whole = np.broadcast_to(sharp, (3, *sharp.shape[1:])).astype(np.float32)
    return RawPatch(whole, bank, mask, np.array(numbers, np.float32), *known)


def _in_bank(kernel: FloatArray) -> FloatArray:
    """Put a kernel into the middle of a square of the bank's size."""
    cut = crop(kernel, max(0, len(kernel) // 2 - HALF))
    padded: NDArray[np.float32] = np.pad(cut * (kernel.sum() / cut.sum()), HALF - len(cut) // 2)
    return padded


def develop(raw: RawPatch, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Degrade a batch, and give what a network takes and what it aims at.

    Parameters
    ----------
    raw
        Tensors on the device.
    noise
        White noise of variance 1, as large as the sharp patches; the middle of it is used.

    Returns
    -------
    blurred, sharp
        As `PatchSampler.draw` returns them, for a batch.
    """
    n = _Numbers(*(column[:, None, None, None] for column in raw.numbers.T))
    light = _blurred(_power(raw.sharp, n.gamma), raw)
    noise = noise[..., HALF:-HALF, HALF:-HALF]
    noise = torch.where(n.grey > 0, noise[:, :1], noise)
    smooth = _smoothed(noise, n.noise_width)
    deviation = smooth.flatten(1).std(dim=1, correction=0)[:, None, None, None]
    smooth = smooth / torch.where((n.normalized > 0) & (n.noise_width > 0), deviation, 1.0)
    light = light + n.in_light * _deviation(light, n) * smooth
    image = _power(torch.where(n.mosaic > 0, _through_mosaic(light, n), light), 1 / n.gamma)
    image = image + (1 - n.in_light) * _deviation(image, n) * smooth
    image = image + n.sharpening * (image - _smoothed(image, n.sharpening_width))
    image = torch.where(n.quality > 0, _through_jpeg(image, n), image)
    steps = (n.levels - 1).clamp_min(1)
    rounded = (image.clamp(0, 1) * steps).round() / steps
    image = torch.where((n.levels > 0) & (n.quality == 0), rounded, image)

    image = image[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    border = HALF + MARGIN
    target = torch.where(n.unblurred > 0, image, raw.sharp[..., border:-border, border:-border])
    image, target = ((x - n.low) / (n.high - n.low) for x in (image, target))
    clipped = image.clamp(0, 1)
    target = target - (image - clipped)
    if raw.psfs.ndim < 4:  # no known blur
        return clipped, target
    described = filtered_and_maps(clipped, KnownArrays(*raw[4:]))
    inside = (..., slice(REACH, -REACH), slice(REACH, -REACH))
    return torch.cat([clipped[inside], described], dim=1), target[inside]


def draw_noise(raw: RawPatch, seed: int, step: int, first: int) -> Tensor:
    """Draw the noise of a batch on its device; `first` is the number of its first patch."""
    number = np.random.SeedSequence((seed, step, first)).generate_state(1)[0]
    generator = torch.Generator(raw.sharp.device).manual_seed(int(number))
    return torch.randn(raw.sharp.shape, generator=generator, device=raw.sharp.device)


def _power(images: Tensor, exponent: Tensor) -> Tensor:
    powered: Tensor = images.sign() * images.abs() ** exponent
    return powered


def _blurred(light: Tensor, raw: RawPatch) -> Tensor:
    """Convolve every patch with both of its kernels, and blend along its mask."""
    height, width = light.shape[2:]
    size = [next_fast_len(side, real=True) for side in (height, width)]
    spectrum = torch.fft.rfft2(light, s=size)
    # a kernel begins at the origin, so the result lies HALF pixels further down and right
    inside = (..., slice(2 * HALF, height), slice(2 * HALF, width))
    parts = [
        torch.fft.irfft2(spectrum * torch.fft.rfft2(kernel, s=size)[:, None], s=size)[inside]
        for kernel in raw.kernels.unbind(1)
    ]
    mask: Tensor = raw.mask[:, None]
    blended: Tensor = mask * parts[0] + (1 - mask) * parts[1]
    return blended


def _deviation(image: Tensor, n: _Numbers) -> Tensor:
    variance: Tensor = n.read**2 + n.shot * image.clamp(0, 1)
    return variance.sqrt()


def _smoothed(images: Tensor, width: Tensor) -> Tensor:
    """Smooth by a Gaussian that ends after four widths, as scipy does; borders wrap around."""
    taps = torch.arange(8, device=images.device)
    heights = torch.exp(-0.5 * (taps / width.flatten()[:, None].clamp_min(1e-3)) ** 2)
    heights = torch.where(taps <= (4 * width.flatten()[:, None] + 0.5).floor(), heights, 0.0)
    heights = heights / (2 * heights.sum(dim=1, keepdim=True) - heights[:, :1])
    spectrum = torch.fft.rfft2(images)
    places = (torch.fft.fftfreq(images.shape[2]), torch.fft.rfftfreq(images.shape[3]))
    for frequencies, axis in zip(places, (2, 3), strict=True):
        waves = torch.cos(2 * np.pi * taps[:, None] * send(frequencies, images.device))
        gains = 2 * heights @ waves - heights[:, :1]
        spectrum = (
            spectrum * gains[:, None, :, None] if axis == 2 else spectrum * gains[:, None, None]
        )
    smooth: Tensor = torch.fft.irfft2(spectrum, s=images.shape[2:])
    return smooth


def _through_mosaic(light: Tensor, n: _Numbers) -> Tensor:
    """Keep one colour of each pixel, as `camera.through_mosaic` does."""
    y, x = (torch.arange(side, device=light.device) % 2 for side in light.shape[2:])
    rows = y[:, None] == n.mosaic_top
    columns = x == n.mosaic_left
    masks = torch.cat([rows & columns, rows != columns, ~rows & ~columns], dim=1)
    filters = np.stack([cameras._SQUARE, cameras._CROSS, cameras._SQUARE])[:, None]
    padded = F.pad(light * masks, (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, send(torch.from_numpy(filters), light.device), groups=3)


def _through_jpeg(image: Tensor, n: _Numbers) -> Tensor:
    """Save as JPEG, with blocks that begin at the offset of each patch."""
    height, width = image.shape[2:]
    y, x = (torch.arange(side, device=image.device) for side in (height, width))
    rows = ((y[:, None] + n.block_top.long()) % height).expand_as(image)
    columns = ((x + n.block_left.long()) % width).expand_as(image)
    moved = image.gather(2, rows).gather(3, columns)
    read = through_jpeg(moved, n.quality.flatten().clamp_min(1))
    rows = ((y[:, None] - n.block_top.long()) % height).expand_as(image)
    columns = ((x - n.block_left.long()) % width).expand_as(image)
    return read.gather(2, rows).gather(3, columns)
