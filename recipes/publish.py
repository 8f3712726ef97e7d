"""Put a trained model into the package, with what its evaluation found on its card.

    python recipes/publish.py --weights microscopy.safetensors --steps 19400 \
        --evaluation docs/models/evaluation

`swintormer evaluate` writes the evaluation, of one model or of several. The tiles unless given are
those that the engine is quickest with; the network was trained on patches and works at any size.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from statistics import mean, median

from napari_swintormer.models.catalogue import BUILT_IN_FOLDER
from napari_swintormer.models.files.weights import load_weights, save_weights

# Sets that say how good a model is for images of a kind, made by us and real.
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
    parser.add_argument("--tile-size", type=int, default=512, help="that it works best on")
    parser.add_argument("--overlap", type=int, default=64, help="of neighbouring tiles")
    parser.add_argument("--summary", help="what it is good for and what not, for the card")
    arguments = parser.parse_args()

    name = arguments.weights.stem
    card, weights = load_weights(arguments.weights)
    metrics = {"training steps": float(arguments.steps)} | findings(arguments.evaluation, name)
    tiles = {"tile_size": arguments.tile_size, "overlap": arguments.overlap, "blend": "smooth"}
    changes = tiles | {"name": name, "metrics": metrics}
    if arguments.summary:
        changes["summary"] = arguments.summary
    file = BUILT_IN_FOLDER / f"{name}.safetensors"
    save_weights(file, weights, card.model_copy(update=changes))
    print(file, *(f"{name}: {value}" for name, value in metrics.items()), sep="\n  ")


def findings(folder: Path, name: str) -> dict[str, float]:
    """Gains on every set and kind of image, and how little sharp images change.

    A model is recommended for a kind of image by its mean over the sets of that kind, each counted
    once: the real ones have few images.
    """
    gains: dict[str, list[float]] = {}
    kept: list[float] = []
    for row in table(folder / "scores.csv"):
        if row["method"] != name or row["set"] == "blank":
            continue
        if row["set"].startswith("sharp-"):  # given as they are: to themselves
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
