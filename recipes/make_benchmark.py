"""Make data sets with known blur from folders of sharp images, the same for everybody.

    python recipes/make_benchmark.py --photo DIR --microscopy DIR --out benchmark
    swintormer evaluate folders=benchmark -m swintormer -m richardson-lucy-psf --out report

The sets `photo` and `microscopy` are moderately out of focus; `--draws 3` blurs each image in three
ways, because the gain of a method depends on the blur as much as on the image. `photo-layers` are
scenes with depth before a thin lens, and `photo-motion` is camera shake. `sharp-...` and `blank`
must stay as they are.

A set is a folder with `blurred/`, `sharp/`, `psf/` (or `psf-of-depth/`, from far to near) and
`benchmark.json`, which tells how it was made. Each image depends on the seed and its file name
only. The middle 512 pixels are kept; `--side 1024` keeps more, which tiles of 512 need to differ
from the whole image.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from napari_swintormer import __version__
from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.evaluation.data.pair_files import ABOUT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy images")
    parser.add_argument("--seed", type=int, default=synthetic.SEED)
    parser.add_argument(
        "--side", type=int, default=synthetic.CROP, help="middle to keep, in pixels"
    )
    parser.add_argument("--draws", type=int, default=1, help="ways to put each image out of focus")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sets")
    options = parser.parse_args()
    if not (options.photo or options.microscopy):
        parser.error("nothing to blur: give --photo or --microscopy")
    shared = {"seed": options.seed, "side": options.side}
    for kind in ("photo", "microscopy"):
        folder = getattr(options, kind)
        if folder is not None:
            for blur in ("defocus", "layers", "motion") if kind == "photo" else ("defocus",):
                draws = options.draws if blur == "defocus" else 1
                pairs = synthetic.blurred_pairs(folder, kind, blur=blur, draws=draws, **shared)
                name = kind if blur == "defocus" else f"{kind}-{blur}"
                make(options.out / name, pairs, kind, options.seed)
            sharp = (as_it_is(p) for p in synthetic.blurred_pairs(folder, kind, **shared))
            make(options.out / f"sharp-{kind}", sharp, kind, options.seed)
    fields = (
        synthetic.SyntheticPair("blank", field.name, "YX", field.image, field.clean)
        for field in synthetic.blank_fields(seed=options.seed)
        if np.ptp(field.image)  # a constant image has no range to measure errors by
    )
    make(options.out / "blank", fields, "microscopy", options.seed)


def as_it_is(pair: synthetic.SyntheticPair) -> synthetic.SyntheticPair:
    """Pair a sharp image with itself: a method must leave it alone."""
    return synthetic.SyntheticPair(pair.set, pair.name, pair.axes, pair.sharp, pair.sharp)


def make(folder: Path, pairs, kind: str, seed: int) -> None:
    """Write a set."""
    names = 0
    for pair in pairs:
        in_depth = pair.psf is not None and pair.psf.ndim == 3
        psf = "psf-of-depth" if in_depth else "psf"
        for part, image in (("blurred", pair.blurred), ("sharp", pair.sharp), (psf, pair.psf)):
            if image is not None:
                (folder / part).mkdir(parents=True, exist_ok=True)
                save(folder / part / pair.name.replace(" ", "-").replace(",", ""), image)
        names += 1
    about = {
        "gamma": synthetic.GAMMA if kind == "photo" else 1.0,
        "images": names,
        "seed": seed,
        "made_with": f"napari-swintormer {__version__}",
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    print(f"{folder}: {names} images")


def save(path: Path, image: np.ndarray) -> None:
    """Write PNG for 8 bits, TIFF for everything else; names may hold dots."""
    if image.dtype == np.uint8:
        Image.fromarray(image).save(f"{path}.png")
    else:
        photometric = "rgb" if image.ndim == 3 and image.shape[2] == 3 else "minisblack"
        tifffile.imwrite(f"{path}.tif", image, photometric=photometric)


if __name__ == "__main__":
    main()
