"""Classical methods of scikit-image: what a user can do without a network.

Each takes an image ``(Y, X)`` or ``(Y, X, S)`` and its axes, and returns the same shape and data
type. Channels are restored one by one in unit intensity (the image's minimum is 0, its maximum 1).
They are padded by reflection, so that Fourier methods do not wrap around. The methods of
`BASELINES` assume a Gaussian blur. Those of `WITH_PSF` get the true point-spread function, which no
user has: they are bounds. scikit-image loads on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Method = Callable[..., NDArray[Any]]
PlaneMethod = Callable[[NDArray[np.float32]], NDArray[Any]]

PADDING = 24  # pixels, at least; more than twice the reach of the widest Gaussian used here
SIGMA = 1.6  # pixels, a guess for images of unknown blur
ITERATIONS = 10
BALANCE = 0.01
ORACLE_SIGMAS = (0.8, 1.2, 1.6, 2.4)
"""Sigmas in pixels that the methods of the best σ choose from."""


def gaussian_psf(sigma: float) -> NDArray[np.float32]:
    """Gaussian point-spread function of sum 1, cut at 4 σ; shape ``(2r + 1, 2r + 1)``."""
    reach = int(np.ceil(4 * sigma))
    profile = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    psf = np.outer(profile, profile)
    return np.asarray(psf / psf.sum(), dtype=np.float32)


def richardson_lucy(
    image: NDArray[Any], axes: str, *, sigma: float = SIGMA, iterations: int = ITERATIONS
) -> NDArray[Any]:
    """Richardson-Lucy deconvolution with a Gaussian of `sigma` pixels."""
    return _per_channel(image, axes, _richardson_lucy(gaussian_psf(sigma), iterations))


def unsupervised_wiener(image: NDArray[Any], axes: str, *, sigma: float = SIGMA) -> NDArray[Any]:
    """Wiener deconvolution with a Gaussian of `sigma` pixels; estimates noise and signal itself."""
    from skimage import restoration

    psf = gaussian_psf(sigma)

    def deconvolve(plane: NDArray[np.float32]) -> NDArray[Any]:
        restored: NDArray[Any] = restoration.unsupervised_wiener(plane, psf, clip=False, rng=0)[0]
        return restored

    return _per_channel(image, axes, deconvolve)


def unsharp_mask(image: NDArray[Any], axes: str, *, sigma: float = SIGMA) -> NDArray[Any]:
    """Unsharp mask of amount 1: adds the detail that a Gaussian of `sigma` pixels removes."""
    from skimage import filters

    def sharpen(plane: NDArray[np.float32]) -> NDArray[Any]:
        sharpened: NDArray[Any] = filters.unsharp_mask(
            plane, radius=sigma, amount=1, preserve_range=True
        )
        return sharpened

    return _per_channel(image, axes, sharpen)


def wiener_psf(
    image: NDArray[Any],
    axes: str,
    psf: NDArray[Any],
    *,
    gamma: float = 1.0,
    balance: float = BALANCE,
) -> NDArray[Any]:
    """Wiener deconvolution with the true point-spread function.

    Parameters
    ----------
    image, axes
        The same as for the other methods.
    psf
        ``(h, w)`` of sum 1.
    gamma
        The image was blurred as light, ``image ** gamma`` over the range of its data type.
    balance
        Weight of smoothness.
    """
    from skimage import restoration

    def deconvolve(plane: NDArray[np.float32]) -> NDArray[Any]:
        restored: NDArray[Any] = restoration.wiener(plane, psf, balance, clip=False)
        return restored

    return _per_channel(image, axes, deconvolve, max(PADDING, *psf.shape), gamma)


def richardson_lucy_psf(
    image: NDArray[Any],
    axes: str,
    psf: NDArray[Any],
    *,
    gamma: float = 1.0,
    iterations: int = ITERATIONS,
) -> NDArray[Any]:
    """Richardson-Lucy deconvolution with the true PSF; takes the parameters of `wiener_psf`."""
    deconvolve = _richardson_lucy(psf, iterations)
    return _per_channel(image, axes, deconvolve, max(PADDING, *psf.shape), gamma)


BASELINES: dict[str, Method] = {
    "richardson-lucy": richardson_lucy,
    "wiener": unsupervised_wiener,
    "unsharp-mask": unsharp_mask,
}
WITH_PSF: dict[str, Method] = {
    "wiener-psf": wiener_psf,
    "richardson-lucy-psf": richardson_lucy_psf,
}


def _richardson_lucy(psf: NDArray[Any], iterations: int) -> PlaneMethod:
    from skimage import restoration

    return lambda plane: restoration.richardson_lucy(plane, psf, iterations, clip=False)


def _per_channel(
    image: NDArray[Any],
    axes: str,
    restore: PlaneMethod,
    padding: int = PADDING,
    gamma: float = 1.0,
) -> NDArray[Any]:
    """Restore every channel of an image in unit intensity, and go back to its units."""
    if gamma != 1:  # light has its zero at the data type's black
        low, high = 0.0, float(np.iinfo(image.dtype).max) if image.dtype.kind in "iu" else 1.0
    else:
        low, high = float(image.min()), float(image.max())
    gain = high - low if high > low else 1.0
    planes = np.moveaxis(image, axes.index("S"), 0) if "S" in axes else image[None]
    light = (((planes - low) / gain) ** gamma).astype(np.float32)
    inside = slice(padding, -padding)
    padded = (np.pad(plane, padding, mode="reflect") for plane in light)
    restored = np.stack([restore(plane)[inside, inside] for plane in padded])
    if gamma != 1:
        restored = np.maximum(restored, 0) ** (1 / gamma)
    back = restored.astype(np.float64) * gain + low
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        back = np.clip(np.rint(back), limits.min, limits.max)
    back = back.astype(image.dtype)
    return np.moveaxis(back, 0, axes.index("S")) if "S" in axes else back[0]
