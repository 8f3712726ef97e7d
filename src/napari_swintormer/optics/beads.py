"""A measured point-spread function: the mean of the beads in a stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_swintormer.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SIGMAS = 8  # a bead rises above the background by this many standard deviations of the noise
_NEIGHBOUR = 0.2  # a bead counts as alone if nothing else around it is brighter than this share
_CORE = 2  # voxels from the brightest one, for the centre of mass


@dataclass(frozen=True)
class MeasuredPSF:
    """A PSF that was measured on beads.

    Attributes
    ----------
    psf
        ``(Z, Y, X)`` float32, odd, not negative, of sum 1, centred in the middle voxel.
    beads
        Number of beads that were averaged.
    """

    psf: NDArray[np.float32]
    beads: int

    def widths(self) -> tuple[float, float]:
        """Full widths at half maximum along Z and in the plane, in voxels."""
        middle = tuple(n // 2 for n in self.psf.shape)
        z = _width(self.psf[:, middle[1], middle[2]])
        y, x = _width(self.psf[middle[0], :, middle[2]]), _width(self.psf[middle[0], middle[1]])
        return z, (y + x) / 2


def measure_psf(stack: NDArray[Any], shape: tuple[int, int, int]) -> MeasuredPSF:
    """Find the beads of a stack, align them to a fraction of a voxel, and average them.

    Beads near the border, saturated beads, and beads with a neighbour are left out.

    Parameters
    ----------
    stack
        ``(Z, Y, X)`` of beads that are smaller than the PSF.
    shape
        ``(Z, Y, X)`` of the PSF, all odd, not larger than the stack.

    Raises
    ------
    ImageError
        The stack is no stack, is smaller than the PSF, or holds no usable bead.
    """
    if stack.ndim != 3:
        raise ImageError(
            f"A stack of beads has the axes Z, Y and X (got {stack.ndim} dimensions). Choose one "
            "channel and one time."
        )
    if any(n % 2 == 0 or n > have for n, have in zip(shape, stack.shape, strict=True)):
        raise ImageError(
            f"The sides of a PSF are odd and not larger than the stack (got {shape} for a stack of "
            f"{stack.shape}). Use a smaller size."
        )
    saturation = np.iinfo(stack.dtype).max if stack.dtype.kind in "iu" else np.inf
    image = np.nan_to_num(stack.astype(np.float32))
    beads = [
        _aligned(image, centre, shape)
        for centre in _candidates(image, shape)
        if _is_usable(image, centre, shape, saturation)
    ]
    if not beads:
        raise ImageError(
            "There is no usable bead in this stack. A bead stands alone, is not saturated, and has "
            f"{shape[0] // 2} planes and {shape[2] // 2} pixels around it. Use a smaller size."
        )
    mean = np.mean([bead / bead.sum() for bead in beads], axis=0)
    return MeasuredPSF((mean / mean.sum()).astype(np.float32), len(beads))


def _candidates(image: NDArray[np.float32], shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Brightest voxels of everything that stands out, without the border."""
    smooth = ndimage.gaussian_filter(image, 1)
    background = float(np.median(smooth))
    noise = 1.4826 * float(np.median(np.abs(smooth - background)))
    size = [max(3, n // 2 | 1) for n in shape]
    peaks = (smooth == ndimage.maximum_filter(smooth, size)) & (
        smooth > background + _SIGMAS * max(noise, 1e-6)
    )
    half = [n // 2 for n in shape]
    found = np.argwhere(peaks)
    inside = np.all((found >= half) & (found < np.array(image.shape) - half), axis=1)
    return [tuple(int(i) for i in centre) for centre in found[inside]]


def _around(
    image: NDArray[np.float32], centre: tuple[int, ...], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    return image[
        tuple(slice(c - n // 2, c + n // 2 + 1) for c, n in zip(centre, shape, strict=True))
    ]


def _is_usable(
    image: NDArray[np.float32],
    centre: tuple[int, ...],
    shape: tuple[int, int, int],
    saturation: float,
) -> bool:
    """Whether a bead is not saturated and stands alone in its plane of focus."""
    bead = _around(image, centre, shape)
    if bead.max() >= saturation:
        return False
    plane = bead[shape[0] // 2] - np.median(bead)
    y, x = np.ogrid[: shape[1], : shape[2]]
    far = np.hypot(y - shape[1] // 2, x - shape[2] // 2) > min(shape[1:]) / 3
    return not far.any() or float(plane[far].max()) < _NEIGHBOUR * float(plane.max())


def _aligned(
    image: NDArray[np.float32], centre: tuple[int, ...], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Cut out a bead, take off its background and move its centre into the middle voxel."""
    bead = _around(image, centre, shape).astype(float)
    border = np.concatenate([bead[[0, -1]].ravel(), bead[:, [0, -1]].ravel(), bead[..., 0].ravel()])
    bead = bead - np.median(border)
    core = _around(bead.clip(min=0).astype(np.float32), tuple(n // 2 for n in shape), _core(shape))
    shift = [(n - 1) / 2 - c for n, c in zip(core.shape, ndimage.center_of_mass(core), strict=True)]
    moved: NDArray[np.float64] = ndimage.shift(bead, shift, order=3, mode="nearest").clip(min=0)
    return moved


def _core(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    z, y, x = (min(n, 2 * _CORE + 1) for n in shape)
    return z, y, x


def _width(profile: NDArray[np.float32]) -> float:
    """Full width at half maximum of a profile, in samples, by linear interpolation."""
    half, peak = profile.max() / 2, int(profile.argmax())
    sides = []
    for part in (profile[peak:], profile[peak::-1]):
        below = np.flatnonzero(part < half)
        if not len(below):
            return float(len(profile))
        i = int(below[0])
        sides.append(i - 1 + float((part[i - 1] - half) / (part[i - 1] - part[i])))
    return sides[0] + sides[1]
