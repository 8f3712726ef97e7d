"""Compare the CPU time of an iteration of Richardson-Lucy with RedLionfish's, in turns.

RedLionfish works without a margin: light that leaves at one border comes back at the other. So it
is measured twice: on the image, and on an image as large as the object that our engine restores.
The sides of that image are lengths that its Fourier transforms are fast for. Times are medians over
the iterations of all turns, in one process and on one core::

    python benchmarks/stack_speed.py 64 256 256
"""

from __future__ import annotations

import argparse
import time
from math import prod
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.fft import next_fast_len

from napari_swintormer.engine.richardson_lucy import RegionDeconvolver
from napari_swintormer.optics.stack_optics import StackOptics
from napari_swintormer.optics.stack_psf import stack_psf
from napari_swintormer.tiling.stack_regions import object_shape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Volume = NDArray[np.float32]

PSF = (127, 97, 97)
OPTICS = StackOptics(na=1.4, emission=0.52, pixel_size=0.09, z_step=0.25, immersion_index=1.515)


def main() -> None:
    """Print the microseconds that an iteration takes per voxel of the image."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", type=int, nargs=3, help="Z Y X of the image")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    psf, shape = stack_psf(OPTICS, PSF), tuple(options.shape)
    wide = tuple(next_fast_len(side, real=True) for side in object_shape(PSF, shape[0], shape[1:]))
    rng = np.random.default_rng(0)
    image, larger = (rng.poisson(50, size).astype(np.float32) for size in (shape, wide))
    engine = iterations(psf, image)
    next(engine)
    times: dict[str, list[float]] = {}
    for _ in range(options.turns):
        for _ in range(3):
            times.setdefault("our engine", []).append(next(engine))
        times.setdefault("RedLionfish", []).extend(iterations_there(psf, image))
        times.setdefault(f"RedLionfish, {wide}", []).extend(iterations_there(psf, larger))
    for name, seconds in times.items():
        value, least, most = (1e6 * f(seconds) / prod(shape) for f in (median, min, max))
        ratio = median(times["our engine"]) / median(seconds)
        print(f"{name}: {value:.4f} µs ({least:.4f} to {most:.4f}); ours takes {ratio:.2f} of it")


def iterations(psf: Volume, counts: Volume) -> Iterator[float]:
    """Make iterations with our engine; yield the CPU seconds of each."""
    size = object_shape(psf.shape, counts.shape[0], counts.shape[1:])
    steps = RegionDeconvolver(psf, len(counts), *size, torch.device("cpu"), cut=False)
    measured = torch.from_numpy(counts)
    gain = steps.gain(torch.ones_like(measured))
    estimate, previous = torch.full(size, 50.0), torch.full(size, 50.0)
    number = 0
    while True:
        start = time.process_time()
        previous, estimate = estimate, steps.step(measured, estimate, previous, number, gain)
        yield time.process_time() - start
        number += 1


def iterations_there(psf: Volume, counts: Volume) -> list[float]:
    """Make some iterations with RedLionfish; return the CPU seconds of each but the first."""
    from RedLionfishDeconv.RLDeconv3DScipy import doRLDeconvolution_DL2_4 as red_lionfish

    ends: list[float] = []
    red_lionfish(counts, psf, niter=4, callbkTickFunc=lambda: ends.append(time.process_time()))
    return np.diff(ends).tolist()


if __name__ == "__main__":
    main()
