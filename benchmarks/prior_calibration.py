"""Measures whether the uncertainty of a model predicts its error.

    python benchmarks/prior_calibration.py --photo DIR --microscopy DIR --out FILE.md

Sharp images are blurred, restored with several samples, and compared. The table gives the rank
correlation (Spearman) of the error with three predictions: the deviation of the samples, the
residual map, and the gradient of the result. Errors are larger at edges anyway, so a deviation has
to beat the gradient. Columns: pixel by pixel, and for the root mean square of 8 x 8 pixels.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_gradient_magnitude
from scipy.stats import spearmanr

from napari_swintormer import deblur, load_model
from napari_swintormer.evaluation.data import synthetic
from napari_swintormer.evaluation.metrics.similarity import intensity_span
from napari_swintormer.evaluation.reports.pages import markdown_table
from napari_swintormer.evaluation.residual import residual_map

SQUARE = 8  # pixels
GUESSES = ("deviation", "residual", "gradient")


def main() -> None:
    options = parse()
    restorer = load_model(options.model)
    text = [
        f"# What the uncertainty of {Path(options.model).stem} means\n",
        f"{options.samples} samples; blur and noise of `evaluation/data/synthetic.py`.\n",
    ]
    for kind in ("photo", "microscopy"):
        folder = getattr(options, kind)
        if folder is None:
            continue
        pairs = list(islice(synthetic.blurred_pairs(folder, kind), options.images))
        maps = [measure(pair, restorer, options) for pair in pairs]
        squares = {k: sum((m[k] ** 2).sum() for m in maps) for k in ("deviation", "error")}
        share = np.sqrt(squares["deviation"] / squares["error"])
        text += [f"## {kind}, {len(pairs)} images\n", table(maps)]
        text += [f"The deviation is {share:.0%} of the error (root mean squares).\n"]
    options.out.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


def measure(pair: synthetic.SyntheticPair, restorer, options) -> dict[str, np.ndarray]:
    """Map the error and the predictions, ``(Y, X)`` in shares of the image's span."""
    result, deviation = deblur(
        pair.blurred,
        restorer,
        axes=pair.axes,
        samples=options.samples,
        uncertainty=True,
        device=options.device,
        precision=options.precision,
    )
    sharp, result = pair.sharp.astype(np.float64), result.astype(np.float64)
    sigma = (1.0, 1.0, 0.0)[: result.ndim]
    maps = {
        "error": result - sharp,
        "deviation": deviation.astype(np.float64),
        "residual": residual_map(pair.blurred, result, pair.axes).astype(np.float64),
        "gradient": gaussian_gradient_magnitude(result, sigma),
    }
    span = intensity_span(pair.sharp)
    colours = {k: v if v.ndim == 3 else v[..., None] for k, v in maps.items()}
    found = {k: np.sqrt((v**2).mean(axis=-1)) / span for k, v in colours.items()}
    print(pair.set, pair.name, f"{rank(found['deviation'], found['error']):.2f}", flush=True)
    return found


def table(maps: list[dict[str, np.ndarray]]) -> str:
    """Make a table of the rank correlation of each prediction with the error."""
    rows = []
    for guess in GUESSES:
        pixels = [rank(m[guess], m["error"]) for m in maps]
        squares = [rank(coarse(m[guess]), coarse(m["error"])) for m in maps]
        rows.append(
            [guess, f"{np.mean(pixels):.2f}", f"{np.mean(squares):.2f}", f"{np.min(squares):.2f}"]
        )
    return markdown_table(
        ["prediction", "pixels", f"{SQUARE} x {SQUARE} pixels", "worst image"], rows
    )


def rank(guess: np.ndarray, error: np.ndarray) -> float:
    """Compute Spearman's correlation; 0 if one of the two is constant."""
    if np.ptp(guess) == 0 or np.ptp(error) == 0:
        return 0.0
    return float(spearmanr(guess.ravel(), error.ravel()).statistic)


def coarse(values: np.ndarray) -> np.ndarray:
    """Compute the root mean square of squares of pixels."""
    height, width = (n // SQUARE * SQUARE for n in values.shape)
    cut = values[:height, :width].reshape(height // SQUARE, SQUARE, width // SQUARE, SQUARE)
    return np.sqrt((cut**2).mean(axis=(1, 3)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="model with a prior")
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy images")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--images", type=int, default=1000, help="largest number of each folder")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    if not (options.photo or options.microscopy):
        parser.error("nothing to measure on: give --photo or --microscopy")
    return options


if __name__ == "__main__":
    main()
