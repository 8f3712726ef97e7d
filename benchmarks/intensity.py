"""Measure what the models do to intensities: a table for docs/intensity.md.

For every shipped model, on the middle 256 × 256 pixels of the images of a folder:

- **slope, offset**: least squares of the result against the input; the offset is in per cent of
  the image's range (the 0.1 to the 99.9 percentile);
- **flux**: sum of the result over that of the input, minus 1, both above the range's lower end;
- **flicker**: ten images of one static scene with new noise each; the standard deviation over time
  of the mean intensity, result over input;
- **noise energy**: variance of a flat field with noise, result over input, minus 1.

    python benchmarks/intensity.py FOLDER_OF_IMAGES --images 8
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_swintormer import deblur, list_models
from napari_swintormer.imaging.formats.reading import open_image

SIDE = 256
TIMES = 10


def read_middle(path: Path) -> tuple[np.ndarray, str]:
    """Read the middle of an image."""
    with open_image(path) as image:
        pixels, axes = np.asarray(image.data[...]), image.axes
    cut = [
        slice(max(0, (n - SIDE) // 2), (n + SIDE) // 2) if axis in "YX" else slice(None)
        for n, axis in zip(pixels.shape, axes, strict=True)
    ]
    return pixels[tuple(cut)], axes


def compare(image: np.ndarray, result: np.ndarray) -> tuple[float, float, float]:
    """Slope, offset in per cent of the range, and change of the flux in per cent."""
    before, after = image.ravel().astype(float), result.ravel().astype(float)
    low, high = np.percentile(before, (0.1, 99.9))
    slope, offset = np.polyfit((before - low) / (high - low), (after - low) / (high - low), 1)
    flux = (after - low).sum() / (before - low).sum() - 1
    return float(slope), 100 * float(offset), 100 * float(flux)


def main() -> None:
    """Print one row of the table for every model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=8)
    options = parser.parse_args()
    files = sorted(path for path in options.folder.iterdir() if path.is_file())
    chosen = files[:: max(1, len(files) // options.images)][: options.images]
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    scene = 800 + 500 * np.exp(-(((x - 120) / 40) ** 2 + ((y - 130) / 25) ** 2))
    movie = np.stack([rng.poisson(scene) for _ in range(TIMES)]).astype(np.uint16)
    flat = (rng.normal(1000, 20, (SIDE, SIDE))).round().astype(np.uint16)
    print("| model | slope | offset (%) | flux (%) | flicker | noise energy (%) |")
    print("|---|---:|---:|---:|---:|---:|")
    for model in list_models():
        rows = []
        for file in chosen:
            image, axes = read_middle(file)
            rows.append(compare(image, deblur(image, axes=axes, model=model.name, device="cpu")))
        slope, offset, flux = np.mean(rows, axis=0)
        worst = max(abs(row[2]) for row in rows)
        restored = deblur(movie, axes="TYX", model=model.name, device="cpu")
        flicker = restored.mean(axis=(1, 2)).std() / movie.mean(axis=(1, 2)).std()
        energy = deblur(flat, axes="YX", model=model.name, device="cpu").var() / flat.var() - 1
        print(
            f"| `{model.name}` | {slope:.3f} | {offset:+.2f} | {flux:+.2f} (worst {worst:.2f}) | "
            f"{flicker:.3f} | {100 * energy:+.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
