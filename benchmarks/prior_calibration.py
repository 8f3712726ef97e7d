"""Whether the uncertainty means something: the error against the predicted deviation.

    python benchmarks/prior_calibration.py --model joint.safetensors --photo DIR --microscopy DIR \
        --out docs/models/calibration.md

Sharp images are blurred, deblurred with several samples, and compared. The table gives the rank
correlation (Spearman's) of the error with the deviation of the samples, pixel by pixel and for the
root of the mean squares of 8 x 8 pixels; beside it that of two other guesses, the residual map and
the gradient of the result: errors are larger at edges anyway, so a deviation is worth something
where it beats the gradient. The plot, an SVG file beside the table, shows the error of the pixels
in twenty classes of deviation; samples that told all of the error would lie on the diagonal.
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

CLASSES, SQUARE = 20, 8
GUESSES = ("deviation", "residual", "gradient")
SIZE, MARGIN = 420, 60  # of the plot, in its own units


def main() -> None:
    options = parse()
    restorer = load_model(options.model)
    text = [
        f"# What the uncertainty of {Path(options.model).stem} means\n",
        f"{options.samples} samples of a prior, PSF and noise as in `evaluation.datasets`.\n",
    ]
    for kind in ("photo", "microscopy"):
        folder = getattr(options, kind)
        if folder is None:
            continue
        pairs = list(islice(synthetic.blurred_pairs(folder, kind), options.images))
        maps = [measure(pair, restorer, options) for pair in pairs]
        plot = options.out.with_name(f"{options.out.stem}-{kind}.svg")
        deviation, error = classes(maps)
        plot.write_text(drawn(deviation, error), encoding="utf-8")
        text += [f"## {kind}, {len(pairs)} images\n", table(maps)]
        text += [f"![error and deviation]({plot.name})\n"]
        share = np.sqrt((deviation**2).sum() / (error**2).sum())
        text += [f"The deviation is {share:.0%} of the error (root mean squares).\n"]
    options.out.write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


def measure(pair: synthetic.SyntheticPair, restorer, options) -> dict[str, np.ndarray]:
    """Give maps (Y, X) of the error and of the guesses, in shares of the image's span."""
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
    """Rank correlation of each guess with the error, the mean over the images."""
    rows = []
    for guess in GUESSES:
        pixels = [rank(m[guess], m["error"]) for m in maps]
        squares = [rank(coarse(m[guess]), coarse(m["error"])) for m in maps]
        rows.append(
            [guess, f"{np.mean(pixels):.2f}", f"{np.mean(squares):.2f}", f"{np.min(squares):.2f}"]
        )
    return markdown_table(["guess", "pixels", f"{SQUARE} x {SQUARE} pixels", "worst image"], rows)


def rank(guess: np.ndarray, error: np.ndarray) -> float:
    """Spearman's correlation; 0 where one of the two is constant."""
    if np.ptp(guess) == 0 or np.ptp(error) == 0:
        return 0.0
    return float(spearmanr(guess.ravel(), error.ravel()).statistic)


def coarse(values: np.ndarray) -> np.ndarray:
    """Root of the mean squares of squares of pixels."""
    height, width = (n // SQUARE * SQUARE for n in values.shape)
    cut = values[:height, :width].reshape(height // SQUARE, SQUARE, width // SQUARE, SQUARE)
    return np.sqrt((cut**2).mean(axis=(1, 3)))


def classes(maps: list[dict[str, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Deviation and error of equally many pixels each, by their deviation; root mean squares."""
    deviation = np.concatenate([m["deviation"].ravel() for m in maps])
    error = np.concatenate([m["error"].ravel() for m in maps])
    order = np.argsort(deviation, kind="stable")
    parts = np.array_split(order, CLASSES)
    rms = [[np.sqrt((values[part] ** 2).mean()) for part in parts] for values in (deviation, error)]
    return np.array(rms[0]), np.array(rms[1])


def drawn(deviation: np.ndarray, error: np.ndarray) -> str:
    """Draw error against deviation, both logarithmic and in percent of the span, as SVG."""
    values = np.maximum(100 * np.stack([deviation, error]), 1e-3)
    low, high = np.floor(np.log10(values.min())), np.ceil(np.log10(values.max()))

    def place(value: float) -> float:
        return (np.log10(value) - low) / (high - low) * SIZE

    points = [(MARGIN + place(d), 10 + SIZE - place(e)) for d, e in values.T]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    end, bottom = MARGIN + SIZE, 10 + SIZE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {end + 20} {bottom + 50}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<line x1="{MARGIN}" y1="{bottom}" x2="{end}" y2="10" stroke="#999" '
        'stroke-dasharray="4"/>',
        f'<rect x="{MARGIN}" y="10" width="{SIZE}" height="{SIZE}" fill="none" stroke="#333"/>',
        f'<polyline points="{path}" fill="none" stroke="#c2410c" stroke-width="2"/>',
    ]
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#c2410c"/>' for x, y in points]
    for power in np.arange(low, high + 1):
        along, label = place(10**power), f"{10**power:g} %"
        parts.append(
            f'<text x="{MARGIN + along:.0f}" y="{bottom + 18}" text-anchor="middle">{label}</text>'
        )
        parts.append(
            f'<text x="{MARGIN - 6}" y="{bottom - along + 4:.0f}" text-anchor="end">{label}</text>'
        )
    middle = MARGIN + SIZE / 2
    parts.append(
        f'<text x="{middle}" y="{bottom + 40}" text-anchor="middle">predicted deviation, '
        "and error upwards, of the span; dashed: equal</text></svg>"
    )
    return "\n".join(parts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="model with a prior")
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy images")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--images", type=int, default=1000, help="at most so many of each folder")
    parser.add_argument("--out", type=Path, required=True, help="Markdown file to write")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    if not (options.photo or options.microscopy):
        parser.error("nothing to measure on: give --photo or --microscopy")
    return options


if __name__ == "__main__":
    main()
