"""Learn how the spectra of sharp images differ, from folders of sharp images.

    python recipes/sharp_spectra.py --photo DIR --microscopy DIR --out sharp_spectra.npz

The file holds a mean and components of the logarithms of power, for the intensities of
micrographs, and for intensities and light of photos. It belongs into ``optics/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from images import images_in, parser_of_folders

from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.optics.plane_power import PowerOfPlane
from napari_swintormer.optics.sharp_spectrum import BINS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIDE = 768  # pixels used of an image, from its first corner
SMALLEST = 256
COMPONENTS = 6


def main() -> None:
    options = parser_of_folders(__doc__.splitlines()[0]).parse_args()
    arrays = {"frequencies": np.sqrt(BINS[1:] * BINS[:-1]).astype(np.float32)}
    photos = list(spectra(options.photo, photo=True))
    micrographs = list(spectra(options.microscopy, photo=False))
    for content, curves in {
        "photo": [shown for shown, _ in photos],
        "photo_light": [light for _, light in photos],
        "micrograph": [light for _, light in micrographs],
    }.items():
        mean = np.mean(curves, axis=0)
        _, sizes, components = np.linalg.svd(curves - mean, full_matrices=False)
        deviations = sizes[:COMPONENTS] / np.sqrt(len(curves))
        arrays[f"{content}_curves"] = np.vstack([mean, components[:COMPONENTS]]).astype(np.float32)
        arrays[f"{content}_deviations"] = deviations.astype(np.float32)
        print(f"{content}: {len(curves)} images, deviations {deviations.round(2)}")
    np.savez(options.out, **arrays)


def spectra(folder: Path, *, photo: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Give curves of the intensities and of the light of each image."""
    for file in images_in(folder):
        with open_image(file) as image:
            pixels, axes = np.asarray(image.data[..., :SIDE, :SIDE]), image.axes
            if axes == "YXS":
                pixels = np.moveaxis(np.asarray(image.data[:SIDE, :SIDE, :3]), 2, 0)
        if axes not in ("YX", "YXS") or min(pixels.shape[-2:]) < SMALLEST:
            continue
        low, high = (0, 255) if photo else np.percentile(pixels, (0.1, 99.9))
        unit = ((pixels - low) / max(high - low, 1e-9)).astype(np.float32)
        power = PowerOfPlane.measured([unit.reshape(-1, *unit.shape[-2:])], photo=photo)
        if power.light is not None and power.intensities is not None:
            yield curve(power.intensities.spectrum), curve(power.light.spectrum)


def curve(spectrum: np.ndarray) -> np.ndarray:
    """Give the logarithm of the mean power between the limits of `BINS`."""
    side = len(spectrum)
    y, x = np.abs(np.fft.fftfreq(side))[:, None], np.fft.rfftfreq(side)[None]
    used = (y > 1 / side) & (x > 1 / side)  # borders lie on the axes
    place = np.digitize(np.hypot(y, x)[used], BINS) - 1
    count = np.bincount(place, minlength=len(BINS) - 1)
    total = np.bincount(place, spectrum[used], len(BINS) - 1)
    full, middle = count > 0, np.log(BINS[1:] * BINS[:-1])
    logs = np.log(total[full] / count[full] + 1e-12)
    return np.interp(middle, middle[full], logs)


if __name__ == "__main__":
    main()
