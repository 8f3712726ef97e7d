"""Put a trained model into the package, with the results of its evaluation on its card.

    python recipes/publish.py --weights swintormer.safetensors --steps 19400 \
        --evaluation docs/models/evaluation

The texts of its card are those of the recipe. `swintormer evaluate` writes the evaluation of one or
several models. The default tiles are those that the engine is fastest with; the network works at
any size.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import mean, median

from train_shipped import SUMMARY, TITLE

from napari_swintormer.models.catalogue import BUILT_IN_FOLDER
from napari_swintormer.models.files.weights import load_weights, save_weights

# Sets, synthetic and real, that tell how good a model is for a kind of image.
FIELDS = {
    "photo": ("photo", "photo-layers", "pcb_stack"),
    "microscopy": (
        "microscopy",
        "algae_zstack",
        "conf_vs_widefield",
        "dfnn_microtubules",
        "dfnn_mitochondria",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--weights", type=Path, required=True, help="trained weights, NAME.safetensors"
    )
    parser.add_argument("--steps", type=int, required=True, help="training steps, of all runs")
    parser.add_argument("--evaluation", type=Path, required=True, help="folder of its evaluation")
    parser.add_argument("--tile-size", type=int, default=512, help="side of the tiles, in pixels")
    parser.add_argument("--overlap", type=int, default=64, help="overlap of the tiles, in pixels")
    arguments = parser.parse_args()

    name = arguments.weights.stem
    card, weights = load_weights(arguments.weights)
    metrics = {"training steps": float(arguments.steps)} | findings(arguments.evaluation, name)
    tiles = {"tile_size": arguments.tile_size, "overlap": arguments.overlap, "blend": "smooth"}
    changes = tiles | {"name": name, "metrics": metrics, "title": TITLE, "summary": SUMMARY}
    file = BUILT_IN_FOLDER / f"{name}.safetensors"
    save_weights(file, weights, card.model_copy(update=changes))
    print(file, *(f"{name}: {value}" for name, value in metrics.items()), sep="\n  ")


def findings(folder: Path, name: str) -> dict[str, float]:
    """Return the gains on every set and kind of image, and how little sharp images change.

    The gain on a kind is the mean over its sets, each counted once, because the real sets have few
    images.
    """
    gains: dict[str, list[float]] = {}
    kept: list[float] = []
    for row in table(folder / "scores.csv"):
        if row["method"] != name or row["set"] == "blank":
            continue
        if row["set"].startswith("sharp-"):  # compared with themselves
            kept.append(float(row["psnr"]))
        else:
            gains.setdefault(row["set"], []).append(float(row["gain"]))
    by_set = {name: mean(values) for name, values in gains.items()}
    found = {f"PSNR gain in the set {name}, dB": round(gain, 2) for name, gain in by_set.items()}
    for kind, sets in FIELDS.items():
        found[f"PSNR gain on {kind}, dB"] = round(mean(by_set[member] for member in sets), 2)
    return found | {"PSNR of sharp images to themselves, median, dB": round(median(kept), 1)}


def table(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as rows:
        return list(csv.DictReader(rows))


if __name__ == "__main__":
    main()
