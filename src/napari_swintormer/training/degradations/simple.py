"""What a simple defocus, a camera and a file format do to a sharp image.

A degradation is drawn first and applied after, so that the patch can be cut with the margin that
its blur reaches: nothing wraps around and nothing is invented at the border. The mixture was
found by experiment to decide how a model behaves on real images: a model that never saw an
unblurred, a partly sharp or a dark patch invents damage there.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image
from scipy import fft, ndimage, special

from napari_swintormer.optics import psf

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

Kind = Literal["photo", "microscopy"]
"""How intensities relate to light: a photo is encoded by a gamma curve, microscopy is linear."""

# Shares of the training patches; the rest of each choice follows from them.
UNBLURRED = 0.15
_VARYING = 0.35
_PARTLY_SHARP = 0.5  # of the varying
_NOISELESS = 0.25
_STRONG_NOISE = 0.15
_CORRELATED_NOISE = 0.3
_SAVED_AS_JPEG = 0.35  # of the photos; as many again are rounded to 8 bits only
_DARK = 0.1


@dataclass(frozen=True)
class Degradation:
    """One way of degrading a patch, drawn at random but for its noise pattern.

    Attributes
    ----------
    psfs
        Blurs that are blended along smooth random masks; a single one blurs evenly, none
        leaves the patch sharp. A PSF of one pixel is the sharp part of a blend.
    gamma
        Exponent of the intensity curve: light is ``image ** gamma``; 1 for linear images.
    read_noise, shot_noise
        Standard deviation of the camera's noise and the factor of the variance that grows with
        the intensity, both relative to the unit range.
    noise_width
        Standard deviation in pixels of the Gaussian that demosaicing and resampling smoothed the
        noise with, 0 for none; its strength is what it was before.
    levels
        Number of grey levels of the file, or None for a file that rounds nothing.
    jpeg_quality
        Quality of the JPEG that the image was saved as, or None.
    """

    psfs: tuple[FloatArray, ...] = ()
    gamma: float = 1.0
    read_noise: float = 0.0
    shot_noise: float = 0.0
    noise_width: float = 0.0
    levels: int | None = None
    jpeg_quality: int | None = None

    @property
    def margin(self) -> int:
        """Pixels around a patch that its blur reaches."""
        return max((len(p) // 2 for p in self.psfs), default=0)

    def degrade(self, sharp: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Degrade a patch as `apply` does; return it and what a network is to make of it.

        A patch without blur is to stay as it is, noise and all: sharp images are left alone.
        """
        blurred = self.apply(sharp, rng)
        height, width = sharp.shape[1:]
        inner = sharp[:, self.margin : height - self.margin, self.margin : width - self.margin]
        return blurred, inner if self.psfs else blurred

    def apply(self, sharp: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Degrade a patch.

        Parameters
        ----------
        sharp
            ``(C, Y + 2 * margin, X + 2 * margin)`` in unit range; values outside are possible.
        rng
            Draws masks and noise.

        Returns
        -------
        array
            ``(C, Y, X)``, the degraded middle of `sharp`.
        """
        light = to_light(sharp, self.gamma) if self.psfs else sharp
        blurred = [blur(light, p, self.margin) for p in self.psfs]
        if len(blurred) > 1:
            mask = smooth_mask(blurred[0].shape[1:], rng)
            blurred[0] = mask * blurred[0] + (1 - mask) * blurred[1]
        image = from_light(blurred[0], self.gamma) if blurred else sharp
        if self.read_noise or self.shot_noise:
            variance = self.read_noise**2 + self.shot_noise * np.clip(image, 0, 1)
            noise = rng.standard_normal(image.shape, dtype=np.float32)
            if self.noise_width:
                noise = ndimage.gaussian_filter(noise, self.noise_width, axes=(1, 2), mode="wrap")
            image = image + np.sqrt(variance, dtype=np.float32) * noise
        if self.jpeg_quality is not None:
            image = through_jpeg(image, self.jpeg_quality)
        elif self.levels is not None:
            image = np.round(np.clip(image, 0, 1) * (self.levels - 1)) / np.float32(self.levels - 1)
        return image.astype(np.float32, copy=False)


def draw_defocus(kind: Kind, rng: np.random.Generator, unblurred: float = UNBLURRED) -> Degradation:
    """Draw a defocus blur, noise and file format from the mixture that models train on.

    Parameters
    ----------
    kind
        Decides the intensity curve, the optics and the file formats.
    rng
        Draws everything.
    unblurred
        Share of patches that stay sharp.
    """
    psfs: tuple[FloatArray, ...] = ()
    if rng.random() >= unblurred:
        radius = draw_radius(rng)
        psfs = (draw_psf(kind, radius, rng),)
        if rng.random() < _VARYING:
            partly_sharp = rng.random() < _PARTLY_SHARP
            other = 0.0 if partly_sharp else min(radius * rng.uniform(0.4, 2.2), 7.0)
            psfs += (draw_psf(kind, other, rng),)
    read_noise = shot_noise = 0.0
    if rng.random() >= _NOISELESS:
        strongest = 0.03 if rng.random() < _STRONG_NOISE else 0.006
        read_noise = rng.uniform(0, strongest)
        shot_noise = rng.uniform(0, strongest) ** 2
    noise_width = rng.uniform(0.4, 0.9) if rng.random() < _CORRELATED_NOISE else 0.0
    levels, jpeg_quality = None, None
    if kind == "photo":
        saved = rng.random()
        if saved < _SAVED_AS_JPEG:
            jpeg_quality = int(rng.integers(80, 99))
        elif saved < 2 * _SAVED_AS_JPEG:
            levels = 256
    gamma = rng.uniform(1.8, 2.6) if kind == "photo" else 1.0
    return Degradation(psfs, gamma, read_noise, shot_noise, noise_width, levels, jpeg_quality)


def draw_radius(rng: np.random.Generator) -> float:
    """Draw a radius in pixels: slight (0.5 to 1.5), mostly moderate (to 4), a tail up to 7.

    Wider blur can hardly be restored; a larger share of it drowns the rest in the loss.
    """
    share = rng.random()
    if share < 0.3:
        return float(rng.uniform(0.5, 1.5))
    if share < 0.88:
        return float(rng.uniform(1.5, 4.0))
    return float(rng.uniform(4.0, 7.0))


def draw_psf(kind: Kind, radius: float, rng: np.random.Generator) -> FloatArray:
    """Draw the shape of a blur of `radius` pixels; radius 0 is the single pixel of no blur."""
    if radius == 0:
        return np.ones((1, 1), np.float32)
    family = rng.random()
    if family < (0.45 if kind == "microscopy" else 0.2):
        drawn = psf.defocus(
            radius,
            cutoff=rng.uniform(0.35, 1.0),
            spherical=rng.normal(0, 0.06),
            astigmatism=rng.normal(0, 0.06),
            axis=rng.uniform(0, math.pi),
        )
    elif family < 0.65:
        drawn = psf.gaussian(radius)
    elif family < 0.82:
        drawn = psf.disk(radius)
    else:
        drawn = psf.polygon(radius, int(rng.integers(5, 9)), rng.uniform(0, 2 * math.pi))
    if rng.random() < (0.4 if kind == "microscopy" else 0.2):
        drawn = psf.with_halo(drawn, rng.uniform(0.1, 0.5), radius * rng.uniform(0.7, 1.6))
    return drawn


def to_light(image: FloatArray, gamma: float) -> FloatArray:
    """Undo the intensity curve; negative values keep their sign, so that the way back is exact."""
    return image if gamma == 1 else np.sign(image) * np.abs(image) ** np.float32(gamma)


def from_light(light: FloatArray, gamma: float) -> FloatArray:
    """Inverse of `to_light`."""
    return to_light(light, 1 / gamma)


def blur(image: FloatArray, kernel: FloatArray, margin: int) -> FloatArray:
    """Convolve ``(C, Y, X)`` with an odd square kernel and cut `margin` pixels off every side.

    `margin` is at least half the kernel, so that no pixel of the result saw the border.
    """
    half = len(kernel) // 2
    # With the kernel at the origin the result lies `half` further down and right, and what wraps
    # around a circular convolution of the image's own size stays within the margin.
    shape = [fft.next_fast_len(n, real=True) for n in image.shape[1:]]
    spectrum = fft.rfft2(image, shape, axes=(1, 2)) * fft.rfft2(kernel, shape)
    rows, columns = (slice(margin + half, n - margin + half) for n in image.shape[1:])
    convolved: FloatArray = fft.irfft2(spectrum, shape, axes=(1, 2))[:, rows, columns]
    return convolved


def smooth_mask(shape: tuple[int, ...], rng: np.random.Generator) -> FloatArray:
    """Random smooth mask ``(Y, X)`` in [0, 1]: from gentle slopes to clear borders of a layer."""
    coarse = rng.standard_normal((rng.integers(3, 7),) * 2)
    smooth = ndimage.zoom(
        coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=3
    )
    steepness = math.exp(rng.uniform(math.log(1.5), math.log(20)))
    mask: FloatArray = special.expit(steepness * (smooth - rng.normal(0, 0.4))).astype(np.float32)
    return mask


def through_jpeg(image: FloatArray, quality: int) -> FloatArray:
    """Save a unit-range ``(C, Y, X)`` image, of 1 or 3 channels, as JPEG and read it back."""
    pixels = np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    read: FloatArray = np.atleast_3d(np.asarray(Image.open(buffer), np.float32)) / np.float32(255)
    return np.moveaxis(read, 2, 0)


def draw_range(rng: np.random.Generator) -> tuple[float, float]:
    """Draw the intensities that become 0 and 1, in units of the sharp image's own range.

    At inference the range is measured on the blurred image: blur lowers the brightest spots,
    a single hot pixel leaves everything else dark.
    """
    low = rng.uniform(-0.06, 0.04)
    high = rng.uniform(1.5, 5.0) if rng.random() < _DARK else rng.uniform(0.75, 1.15)
    return low, high
