"""Score volumes restored by the stack engine beside other Richardson-Lucy programs.

Reads a folder with phantoms (``phantom_NAME_KIND_blurred.tif``, ``..._truth.tif`` and
``phantom_NAME_psf.tif``) and, if there is one, a real pair (``pair_dna_widefield.tif`` and
``pair_dna_confocal.tif``). A score is a PSNR after one gain and one offset for the whole volume;
the peak is the 99.9th percentile of the truth. All programs get the PSF that follows from the
numbers of the microscope. RedLionfish is measured where it is installed. scikit-image's algorithm
is made again here, with Fourier transforms of the PSF that are kept; ``--check`` compares it with
scikit-image on a small volume::

    python benchmarks/stacks.py FOLDER --iterations 10 20 40 80
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
import tifffile

from napari_swintormer import deblur
from napari_swintormer.runs.planning import prepare
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from collections.abc import Callable

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


def red_lionfish(counts: np.ndarray, psf: np.ndarray, iterations: list[int]) -> dict:
    """Restore counts with RedLionfish on the CPU; empty where it is not installed."""
    try:
        import RedLionfishDeconv as program
    except ImportError:
        return {}
    results = {}
    for number in iterations:
        with contextlib.redirect_stdout(io.StringIO()):
            result = program.doRLDeconvolutionFromNpArrays(counts, psf, niter=number, method="cpu")
        results[number] = result[tuple(slice(0, n) for n in counts.shape)]
    return results


def scikit_image(counts: np.ndarray, psf: np.ndarray, iterations: list[int]) -> dict:
    """Restore counts as `skimage.restoration.richardson_lucy` does, beyond the image dark."""
    sizes = [n + m - 1 for n, m in zip(counts.shape, psf.shape, strict=True)]
    size = [scipy.fft.next_fast_len(n, real=True) for n in sizes]
    # The part that `mode="same"` keeps of a convolution.
    same = tuple(
        slice((m - 1) // 2, (m - 1) // 2 + n) for n, m in zip(counts.shape, psf.shape, strict=True)
    )
    forth, back = (scipy.fft.rfftn(each, size) for each in (psf, np.flip(psf)))

    def convolved(values: np.ndarray, transfer: np.ndarray) -> np.ndarray:
        spectrum = scipy.fft.rfftn(values, size, overwrite_x=True)
        spectrum *= transfer
        return scipy.fft.irfftn(spectrum, size, overwrite_x=True)[same]

    estimate, results = np.full(counts.shape, 0.5, np.float32), {}
    for number in range(1, max(iterations) + 1):
        blurred = convolved(estimate, forth) + 1e-12
        ratio = np.where(blurred < 1e-6, 0, counts / blurred)
        estimate *= convolved(ratio, back)
        if number in iterations:
            results[number] = estimate.copy()
    return results


def check() -> None:
    """Compare `scikit_image` with scikit-image on a small volume."""
    from skimage.restoration import richardson_lucy

    rng = np.random.default_rng(0)
    counts = rng.poisson(50, (9, 30, 41)).astype(np.float32)
    psf = rng.random((7, 11, 9)).astype(np.float32)
    psf /= psf.sum()
    ours = scikit_image(counts, psf, [10])[10]
    theirs = richardson_lucy(counts, psf, num_iter=10, clip=False, filter_epsilon=1e-6)
    print(f"largest difference: {np.abs(ours / theirs - 1).max():.1e} of the value")


PROGRAMS = {"RedLionfish": red_lionfish, "scikit-image": scikit_image}


def main() -> None:
    """Print one line for every volume and program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--iterations", type=int, nargs="+", default=[10, 20, 40, 80])
    parser.add_argument("--photons", type=float, help="replace the noise: photons at the peak")
    parser.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--without-ours", action="store_true")
    parser.add_argument("--check", action="store_true", help="compare with scikit-image and end")
    options = parser.parse_args()
    if options.check:
        check()
        return

    def read(name: str) -> np.ndarray:
        return tifffile.imread(options.folder / f"{name}.tif").astype(np.float32)

    if (options.folder / "pair_dna_widefield.tif").exists():
        image, truth = read("pair_dna_widefield"), read("pair_dna_confocal")
        compare("nucleus (real)", image, truth, PAIR, score_pair, options)
    for name, numbers in MICROSCOPES.items():
        for kind in KINDS:
            image, truth = (read(f"phantom_{name}_{kind}_{half}") for half in ("blurred", "truth"))
            if options.photons is not None:
                signal = (image - 100).clip(0)
                signal *= options.photons / np.percentile(signal, 99.9)
                image = np.random.default_rng(0).poisson(signal).astype(np.float32) + 100
            compare(f"{name} {kind}", image, truth, numbers | {"wavelength": 520}, score, options)


def compare(
    title: str,
    image: np.ndarray,
    truth: np.ndarray,
    numbers: dict,
    scored: Callable[[np.ndarray, np.ndarray], float],
    options: argparse.Namespace,
) -> None:
    """Print the gain of every program on one volume, in dB."""
    before = scored(image, truth)
    if not options.without_ours:
        restored, seconds = ours(image, numbers)
        gain = scored(restored, truth) - before
        print(f"{title}: automatic {gain:+.2f} dB ({seconds:.0f} s)", flush=True)
    job = prepare(image, DeblurSettings(axes="ZYX", depth="volume", **numbers))
    counts = (image - np.float32(np.percentile(image, 0.5))).clip(0)
    for program in options.programs:
        results = PROGRAMS[program](counts, job.psfs[0], options.iterations)
        gains = "  ".join(f"{n}: {scored(x, truth) - before:+.2f}" for n, x in results.items())
        print(f"{title}: {program} {gains}", flush=True)


if __name__ == "__main__":
    main()
