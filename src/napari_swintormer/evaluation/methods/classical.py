"""What a user could do without a network: the classical methods of scikit-image.

Every method takes an image ``(Y, X)`` or ``(Y, X, S)`` and its axes and returns the same shape and
data type, like `napari_swintormer.deblur`. Channels are worked on one by one, in unit intensity
(minimum of the image 0, maximum 1), and padded by reflection so that the Fourier methods do not
wrap around. Those of `BASELINES` do not know the blur: they assume a Gaussian. Those of `WITH_PSF`
are told it, and are bounds more than methods. scikit-image loads on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Method = Callable[[NDArray[Any], str], NDArray[Any]]

PADDING = 24  # pixels; more than twice the reach of the widest PSF used here
SIGMA = 1.6  # pixels, the guess for images whose blur nobody measured
ITERATIONS = 10
BALANCE = 0.01
ORACLE_SIGMAS = (0.8, 1.2, 1.6, 2.4)


def gaussian_psf(sigma: float) -> NDArray[np.float32]:
    """Gaussian point-spread function, cut at 4 σ, of sum 1; shape ``(2r + 1, 2r + 1)``."""
    reach = int(np.ceil(4 * sigma))
    profile = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    psf = np.outer(profile, profile)
    return np.asarray(psf / psf.sum(), dtype=np.float32)


def richardson_lucy(
    image: NDArray[Any], axes: str, *, sigma: float = SIGMA, iterations: int = ITERATIONS
) -> NDArray[Any]:
    """Richardson–Lucy deconvolution with a Gaussian of `sigma` pixels."""
    from skimage import restoration

    psf = gaussian_psf(sigma)
    return _per_channel(
        image,
        axes,
        lambda plane: restoration.richardson_lucy(plane, psf, num_iter=iterations, clip=False),
    )


def unsupervised_wiener(image: NDArray[Any], axes: str, *, sigma: float = SIGMA) -> NDArray[Any]:
    """Wiener deconvolution that estimates noise and signal itself, Gaussian of `sigma` pixels."""
    from skimage import restoration

    psf = gaussian_psf(sigma)
    return _per_channel(
        image,
        axes,
        lambda plane: restoration.unsupervised_wiener(plane, psf, clip=False, rng=0)[0],
    )


def unsharp_mask(image: NDArray[Any], axes: str, *, sigma: float = SIGMA) -> NDArray[Any]:
    """Unsharp mask of amount 1: the image plus what a Gaussian of `sigma` pixels takes away."""
    from skimage import filters

    return _per_channel(
        image,
        axes,
        lambda plane: filters.unsharp_mask(plane, radius=sigma, amount=1, preserve_range=True),
    )


def wiener_psf(
    image: NDArray[Any],
    axes: str,
    psf: NDArray[Any],
    *,
    gamma: float = 1.0,
    balance: float = BALANCE,
) -> NDArray[Any]:
    """Wiener deconvolution with the true PSF.

    Parameters
    ----------
    image, axes
        As everywhere here.
    psf
        ``(h, w)`` of sum 1.
    gamma
        Light is ``image ** gamma``, of the whole range of the data type: blur happens there.
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
    """Richardson-Lucy deconvolution with the true PSF; parameters as of `wiener_psf`."""
    from skimage import restoration

    def deconvolve(plane: NDArray[np.float32]) -> NDArray[Any]:
        restored: NDArray[Any] = restoration.richardson_lucy(plane, psf, iterations, clip=False)
        return restored

    return _per_channel(image, axes, deconvolve, max(PADDING, *psf.shape), gamma)


BASELINES: dict[str, Method] = {
    "richardson-lucy": richardson_lucy,
    "wiener": unsupervised_wiener,
    "unsharp-mask": unsharp_mask,
}
WITH_PSF: dict[str, Callable[..., NDArray[Any]]] = {
    "wiener-psf": wiener_psf,
    "richardson-lucy-psf": richardson_lucy_psf,
}


def _per_channel(
    image: NDArray[Any],
    axes: str,
    deconvolve: Callable[[NDArray[np.float32]], NDArray[Any]],
    padding: int = PADDING,
    gamma: float = 1.0,
) -> NDArray[Any]:
    """Run a method on every channel of an image, in unit intensity, and go back exactly."""
    if gamma != 1:  # black and white of the data type: light has no other zero
        low, high = 0.0, float(np.iinfo(image.dtype).max) if image.dtype.kind in "iu" else 1.0
    else:
        low, high = float(image.min()), float(image.max())
    gain = high - low if high > low else 1.0
    planes = np.moveaxis(image, axes.index("S"), 0) if "S" in axes else image[None]
    inside = slice(padding, -padding)
    restored = np.stack(
        [
            deconvolve(np.pad(plane, padding, mode="reflect"))[inside, inside]
            for plane in (((planes - low) / gain) ** gamma).astype(np.float32)
        ]
    )
    if gamma != 1:
        restored = np.maximum(restored, 0) ** (1 / gamma)
    back = restored.astype(np.float64) * gain + low
    if np.issubdtype(image.dtype, np.integer):
        limits = np.iinfo(image.dtype)
        back = np.clip(np.rint(back), limits.min, limits.max)
    back = back.astype(image.dtype)
    return np.moveaxis(back, 0, axes.index("S")) if "S" in axes else back[0]
