"""Train a model further on real pairs, and measure it on pairs of other recordings.

    python recipes/fine_tune.py --pairs eval_pairs.csv --set dfnn_microtubules --out fine_tuned

The table has the columns ``set``, ``blurred`` and ``sharp``, paths relative to it. Pairs that share
a sharp image are one recording; the recording of ``--held-out`` is only measured on.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from napari_swintormer import deblur, train
from napari_swintormer.config import DEFAULT_MODEL
from napari_swintormer.evaluation.metrics import affine_fit, intensity_span, psnr, ssim
from napari_swintormer.imaging.files import open_image
from napari_swintormer.training.settings import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="CSV table of pairs")
    parser.add_argument("--set", required=True, help="set of pairs in the table")
    parser.add_argument("--held-out", default="", help="name of a sharp image; the first otherwise")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    rows = [row for row in csv.DictReader(arguments.pairs.open()) if row["set"] == arguments.set]
    held_out = next(r["sharp"] for r in rows if arguments.held_out in r["sharp"])
    folder = arguments.pairs.parent
    learned = [r for r in rows if r["sharp"] != held_out]
    measured = [r for r in rows if r["sharp"] == held_out]

    arguments.out.mkdir(parents=True, exist_ok=True)
    weights = arguments.out / f"{arguments.set}.safetensors"
    began = time.process_time()
    train(
        [read(folder / r["blurred"]) for r in learned],
        [read(folder / r["sharp"]) for r in learned],
        weights,
        from_model=arguments.model,
        device=arguments.device,
        keep="best",
        progress=True,
        **PRESETS["quick"],
    )
    minutes = (time.process_time() - began) / 60

    lines = [
        f"{len(learned)} pairs to learn from, {minutes:.1f} minutes of one core.",
        "",
        "| pair | blurred | shipped | fine-tuned |",
        "|---|---|---|---|",
    ]
    scores = []
    for row in measured:
        blurred, sharp = read(folder / row["blurred"]), read(folder / row["sharp"])
        images = [
            blurred,
            *(restore(blurred, m, arguments.device) for m in (arguments.model, weights)),
        ]
        scores.append([score(image, sharp) for image in images])
        lines.append(f"| {Path(row['blurred']).stem} | {cells(scores[-1])} |")
    lines.append(f"| mean | {cells(np.mean(scores, axis=0))} |")
    text = "\n".join(lines)
    (arguments.out / f"{arguments.set}.md").write_text(text + "\n")
    print(text)


def read(file: Path) -> np.ndarray:
    with open_image(file) as image:
        return np.asarray(image.data[...])


def restore(blurred: np.ndarray, model: str | Path, device: str) -> np.ndarray:
    return deblur(blurred, str(model), device=device)


def score(image: np.ndarray, sharp: np.ndarray) -> tuple[float, float]:
    """PSNR and SSIM over the whole image after a fit of the intensities, as docs/models says."""
    span, fitted = intensity_span(sharp), affine_fit(image, sharp)
    colours = {"channel_axis": 2} if sharp.ndim == 3 else {}
    return (
        psnr(fitted, sharp, data_range=span),
        ssim(fitted, sharp.astype(float), data_range=span, **colours),
    )


def cells(scores: list[tuple[float, float]]) -> str:
    return " | ".join(f"{in_db:.2f} dB, {similar:.3f}" for in_db, similar in scores)


if __name__ == "__main__":
    main()
