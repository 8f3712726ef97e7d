"""Score volumes restored by the stack engine beside other Richardson-Lucy programs.

Reads a folder with phantoms (``phantom_NAME_KIND_blurred.tif``, ``..._truth.tif`` and
``phantom_NAME_psf.tif``) and, if there is one, a real pair (``pair_dna_widefield.tif`` and
``pair_dna_confocal.tif``). A score is a PSNR after one gain and one offset for the whole volume;
the peak is the 99.9th percentile of the truth. RedLionfish is measured where it is installed, with
the PSF of the phantoms; our engine computes its own PSF from the numbers of the microscope::

    python benchmarks/stacks.py FOLDER --iterations 10 20 40 80
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path

import numpy as np
import tifffile

from napari_swintormer import deblur

MICROSCOPES = {
    "na140oil": {"pixel_size": 0.09, "z_step": 0.25, "na": 1.4, "immersion": "oil"},
    "na075air": {"pixel_size": 0.2, "z_step": 0.6, "na": 0.75, "immersion": "air"},
    "na030air": {"pixel_size": 0.5, "z_step": 3.0, "na": 0.3, "immersion": "air"},
}
KINDS = ("bars", "shells", "filaments")
PAIR = {
    "pixel_size": 0.512,
    "z_step": 0.499,
    "na": 1.2,
    "immersion": "water",
    "wavelength": 455,
    "modality": "widefield",
}


def score(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR in dB after one affine fit over the volume."""
    flat, wanted = image.ravel().astype(float), truth.ravel().astype(float)
    terms = np.stack([flat, np.ones_like(flat)], axis=1)
    fitted = terms @ np.linalg.lstsq(terms, wanted, rcond=None)[0]
    peak = np.percentile(wanted, 99.9)
    return float(10 * np.log10(peak**2 / np.mean((fitted - wanted) ** 2)))


def score_pair(image: np.ndarray, truth: np.ndarray) -> float:
    """Best score of planes 8 to 36 over whole-plane offsets of up to 3."""
    planes = np.arange(8, 37)
    peak = np.percentile(truth, 99.9)
    best = -np.inf
    for offset in range(-3, 4):
        kept = planes[(planes + offset >= 0) & (planes + offset < len(image))]
        one, other = image[kept + offset], truth[kept]
        error = 10 * np.log10(peak**2 / np.percentile(other, 99.9) ** 2)
        best = max(best, score(one, other) + error)
    return best


def ours(image: np.ndarray, numbers: dict) -> tuple[np.ndarray, float]:
    """Restore a stack; also the CPU seconds."""
    start = time.process_time()
    restored = deblur(image.astype(np.float32), axes="ZYX", depth="volume", **numbers)
    return restored, time.process_time() - start


def red_lionfish(image: np.ndarray, psf: np.ndarray, iterations: int) -> np.ndarray | None:
    """Restore a stack with RedLionfish on the CPU, or None where it is not installed."""
    try:
        import RedLionfishDeconv as program
    except ImportError:
        return None
    with contextlib.redirect_stdout(io.StringIO()):
        return program.doRLDeconvolutionFromNpArrays(image, psf, niter=iterations, method="cpu")


def main() -> None:
    """Print one line for every volume."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iterations", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--photons", type=float, help="replace the noise: photons at the peak")
    options = parser.parse_args()

    def read(name: str) -> np.ndarray:
        return tifffile.imread(options.folder / f"{name}.tif").astype(np.float32)

    if (options.folder / "pair_dna_widefield.tif").exists():
        image, truth = read("pair_dna_widefield"), read("pair_dna_confocal")
        restored, seconds = ours(image, PAIR)
        gain = score_pair(restored, truth) - score_pair(image, truth)
        print(f"real pair: {gain:+.2f} dB in {seconds:.0f} s of CPU")
    for name, numbers in MICROSCOPES.items():
        psf = read(f"phantom_{name}_psf")
        psf /= psf.sum()
        for kind in KINDS:
            image, truth = (read(f"phantom_{name}_{kind}_{half}") for half in ("blurred", "truth"))
            if options.photons is not None:
                signal = (image - 100).clip(0)
                signal *= options.photons / np.percentile(signal, 99.9)
                image = np.random.default_rng(0).poisson(signal).astype(np.float32) + 100
            before = score(image, truth)
            restored, seconds = ours(image, numbers | {"wavelength": 520})
            line = [f"{name} {kind}: {score(restored, truth) - before:+.2f} dB ({seconds:.0f} s)"]
            for iterations in options.iterations:
                other = red_lionfish((image - 100).clip(0), psf, iterations)
                if other is not None:
                    gain = score(other, truth) - before
                    line.append(f"RedLionfish {iterations}: {gain:+.2f}")
            print("; ".join(line), flush=True)


if __name__ == "__main__":
    main()
