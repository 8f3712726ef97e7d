"""Fit what chooses between undoing a motion, a defocus, or nothing.

    python recipes/blur_choice.py --photo DIR --microscopy DIR --out blur_choice.npz

Sharp images are blurred by motion or defocus, or stay as they are: photos as light, micrographs and
grey photos in their intensities. Each is restored with the estimated motion and with the estimated
defocus, and two regressions learn from the signs which of them helps. A third one learns how much
the agreement of several kernels counts, on images that a motion may have blurred. Images whose name
falls into the same eighth are left out in turn to report what the choice gains. The file belongs
into ``optics/estimation/``.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from image_field import logistic
from images import images_in, parser_of_folders

from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.blur_filter import KnownBlurRestorer
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.estimation.blur_choice import (
    CLIP,
    SpectralFit,
    agreement_inputs,
    features,
)
from napari_swintormer.optics.estimation.defocus_posterior import GAMMAS, defocus_posterior
from napari_swintormer.optics.estimation.motion_kernel import motion_trials
from napari_swintormer.optics.estimation.shake_candidates import shake_candidates
from napari_swintormer.optics.inverse_filter import REACH
from napari_swintormer.optics.plane_blur import FoundBlur, PlaneBlur
from napari_swintormer.optics.plane_power import PowerOfPlane

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from napari_swintormer.optics.estimation.defocus_posterior import Field

Source = Literal["photo", "grey photo", "micrograph"]
SIDES = (256, 320, 448)  # pixels of the parts that are measured
HELPS = 0.3  # dB
UNCHANGED = 1e-4  # mean square change of a sharp image that counts as none: 40 dB
DAMPING = 6.0
FOLDS = 8
WORTH_A_LOOK = 0.25  # chance of a motion
SHIFT = 3  # pixels that a kernel may move an image by


@dataclass(frozen=True)
class Row:
    """One image, what is known of its blur, and what undoing it gains in dB.

    `gains` are those of one kernel of a motion, of a defocus, and of several kernels of a motion.
    """

    name: str
    source: Source
    blur: str
    features: np.ndarray
    agreement: float
    gains: tuple[float, float, float]


def main() -> None:
    parser = parser_of_folders(__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=3, help="use every n-th image")
    parser.add_argument("--seed", type=int, default=31)
    options = parser.parse_args()
    rows = [
        row
        for source, folder in {
            "photo": options.photo,
            "grey photo": options.photo,
            "micrograph": options.microscopy,
        }.items()
        for file in images_in(folder)[:: options.every]
        for row in rows_of(file, source, options.seed)
    ]
    report(rows)
    described = np.stack([row.features for row in rows])
    mean, deviation = described.mean(axis=0), described.std(axis=0) + 1e-9
    weights = {
        name: fitted(described, [row.gains[k] for row in rows], mean, deviation)
        for k, name in enumerate(("motion", "defocus"))
    }
    arrays = {"mean": mean, "deviation": deviation} | weights
    chances = rated(described, mean, deviation, weights["motion"])
    arrays["agreed"] = agreed(rows, chances)
    np.savez(options.out, **{name: a.astype(np.float32) for name, a in arrays.items()})


def rows_of(file: Path, source: Source, seed: int) -> Iterator[Row]:
    """Blur an image by motion, by defocus and by nothing, and try both estimates on it."""
    with open_image(file) as image:
        sharp, axes = np.asarray(image.data[...]), image.axes
    if axes not in ("YX", "YXS") or min(sharp.shape[:2]) < SIDES[0]:
        return
    if source == "grey photo" and axes == "YXS":
        sharp, axes = np.rint(sharp[..., :3].mean(axis=-1)).astype(sharp.dtype), "YX"
    field: Field = "photo" if source == "photo" else "micrograph"
    kind = "photo" if source == "photo" else "microscopy"
    for blur in ("motion", "defocus", "none"):
        rng = np.random.default_rng([seed, zlib.crc32(file.name.encode()), len(blur)])
        side = int(rng.choice(SIDES))
        blurred = sharp if blur == "none" else synthetic.degrade(sharp, axes, kind, rng, blur)[0]
        parts = synthetic.centre(blurred, side), synthetic.centre(sharp, side)
        low, high = np.percentile(parts[0], (0.1, 99.9)) if source == "micrograph" else (0, 255)
        units = [((p.astype(float) - low) / max(high - low, 1e-9)).astype("f4") for p in parts]
        before, after = (np.moveaxis(u, 2, 0) if "S" in axes else u[None] for u in units)
        row = tried(before, None if blur == "none" else after, field)
        if row is not None:
            yield Row(file.name, source, blur, *row)


def tried(
    image: np.ndarray, sharp: np.ndarray | None, field: Field
) -> tuple[np.ndarray, float, tuple[float, float, float]] | None:
    """Describe an image ``(C, Y, X)``, and restore it each way; without `sharp` it is sharp."""
    grey = image.mean(axis=0)
    trials = motion_trials([grey], GAMMAS[field])
    power = PowerOfPlane.measured([grey[None]], photo=field == "photo")
    if not trials or power.light is None:
        return None
    posterior, fit = defocus_posterior([grey], field), SpectralFit(power.light, field)
    whole = PowerOfPlane.measured([image], photo=field == "photo")
    shake = shake_candidates(trials[-1])
    found = (
        FoundBlur(Blur.kernel(trials[-1].kernel), 0.7),
        FoundBlur(posterior.blur(), min(posterior.certainty, 0.99)),
        FoundBlur(shake.blur, 0.7),
    )
    gains = []
    for blur in found:
        plane = PlaneBlur(blur, whole)
        margin = ((0, 0), (REACH, REACH), (REACH, REACH))
        tile = torch.from_numpy(np.pad(image, margin, mode="reflect"))[None]
        restored = KnownBlurRestorer({0: plane}, image.shape[1:], len(image))(tile)[0].numpy()
        if sharp is None:
            gains.append(min(0.0, decibel(UNCHANGED / error(restored, image, 0))))
        else:
            gains.append(decibel(error(image, sharp, SHIFT) / error(restored, sharp, SHIFT)))
    described = features(trials[-1], posterior, fit, field)
    return described, shake.agreement, (gains[0], gains[1], gains[2])


def error(image: np.ndarray, sharp: np.ndarray, shift: int) -> float:
    """Give the smallest mean square error over small shifts."""
    image, sharp = image.clip(0, 1), sharp.clip(0, 1)
    inner = sharp[:, SHIFT:-SHIFT, SHIFT:-SHIFT]
    height, width = inner.shape[1:]
    moves = range(SHIFT - shift, SHIFT + shift + 1)
    return 1e-7 + min(
        float(np.square(image[:, y : y + height, x : x + width] - inner).mean())
        for y in moves
        for x in moves
    )


def decibel(ratio: float) -> float:
    return float(10 * np.log10(ratio))


def fitted(
    described: np.ndarray, gains: list[float], mean: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
    """Fit a logistic regression of whether a gain is worth it; large ones weigh more."""
    values = np.clip((described - mean) / deviation, -CLIP, CLIP)
    inputs = np.column_stack([np.ones(len(values)), values])
    above = np.array(gains) - HELPS
    weight = np.clip(np.abs(above), 0.3, 3)
    weight /= weight.mean()
    return logistic(inputs, above > 0, weight, DAMPING)


def rated(
    described: np.ndarray, mean: np.ndarray, deviation: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Give the chance of each described image."""
    values = np.clip((described - mean) / deviation, -CLIP, CLIP)
    return 1 / (1 + np.exp(-(weights[0] + values @ weights[1:])))


def agreed(rows: list[Row], chances: np.ndarray) -> np.ndarray:
    """Fit how the chance of a motion and the agreement of its kernels tell what these gain."""
    looked_at = [
        (agreement_inputs(chance, row.agreement, row.source == "photo"), row.gains[2])
        for row, chance in zip(rows, chances.tolist(), strict=True)
        if chance > WORTH_A_LOOK
    ]
    above = np.array([gain for _, gain in looked_at]) - HELPS
    weight = np.clip(np.abs(above), 0.3, 3)
    return logistic(np.stack([x for x, _ in looked_at]), above > 0, weight / weight.mean(), 1.0)


def report(rows: list[Row]) -> None:
    """Print how often a chance is right, for images that had no part in the fit."""
    described = np.stack([row.features for row in rows])
    mean, deviation = described.mean(axis=0), described.std(axis=0) + 1e-9
    fold = np.array([zlib.crc32(row.name.encode()) % FOLDS for row in rows])
    for k, name in enumerate(("motion", "defocus")):
        gains = np.array([row.gains[k] for row in rows])
        chances = np.zeros(len(rows))
        for left_out in range(FOLDS):
            used = fold != left_out
            weights = fitted(described[used], list(gains[used]), mean, deviation)
            chances[~used] = rated(described[~used], mean, deviation, weights)
        for low in np.arange(0, 1, 0.2):
            inside = (chances >= low) & (chances < low + 0.2)
            if inside.any():
                right, mean_gain = (gains[inside] > HELPS).mean(), gains[inside].mean()
                print(
                    f"{name}, chance {low:.1f} to {low + 0.2:.1f}: {inside.sum()} images, "
                    f"{100 * right:.0f} % gain, mean {mean_gain:+.2f} dB"
                )


if __name__ == "__main__":
    main()
