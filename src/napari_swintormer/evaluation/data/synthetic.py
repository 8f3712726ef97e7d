"""What a model is judged on: images blurred with a fixed seed, real pairs, and blank fields.

Everything is deterministic: the blur and noise of an image follow from the seed and its file name,
whatever else lies in the folder.
"""

from __future__ import annotations

import csv
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_swintormer.errors import FileError
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics import motion, psf
from napari_swintormer.training.degradations.camera import SensorNoise
from napari_swintormer.training.degradations.image_formation import DepthOptics
from napari_swintormer.training.degradations.primitives import from_light, to_light
from napari_swintormer.training.degradations.simple import Degradation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from napari_swintormer.models.catalogue import ImageKind

SEED = 20240107
CROP = 512  # the centre that is scored, in pixels
RADII = (1.5, 3.5)  # of the blur circle, in pixels: moderate defocus
STRONGEST_NOISE = 0.006  # standard deviation at white, in unit intensity
GAMMA = 2.2  # of photos
Blur = Literal["defocus", "motion", "layers"]
_EXTENTS = (4.0, 16.0)  # of the path of a shaking hand, in pixels
_LAYERS = 8
_LAYER_RADII = (3.0, 9.0)  # of the largest blur circle of a scene in depth, in pixels
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


@dataclass(frozen=True)
class SyntheticPair:
    """A blurred image and its sharp reference.

    Attributes
    ----------
    set, name
        Of the data set and of the image in it.
    axes
        ``YX`` or ``YXS``.
    blurred, sharp
        Equal shapes, data types as in the files.
    fit_intensity
        Whether the two are different exposures, to be compared after one gain and one offset.
    psf
        Point-spread function ``(h, w)`` of sum 1 where it is known and the same everywhere, or
        those of a scene in depth ``(K, h, w)``, from far to near.
    """

    set: str
    name: str
    axes: str
    blurred: NDArray[Any]
    sharp: NDArray[Any]
    fit_intensity: bool
    psf: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class BlankField:
    """An image without detail, to see whether a model invents some.

    Attributes
    ----------
    name
        What the image shows.
    image, clean
        ``(Y, X)`` uint16, with noise, and float64, what it would be without.
    """

    name: str
    image: NDArray[np.uint16]
    clean: NDArray[np.float64]


def blurred_pairs(
    folder: Path,
    kind: ImageKind,
    *,
    seed: int = SEED,
    blur: Blur = "defocus",
    side: int = CROP,
    draws: int = 1,
) -> Iterator[SyntheticPair]:
    """Blur every sharp image of a folder, the same at every call.

    ``"defocus"`` is moderate: disk, Gaussian, polygon or wave-optics point-spread function of
    `RADII` pixels, one per image, in linear light for photos and in the intensities as they are for
    microscopy; then Poisson-Gaussian noise and the rounding of the file's data type. The whole
    image is blurred, then the centre is kept.

    Parameters
    ----------
    folder
        Of PNG, JPEG and TIFF files, grey or RGB.
    kind
        ``"photo"`` or ``"microscopy"``; also the name of the set.
    seed
        Of blur and noise.
    blur
        ``"defocus"``; ``"motion"``: the path of a shaking hand, the same everywhere;
        ``"layers"``: a scene in depth before a thin lens, near things over far ones: the depth is
        made up from the image, and the blur circle grows with the distance from focus in inverse
        metres.
    side
        Of the centre, in pixels; an image that is smaller is kept whole.
    draws
        How often each image is blurred; the first is the same however many there are.

    Raises
    ------
    FileError
        If the folder holds no image.
    """
    files = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise FileError(
            f"There is no image in {folder}. Give a folder with {', '.join(SUFFIXES)} files."
        )
    for file in files:
        sharp, axes = _read(file)
        for draw in range(draws):
            # A seed's trailing zeros mean nothing: the first draw is what it was when it was the
            # only one.
            rng = np.random.default_rng([seed, zlib.crc32(file.name.encode()), draw])
            blurred, kernel = _degrade(sharp, axes, kind, rng, blur)
            kept = centre(blurred, side), centre(sharp, side)
            name = f"{file.stem}-draw-{draw + 1}" if draw else file.stem
            yield SyntheticPair(kind, name, axes, *kept, False, kernel)


def real_pairs(table: Path) -> Iterator[SyntheticPair]:
    """Read the centres of real blurred and sharp images.

    Parameters
    ----------
    table
        CSV file with the columns ``blurred`` and ``sharp``, paths relative to its folder, and
        ``set``.

    Raises
    ------
    FileError
        If a column is missing or the two images of a pair differ in shape.
    """
    table = Path(table)
    with table.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        missing = {"blurred", "sharp", "set"} - set(rows.fieldnames or ())
        if missing:
            raise FileError(
                f"{table} has no column {sorted(missing)[0]!r} (got {rows.fieldnames}). "
                "The first line must name the columns blurred, sharp and set."
            )
        for row in rows:
            blurred, axes = _read(table.parent / row["blurred"])
            sharp, _ = _read(table.parent / row["sharp"])
            if blurred.shape != sharp.shape:
                raise FileError(
                    f"{row['blurred']} and {row['sharp']} must have the same shape (got "
                    f"{blurred.shape} and {sharp.shape}). Register and crop them first."
                )
            name = Path(row["blurred"]).stem.removesuffix("_blurred")
            yield SyntheticPair(row["set"], name, axes, centre(blurred), centre(sharp), True)


def blank_fields(side: int = 256, seed: int = SEED) -> Iterator[BlankField]:
    """Yield a constant, an uneven illumination with noise, and nothing but noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    constant = np.full((side, side), 1000.0)
    uneven = 100 + 3000 * (1 - 0.3 * (x**2 + y**2))
    dark = np.full((side, side), 100.0)
    for name, clean, noise in [
        ("constant", constant, 0.0),
        ("uneven illumination, noise 0.6 %", uneven, 18.0),
        ("dark frame, noise only", dark, 5.0),
    ]:
        image = clean + noise * rng.standard_normal(clean.shape)
        yield BlankField(name, np.rint(image).astype(np.uint16), clean)


def _read(file: Path) -> tuple[NDArray[Any], str]:
    with open_image(file) as image:
        return np.asarray(image.data[...]), image.axes


def centre(image: NDArray[Any], side: int = CROP) -> NDArray[Any]:
    """Cut out the middle pixels of the first two axes, or all where there are fewer."""
    start = [max(0, (n - side) // 2) for n in image.shape[:2]]
    return image[start[0] : start[0] + side, start[1] : start[1] + side]


def _degrade(
    sharp: NDArray[Any], axes: str, kind: ImageKind, rng: np.random.Generator, blur: Blur
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Blur, noise and rounding of a whole image, in its own units and data type; and the PSF."""
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
        light, _ = DepthOptics(kernels).form(to_light(padded, gamma), rng)
        padded = from_light(light, gamma)
    blurred = degradation.apply(padded, rng)
    blurred = np.moveaxis(blurred, 0, 2) if "S" in axes else blurred[0]
    limits = np.iinfo(sharp.dtype)
    counts = np.rint(blurred.astype(np.float64) * (high - low) + low)
    known = np.stack(kernels) if blur == "layers" else kernels[0]
    return np.clip(counts, limits.min, limits.max).astype(sharp.dtype), known


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
    """Disks of a thin lens for depths from far to near; all of one size, for the eye and the file.

    The radius of the blur circle is proportional to the distance from focus in inverse metres, in
    which the layers lie evenly.
    """
    focus, strongest = rng.uniform(0, 1), rng.uniform(*_LAYER_RADII)
    distances = np.abs(np.linspace(0, 1, _LAYERS) - focus)
    disks = [psf.disk(max(r, 0.3)) for r in strongest * distances / distances.max()]
    side = max(map(len, disks))
    return tuple(np.pad(disk, (side - len(disk)) // 2) for disk in disks)


_DRAW = {"defocus": _draw_psf, "motion": _draw_motion}
