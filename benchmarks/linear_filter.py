"""What there is to be won on real pairs by the best linear filter of 13 x 13 pixels.

    python benchmarks/linear_filter.py --pairs CSV

For every image the filter is learned from the sharp halves of the other images of its set, which no
user has. Where even such a filter gains nothing, blurred and sharp half hardly tell of each other.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.evaluation.metrics.similarity import affine_fit, intensity_span, psnr
from napari_swintormer.evaluation.reports.pages import markdown_table

SIDE, SAMPLES = 13, 12_000  # pixels; equations of an image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="table of real pairs")
    options = parser.parse_args()
    sets: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for pair in synthetic.real_pairs(options.pairs):
        halves = standard(pair.blurred), standard(pair.sharp)
        sets.setdefault(pair.set, []).append(halves)
    rows = []
    for name, pairs in sets.items():
        gains = gains_of(pairs)
        rows.append([name, str(len(gains)), f"{np.mean(gains):+.2f}", f"{min(gains):+.2f}"])
    print(markdown_table(["set", "images", "gain, dB", "worst"], rows))


def standard(image: np.ndarray) -> np.ndarray:
    """Mean over the channels, with mean 0 and deviation 1."""
    grey = np.atleast_3d(image).mean(axis=2)
    return (grey - grey.mean()) / grey.std()


def gains_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Gain of every image over the blurred one in dB, after the intensity fit."""
    rng = np.random.default_rng(0)
    equations = []
    for blurred, sharp in pairs:
        seen, wanted = surroundings(blurred), inner(sharp).ravel()
        drawn = rng.choice(len(wanted), min(SAMPLES, len(wanted)), replace=False)
        chosen = seen[drawn]
        equations.append((chosen.T @ chosen, chosen.T @ wanted[drawn]))
    gains = []
    for k, (blurred, sharp) in enumerate(pairs):
        others = [equation for j, equation in enumerate(equations) if j != k]
        products, targets = (sum(parts) for parts in zip(*others, strict=True))
        weights = np.linalg.solve(products + 0.1 * np.eye(SIDE**2), targets)
        truth, given = inner(sharp), inner(blurred)
        filtered = (surroundings(blurred) @ weights).reshape(truth.shape)
        span = intensity_span(truth)
        scores = [psnr(affine_fit(i, truth), truth, data_range=span) for i in (filtered, given)]
        gains.append(scores[0] - scores[1])
    return gains


def surroundings(image: np.ndarray) -> np.ndarray:
    return sliding_window_view(image, (SIDE, SIDE)).reshape(-1, SIDE**2)


def inner(image: np.ndarray) -> np.ndarray:
    """Leave out the border where the filter does not fit."""
    return image[SIDE // 2 : -(SIDE // 2), SIDE // 2 : -(SIDE // 2)]


if __name__ == "__main__":
    main()
