"""Measures what the best linear filter of 13 x 13 pixels gains on real pairs.

    python benchmarks/linear_filter.py --pairs CSV

The filter for an image is learned from the sharp references of the other images of its set, which
no user has. If even this filter gains nothing, the blurred image tells little about the sharp one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from real_pairs import real_pairs

from napari_swintormer.evaluation.metrics.scoring import Fit
from napari_swintormer.evaluation.metrics.similarity import intensity_span, psnr
from napari_swintormer.evaluation.reports.pages import markdown_table

SIDE, SAMPLES = 13, 12_000  # pixels; equations of an image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="table of real pairs")
    options = parser.parse_args()
    sets: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for name, _, blurred, sharp in real_pairs(options.pairs):
        sets.setdefault(name, []).append((standardised(blurred), standardised(sharp)))
    rows = []
    for name, pairs in sets.items():
        gains = gains_of(pairs)
        rows.append([name, str(len(gains)), f"{np.mean(gains):+.2f}", f"{min(gains):+.2f}"])
    print(markdown_table(["set", "images", "gain, dB", "worst"], rows))


def standardised(image: np.ndarray) -> np.ndarray:
    """Average the channels; then shift and scale to mean 0 and standard deviation 1."""
    grey = np.atleast_3d(image).mean(axis=2)
    return (grey - grey.mean()) / grey.std()


def gains_of(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Measure the gain of every image over the blurred one in dB, after the intensity fit."""
    rng = np.random.default_rng(0)
    equations = []
    for blurred, sharp in pairs:
        inputs, wanted = surroundings(blurred), inner(sharp).ravel()
        drawn = rng.choice(len(wanted), min(SAMPLES, len(wanted)), replace=False)
        chosen = inputs[drawn]
        equations.append((chosen.T @ chosen, chosen.T @ wanted[drawn]))
    gains = []
    for k, (blurred, sharp) in enumerate(pairs):
        others = [equation for j, equation in enumerate(equations) if j != k]
        products, targets = (sum(parts) for parts in zip(*others, strict=True))
        weights = np.linalg.solve(products + 0.1 * np.eye(SIDE**2), targets)
        truth, given = inner(sharp), inner(blurred)
        filtered = (surroundings(blurred) @ weights).reshape(truth.shape)
        span = intensity_span(truth)
        fitted = [Fit.between(image, truth)(image) for image in (filtered, given)]
        scores = [psnr(image, truth, data_range=span) for image in fitted]
        gains.append(scores[0] - scores[1])
    return gains


def surroundings(image: np.ndarray) -> np.ndarray:
    """Give the window around every inner pixel, as rows."""
    return sliding_window_view(image, (SIDE, SIDE)).reshape(-1, SIDE**2)


def inner(image: np.ndarray) -> np.ndarray:
    """Leave out the border, where the filter does not fit."""
    return image[SIDE // 2 : -(SIDE // 2), SIDE // 2 : -(SIDE // 2)]


if __name__ == "__main__":
    main()
