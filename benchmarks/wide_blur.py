"""What restoring at half and quarter size brings for wide blur: gains over the blurred image.

    python benchmarks/wide_blur.py --photo DIR --microscopy DIR --pairs CSV --out FILE

A network that knows blur circles of some ten pixels sees a wide circle as a moderate one in an
image of half the size. `at 1/n`: the image is averaged to 1/n of its size, restored there, and what
the restoration changed is enlarged and added to the image, whose own fine detail stays. `1/2, 1`:
from coarse to fine, each scale restores what the one before has made. The images are real pairs
and sharp images that are blurred here by disks of known radius.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import zlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from napari_swintormer import deblur, load_model
from napari_swintormer.config import DEFAULT_MODEL
from napari_swintormer.evaluation import datasets, report
from napari_swintormer.training import psf
from napari_swintormer.training.degradations import Degradation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RADII = (0.0, 3.0, 6.0, 10.0, 16.0)  # pixels
IMAGES = 3  # of every folder, evenly spaced
CROP = 256  # the centre that is restored and scored, in pixels
NOISE = 0.003
ORDERS = {"at 1": (1,), "at 1/2": (2,), "at 1/4": (4,), "1/2, 1": (2, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--microscopy", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="CSV file of all scores")
    options = parser.parse_args()

    model = load_model(options.model)
    methods = {name: partial(in_scales, model, scales=s) for name, s in ORDERS.items()}
    pairs: list[Iterator[datasets.Pair]] = []
    for folder, kind in ((options.photo, "photo"), (options.microscopy, "microscopy")):
        if folder is not None:
            pairs += [blurred_by_disk(folder, kind, radius) for radius in RADII]
    if options.pairs is not None:
        pairs.append(datasets.real_pairs(options.pairs))
    comparisons = []
    with options.out.open("w", newline="", encoding="utf-8") as file:
        scores = csv.writer(file, lineterminator="\n")
        scores.writerow(["set", "image", *methods])
        for pair in (p for some in pairs for p in some):
            comparison = report.compare(centre(pair), methods)
            gains = [f"{comparison.gain(name):+.3f}" for name in methods]
            scores.writerow([pair.set, pair.name, *gains])
            print(pair.set, pair.name, *gains, flush=True)
            comparisons.append(comparison)
    for metric in ("psnr", "ssim"):
        print(report.score_table(comparisons, metric))


def centre(pair: datasets.Pair) -> datasets.Pair:
    """Cut both images of a pair to the middle `CROP` pixels."""
    y, x = (slice(max(0, (n - CROP) // 2), (n + CROP) // 2) for n in pair.sharp.shape[:2])
    return dataclasses.replace(pair, blurred=pair.blurred[y, x], sharp=pair.sharp[y, x])


def in_scales(
    model: Any, image: NDArray[Any], axes: str, *, scales: tuple[int, ...]
) -> NDArray[np.float32]:
    """Restore ``(Y, X)`` or ``(Y, X, S)`` at some scales, one after the other.

    Parameters
    ----------
    scales
        1 for the full size, 2 for the half.
    """
    result = image.astype(np.float32)
    for scale in scales:
        small = reduced(result, scale)
        change = deblur(small, model, axes=axes) - small
        result = result + enlarged(change, scale, result.shape)
    return result


def reduced(image: NDArray[np.float32], scale: int) -> NDArray[np.float32]:
    """Average `scale` × `scale` pixels, mirrored at the end where they do not go up."""
    if scale == 1:
        return image
    missing = [(0, -n % scale) for n in image.shape[:2]] + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, missing, mode="symmetric")
    height, width = (n // scale for n in padded.shape[:2])
    pixels = padded.reshape(height, scale, width, scale, *image.shape[2:])
    mean: NDArray[np.float32] = pixels.mean(axis=(1, 3))
    return mean


def enlarged(image: NDArray[np.float32], scale: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Cubic interpolation between the averages of `reduced`, cut to `shape`."""
    if scale == 1:
        return image
    factors = (scale, scale) + (1,) * (image.ndim - 2)
    zoomed = ndimage.zoom(image, factors, order=3, mode="grid-mirror", grid_mode=True)
    cut: NDArray[np.float32] = zoomed[: shape[0], : shape[1]]
    return cut


def blurred_by_disk(folder: Path, kind: datasets.Kind, radius: float) -> Iterator[datasets.Pair]:
    """Blur some images of a folder by a disk of `radius` pixels, the same at every call."""
    for pair in list(datasets.blurred_pairs(folder, kind))[:: max(1, 24 // IMAGES)]:
        rng = np.random.default_rng([datasets.SEED, zlib.crc32(pair.name.encode())])
        gamma = datasets.GAMMA if kind == "photo" else 1.0
        degradation = Degradation((psf.disk(radius),), gamma, read_noise=NOISE)
        low, high = (0.0, 255.0) if kind == "photo" else np.percentile(pair.sharp, (0.1, 99.9))
        planes = np.atleast_3d((pair.sharp - low) / (high - low)).astype(np.float32)
        margin = degradation.margin
        padded = np.pad(np.moveaxis(planes, 2, 0), [(0, 0)] + [(margin, margin)] * 2, "reflect")
        blurred = np.moveaxis(degradation.apply(padded, rng), 0, 2).reshape(pair.sharp.shape)
        limits = np.iinfo(pair.sharp.dtype)
        counts = np.clip(np.rint(blurred * (high - low) + low), limits.min, limits.max)
        yield datasets.Pair(
            f"{kind}, radius {radius:g}",
            pair.name,
            pair.axes,
            counts.astype(pair.sharp.dtype),
            pair.sharp,
            fit_intensity=False,
        )


if __name__ == "__main__":
    main()
