"""Classical methods of scikit-image: what a user can do without a network.

Each takes an image ``(Y, X)`` or ``(Y, X, S)`` and its axes, and returns the same shape and data
type. Channels are restored one by one in unit intensity (the image's minimum is 0, its maximum 1).
They are padded by reflection, so that Fourier methods do not wrap around. The methods of
`BASELINES` assume a Gaussian blur. Those of `WITH_PSF` get the true point-spread function, which no
user has: they are bounds. scikit-image loads on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_swintormer.evaluation.data.pair_images import to_dtype

Method = Callable[..., NDArray[Any]]
PlaneMethod = Callable[[NDArray[np.float32]], NDArray[Any]]

PADDING = 24  # pixels, at least; more than twice the reach of the widest Gaussian used here
SIGMA = 1.6  # pixels, a guess for images of unknown blur
ITERATIONS = 10
BALANCE = 0.01
ORACLE_SIGMAS = (0.8, 1.2, 1.6, 2.4)  # pixels, the choice of the methods with the best σ


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
    from skimage.restoration import unsupervised_wiener as wiener

    psf = gaussian_psf(sigma)
    return _per_channel(image, axes, lambda plane: wiener(plane, psf, clip=False, rng=0)[0])


def unsharp_mask(image: NDArray[Any], axes: str, *, sigma: float = SIGMA) -> NDArray[Any]:
    """Unsharp mask of amount 1: adds the detail that a Gaussian of `sigma` pixels removes."""
    from skimage.filters import unsharp_mask as sharpen

    options = {"radius": sigma, "amount": 1, "preserve_range": True}
    return _per_channel(image, axes, lambda plane: sharpen(plane, **options))


def wiener_psf(
    image: NDArray[Any],
    axes: str,
    psf: NDArray[Any],
    *,
    gamma: float = 1.0,
    balance: float = BALANCE,
) -> NDArray[Any]:
    """Wiener deconvolution with the true point-spread function, ``(h, w)`` of sum 1.

    The image was blurred as light, ``image ** gamma`` over the range of its data type. `balance` is
    the weight of smoothness.
    """
    from skimage.restoration import wiener

    padding = max(PADDING, *psf.shape)
    deconvolve = partial(wiener, psf=psf, balance=balance, clip=False)
    return _per_channel(image, axes, deconvolve, padding, gamma)


def richardson_lucy_psf(
    image: NDArray[Any],
    axes: str,
    psf: NDArray[Any],
    *,
    gamma: float = 1.0,
    iterations: int = ITERATIONS,
) -> NDArray[Any]:
    """Richardson-Lucy deconvolution with the true PSF; takes the parameters of `wiener_psf`."""
    padding = max(PADDING, *psf.shape)
    return _per_channel(image, axes, _richardson_lucy(psf, iterations), padding, gamma)


BASELINES: dict[str, Method] = {
    "richardson-lucy": richardson_lucy,
    "wiener": unsupervised_wiener,
    "unsharp-mask": unsharp_mask,
}
WITH_PSF: dict[str, Method] = {
    "wiener-psf": wiener_psf,
    "richardson-lucy-psf": richardson_lucy_psf,
}

OPTIONS: dict[str, dict[str, type]] = {
    "richardson-lucy": {"sigma": float, "iterations": int},
    "wiener": {"sigma": float},
    "unsharp-mask": {"sigma": float},
    "wiener-psf": {"balance": float},
    "richardson-lucy-psf": {"iterations": int},
}
"""Options that a user can set, with their types."""


def _richardson_lucy(psf: NDArray[Any], iterations: int) -> PlaneMethod:
    from skimage.restoration import richardson_lucy

    return partial(richardson_lucy, psf=psf, num_iter=iterations, clip=False)


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
    back = to_dtype(restored.astype(np.float64) * gain + low, image.dtype)
    return np.moveaxis(back, 0, axes.index("S")) if "S" in axes else back[0]
