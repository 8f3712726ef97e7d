"""Put a trained model into the package, with what its evaluation found on its card.

    python recipes/publish.py --weights swintormer-small.safetensors --steps 6000 \
        --evaluation docs/models/swintormer-small

`swintormer evaluate` writes the evaluation. The tiles are those that the engine is quickest with;
the network itself was trained on patches and works at any size.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import mean, median

from napari_swintormer.models.catalogue import BUILT_IN_FOLDER
from napari_swintormer.models.weights import load_weights, save_weights

TILES = {"tile_size": 512, "overlap": 64, "blend": "smooth"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="trained weights file")
    parser.add_argument("--steps", type=int, required=True, help="training steps, of all runs")
    parser.add_argument("--evaluation", type=Path, required=True, help="folder of its evaluation")
    parser.add_argument("--summary", help="what it is good for and what not, for the card")
    arguments = parser.parse_args()

    card, weights = load_weights(arguments.weights)
    metrics = {"training steps": float(arguments.steps)} | findings(arguments.evaluation, card.name)
    changes = TILES | {"metrics": metrics}
    if arguments.summary:
        changes["summary"] = arguments.summary
    file = BUILT_IN_FOLDER / f"{card.name}.safetensors"
    save_weights(file, weights, card.model_copy(update=changes))
    print(file, *(f"{name}: {value}" for name, value in metrics.items()), sep="\n  ")


def findings(folder: Path, name: str) -> dict[str, float]:
    """Gains on every set, and how little sharp images change, from the evaluation's table."""
    gains: dict[str, list[float]] = {}
    kept: list[float] = []
    for row in table(folder / "scores.csv"):
        if row["method"] != name or row["set"] == "blank":
            continue
        if row["set"].startswith("sharp-"):  # given as they are: to themselves
            kept.append(float(row["psnr"]))
        else:
            gains.setdefault(row["set"], []).append(float(row["gain"]))
    found = {f"PSNR gain on {kind}, dB": round(mean(gains[kind]), 2) for kind in gains}
    return found | {"PSNR of sharp images to themselves, median, dB": round(median(kept), 1)}


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as rows:
        return list(csv.DictReader(rows))


if __name__ == "__main__":
    main()
