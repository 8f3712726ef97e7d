"""Measures what restoring at half and a quarter of the size gains for wide blur.

    python benchmarks/wide_blur.py --photo DIR --microscopy DIR --pairs CSV --out FOLDER

In an image of half the size, a wide blur circle is a moderate one. This evaluates a model at full
size, with `scale=2` and `scale=4`, and from coarse to fine (first at half the size, then the result
at full size). The images are real pairs, and sharp images that disks of known radius blur here, in
``FOLDER/sets``.
"""

from __future__ import annotations

import argparse
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.evaluation.evaluation import Evaluation, find_data_set
from napari_swintormer.evaluation.methods.methods import parse_method
from napari_swintormer.evaluation.reports.evaluation_report import write_report
from napari_swintormer.optics import psf
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL, DeblurSettings
from napari_swintormer.terminal import finish
from napari_swintormer.training.degradations.camera import SensorNoise
from napari_swintormer.training.degradations.simple import Degradation

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_swintormer.evaluation.data.pair_images import PairImages
    from napari_swintormer.evaluation.methods.methods import Method
    from napari_swintormer.settings.deblur_settings import ImageKind

RADII = (0.0, 3.0, 6.0, 10.0, 16.0)  # pixels
CROP = 256  # the centre that is restored and scored, in pixels
NOISE = 0.003


@dataclass(frozen=True)
class CoarseToFine:
    """Restores the result of one method with another."""

    name: str
    coarse: Method
    fine: Method

    @property
    def identity(self) -> str:
        return f"{self.coarse.identity}, then {self.fine.identity}"

    def restore(self, pictures: PairImages) -> Any:
        return self.fine.restore(replace(pictures, blurred=self.coarse.restore(pictures)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--photo", type=Path)
    parser.add_argument("--microscopy", type=Path)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--images", type=int, default=3, help="of every folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of images and report")
    options = parser.parse_args()

    data = []
    for folder, kind in ((options.photo, "photo"), (options.microscopy, "microscopy")):
        for radius in RADII if folder is not None else ():
            for pair in blurred_by_disk(folder, kind, radius, options.images):
                save(options.out / "sets" / f"{kind}, radius {radius:g}", pair)
    if (options.out / "sets").is_dir():
        data.append(f"folders={options.out / 'sets'}")
    if options.pairs is not None:
        data.append(f"microscopy={options.pairs}")
    names = options.model, f"{options.model}:scale=2", f"{options.model}:scale=4"
    full, half, quarter = (parse_method(name, DeblurSettings()) for name in names)
    methods = full, half, quarter, CoarseToFine("1/2, then full size", half, full)
    evaluation = Evaluation(tuple(map(find_data_set, data)), methods, options.out, centre=CROP)
    finish(evaluation.events(resume=True), "Evaluating")
    for path in write_report(options.out, "Wide blur", evaluation.rows):
        print(path)


def save(folder: Path, pair: synthetic.SyntheticPair) -> None:
    """Write a pair into the folders of a set; existing files stay."""
    for name, image in (("blurred", pair.blurred), ("sharp", pair.sharp)):
        file = folder / name / f"{pair.name}.tif"
        file.parent.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            tifffile.imwrite(file, image, photometric="rgb" if "S" in pair.axes else "minisblack")


def blurred_by_disk(
    folder: Path, kind: ImageKind, radius: float, images: int
) -> Iterator[synthetic.SyntheticPair]:
    """Blur some images of a folder with a disk of `radius` pixels, the same in every run."""
    for pair in list(synthetic.blurred_pairs(folder, kind))[:: max(1, 24 // images)]:
        rng = np.random.default_rng([synthetic.SEED, zlib.crc32(pair.name.encode())])
        gamma = synthetic.GAMMA if kind == "photo" else 1.0
        degradation = Degradation((psf.disk(radius),), gamma, SensorNoise(NOISE))
        low, high = (0.0, 255.0) if kind == "photo" else np.percentile(pair.sharp, (0.1, 99.9))
        planes = np.atleast_3d((pair.sharp - low) / (high - low)).astype(np.float32)
        margin = degradation.margin
        padded = np.pad(np.moveaxis(planes, 2, 0), [(0, 0)] + [(margin, margin)] * 2, "reflect")
        blurred = np.moveaxis(degradation.apply(padded, rng), 0, 2).reshape(pair.sharp.shape)
        limits = np.iinfo(pair.sharp.dtype)
        counts = np.clip(np.rint(blurred * (high - low) + low), limits.min, limits.max)
        yield synthetic.SyntheticPair(
            f"{kind}, radius {radius:g}",
            pair.name,
            pair.axes,
            counts.astype(pair.sharp.dtype),
            pair.sharp,
        )


if __name__ == "__main__":
    main()
