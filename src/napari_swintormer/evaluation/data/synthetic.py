"""Images blurred with a fixed seed, and blank fields: data sets with a known truth.

The blur and the noise of an image follow from the seed and its file name alone. Other files in the
folder do not change them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.evaluation.data.pair_images import to_dtype
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics import motion, psf
from napari_swintormer.optics.light import GAMMA, from_light, to_light
from napari_swintormer.training.degradations.camera import SensorNoise
from napari_swintormer.training.degradations.image_formation import depth_optics
from napari_swintormer.training.degradations.simple import Degradation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_swintormer.settings.deblur_settings import ImageKind

SEED = 20240107
CROP = 512  # pixels, side of the centre that is scored
RADII = (1.5, 3.5)  # pixels, of the blur circle: moderate defocus
STRONGEST_NOISE = 0.006  # standard deviation at white, in unit intensity
Blur = Literal["defocus", "motion", "layers"]
_EXTENTS = (4.0, 16.0)  # pixels, of the path of a shaking hand
_LAYERS = 8
_LAYER_RADII = (3.0, 9.0)  # pixels, of the largest blur circle in a scene with depth
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True)
class SyntheticPair:
    """A blurred image and its sharp reference, with equal shapes and the file's data type."""

    set: str
    name: str
    axes: str  # YX or YXS
    blurred: NDArray[Any]
    sharp: NDArray[Any]
    psf: NDArray[np.float32] | None = None
    """The point-spread function ``(h, w)`` of sum 1; of a scene with depth the ones of its layers
    ``(K, h, w)``, from far to near."""


@dataclass(frozen=True)
class BlankField:
    """An image without detail, which shows whether a model invents some."""

    name: str
    image: NDArray[np.uint16]  # (Y, X), with noise
    clean: NDArray[np.float64]  # the same without noise


def blurred_pairs(
    folder: Path,
    kind: ImageKind,
    *,
    seed: int = SEED,
    blur: Blur = "defocus",
    side: int = CROP,
    draws: int = 1,
) -> Iterator[SyntheticPair]:
    """Blur every sharp image of a folder, the same in every call.

    The whole image is blurred, photos in linear light and micrographs in their own intensities.
    Poisson-Gaussian noise and rounding to the file's data type follow. Then the centre is cut out.

    Parameters
    ----------
    folder
        PNG, JPEG and TIFF files, grey or RGB.
    kind
        ``"photo"`` or ``"microscopy"``; also the name of the set.
    seed, draws
        Seed of blur and noise, and how often each image is blurred. More draws leave the first one
        as it is.
    blur
        ``"defocus"``: a disk, Gaussian, polygon or wave-optics PSF with a radius of `RADII` for
        each image. ``"motion"``: the path of a shaking hand, the same everywhere. ``"layers"``: a
        scene with made-up depth before a thin lens, near things over far ones.
    side
        Side of the centre in pixels; a smaller image stays whole.
    """
    files = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise FileError(
            f"There is no image in {folder}. Give a folder with {', '.join(SUFFIXES)} files."
        )
    for file in files:
        with open_image(file) as image:
            sharp, axes = np.asarray(image.data[...]), image.axes
        for draw in range(draws):
            # Trailing zeros of a seed change nothing: draw 0 equals a draw of [seed, name] alone.
            rng = np.random.default_rng([seed, zlib.crc32(file.name.encode()), draw])
            blurred, kernel = degrade(sharp, axes, kind, rng, blur)
            name = f"{file.stem}-draw-{draw + 1}" if draw else file.stem
            images = centre(blurred, side), centre(sharp, side)
            yield SyntheticPair(kind, name, axes, *images, kernel)


def blank_fields(side: int = 256, seed: int = SEED) -> Iterator[BlankField]:
    """Make a constant image, an uneven illumination with noise, and one with nothing but noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    for name, clean, noise in [
        ("constant", np.full((side, side), 1000.0), 0.0),
        ("uneven illumination, noise 0.6 %", 100 + 3000 * (1 - 0.3 * (x**2 + y**2)), 18.0),
        ("dark frame, noise only", np.full((side, side), 100.0), 5.0),
    ]:
        image = clean + noise * rng.standard_normal(clean.shape)
        yield BlankField(name, np.rint(image).astype(np.uint16), clean)


def centre(image: NDArray[Any], side: int = CROP) -> NDArray[Any]:
    """Cut out the middle `side` pixels of the first two axes, or all if there are fewer."""
    start = [max(0, (n - side) // 2) for n in image.shape[:2]]
    return image[start[0] : start[0] + side, start[1] : start[1] + side]


def degrade(
    sharp: NDArray[Any], axes: str, kind: ImageKind, rng: np.random.Generator, blur: Blur
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Blur a whole image and add noise, in its own units and data type; also give the PSF."""
    low, high = (0.0, 255.0) if kind == "photo" else np.percentile(sharp, (0.1, 99.9))
    noise = rng.uniform(0, STRONGEST_NOISE)
    gamma = GAMMA if kind == "photo" else 1.0
    kernels = _draw_lens(rng) if blur == "layers" else (_DRAW[blur](rng),)
    degradation = Degradation(
        psfs=() if blur == "layers" else kernels,
        gamma=gamma,
        noise=SensorNoise(noise / np.sqrt(2), noise**2 / 2),
    )
    unit = ((sharp - low) / (high - low)).astype(np.float32)
    planes = np.moveaxis(unit, 2, 0) if "S" in axes else unit[None]
    margin = max(len(kernel) // 2 for kernel in kernels)
    padded = np.pad(planes, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    if blur == "layers":
        light, _ = depth_optics(kernels).form(to_light(padded, gamma), rng)
        padded = from_light(light, gamma)
    blurred = degradation.apply(padded, rng)
    blurred = np.moveaxis(blurred, 0, 2) if "S" in axes else blurred[0]
    known = np.stack(kernels) if blur == "layers" else kernels[0]
    return to_dtype(blurred.astype(np.float64) * (high - low) + low, sharp.dtype), known


def _draw_psf(rng: np.random.Generator) -> NDArray[np.float32]:
    radius = rng.uniform(*RADII)
    family = rng.integers(4)
    if family == 0:
        return psf.disk(radius)
    if family == 1:
        return psf.gaussian(radius)
    if family == 2:
        return psf.polygon(radius, int(rng.integers(5, 9)), rng.uniform(0, 2 * np.pi))
    return psf.defocus(radius, cutoff=rng.uniform(0.35, 0.8))


def _draw_motion(rng: np.random.Generator) -> NDArray[np.float32]:
    return motion.motion_psf(motion.camera_shake(rng.uniform(*_EXTENTS), rng))


def _draw_lens(rng: np.random.Generator) -> tuple[NDArray[np.float32], ...]:
    """Disks of a thin lens for depths from far to near, padded to one size.

    The radius of the blur circle is proportional to the distance from the focus in inverse metres.
    The layers are evenly spaced in this unit.
    """
    focus, strongest = rng.uniform(0, 1), rng.uniform(*_LAYER_RADII)
    distances = np.abs(np.linspace(0, 1, _LAYERS) - focus)
    disks = [psf.disk(max(r, 0.3)) for r in strongest * distances / distances.max()]
    side = max(map(len, disks))
    return tuple(np.pad(disk, (side - len(disk)) // 2) for disk in disks)


_DRAW = {"defocus": _draw_psf, "motion": _draw_motion}
