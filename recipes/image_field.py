"""Fit what tells a photo from a micrograph, from folders of colour images.

    python recipes/image_field.py --photo DIR --microscopy DIR --out image_field.npz

Half of the images are blurred. Groups of images are left out in turn to report how often the answer
is right. The file belongs into ``optics/estimation/``.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np
from images import images_in, parser_of_folders
from scipy import ndimage

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics.estimation.image_field import describe, expanded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIDE = 512  # pixels, at most, of the parts that are described
DAMPING = 3.0
FOLDS = 8


def main() -> None:
    options = parser_of_folders(__doc__.splitlines()[0]).parse_args()
    groups, described, photo = [], [], []
    for is_photo, folder in ((True, options.photo), (False, options.microscopy)):
        for file in images_in(folder):
            for window in windows(file):
                # images of one recording share the first part of their name
                groups.append(zlib.crc32(file.name.rpartition("_")[0].encode()) % FOLDS)
                described.append(describe(window))
                photo.append(is_photo)
    inputs, truth, fold = np.array(described), np.array(photo), np.array(groups)
    mean, deviation = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
    values = expanded((inputs - mean) / deviation)
    right = np.zeros(len(truth), bool)
    for left_out in range(FOLDS):
        used = fold != left_out
        right[~used] = (values[~used] @ fitted(values[used], truth[used]) > 0) == truth[~used]
    print(f"right: {right[truth].mean():.3f} of the photos, {right[~truth].mean():.3f} of the rest")
    arrays = {"mean": mean, "deviation": deviation, "weights": fitted(values, truth)}
    np.savez(options.out, **{name: a.astype(np.float32) for name, a in arrays.items()})


def windows(file: Path) -> Iterator[np.ndarray]:
    """Cut a part of an 8-bit colour image, as it is and blurred."""
    with open_image(file) as image:
        if image.axes != "YXS" or image.data.dtype != np.uint8:
            return
        pixels = np.asarray(image.data[..., :3]).astype(np.float32) / 255
    if not np.ptp(pixels, axis=2).any():
        return
    rng = np.random.default_rng(zlib.crc32(file.name.encode()))
    for sigma in (0.0, rng.uniform(0.5, 4)):
        blurred = ndimage.gaussian_filter(pixels, (sigma, sigma, 0))
        y, x = (int(rng.integers(max(n - SIDE, 0) + 1)) for n in pixels.shape[:2])
        yield np.moveaxis(blurred[y : y + SIDE, x : x + SIDE], 2, 0)


def fitted(values: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Fit a logistic regression; photos and micrographs weigh the same."""
    weight = np.where(truth, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    return logistic(values, truth, weight, DAMPING)


def logistic(
    inputs: np.ndarray, truth: np.ndarray, weight: np.ndarray, damping: float
) -> np.ndarray:
    """Fit a logistic regression by Newton's method; the first input is 1 and is not damped."""
    damped = damping * np.eye(inputs.shape[1])
    damped[0, 0] = 0
    solution = np.zeros(inputs.shape[1])
    for _ in range(40):
        chance = 1 / (1 + np.exp(-inputs @ solution))
        slope = inputs.T @ (weight * (chance - truth)) + damped @ solution
        curvature = (inputs * (weight * chance * (1 - chance))[:, None]).T @ inputs + damped
        solution -= np.linalg.solve(curvature, slope)
    return solution


if __name__ == "__main__":
    main()
