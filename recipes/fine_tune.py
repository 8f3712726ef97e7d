"""Train a model further on real pairs, and measure it on pairs of another recording.

    python recipes/fine_tune.py --pairs eval_pairs.csv --set dfnn_microtubules --out fine_tuned

The table has the columns ``set``, ``blurred`` and ``sharp``, with paths relative to it. Pairs with
the same sharp image are one recording. The recording of ``--held-out`` is not trained on. With
``--doors python cli widget`` the same training runs in Python, on the command line and in the Train
panel of a viewer (which needs a display), and the three weights files are compared.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from napari_swintormer import deblur, train
from napari_swintormer.evaluation.metrics.scoring import Fit
from napari_swintormer.evaluation.metrics.similarity import intensity_span, psnr, ssim
from napari_swintormer.imaging.formats.reading import open_image
from napari_swintormer.models.files.weights import load_weights
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL
from napari_swintormer.settings.preferences import models_folder
from napari_swintormer.training.train_presets import PRESETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, required=True, help="CSV table of pairs")
    parser.add_argument("--set", required=True, help="set of pairs in the table")
    parser.add_argument("--held-out", default="", help="name of a sharp image; default: the first")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model to start from")
    parser.add_argument("--out", type=Path, required=True, help="folder of the result")
    parser.add_argument("--doors", nargs="+", choices=list(DOORS), default=["python"])
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    rows = [row for row in csv.DictReader(arguments.pairs.open()) if row["set"] == arguments.set]
    held_out = next(r["sharp"] for r in rows if arguments.held_out in r["sharp"])
    folder = arguments.pairs.parent
    learned = [r for r in rows if r["sharp"] != held_out]
    measured = [r for r in rows if r["sharp"] == held_out]
    folders = copy_pairs(folder, learned, arguments.out / "pairs")

    weights, lines = {}, [f"{len(learned)} pairs to learn from.", ""]
    for door in arguments.doors:
        weights[door] = arguments.out / f"{arguments.set}-{door}.safetensors"
        began = time.time()
        DOORS[door](*folders, weights[door], arguments.model, arguments.device)
        lines.append(f"{door}: {(time.time() - began) / 60:.1f} minutes")
    states = [load_weights(file)[1] for file in weights.values()]
    same = all(bool((state[key] == states[0][key]).all()) for state in states for key in state)
    lines += [f"The weights are the same: {same}.", ""] if len(states) > 1 else [""]

    lines += [f"| pair | blurred | shipped | {' | '.join(weights)} |"]
    lines += ["|---" * (3 + len(weights)) + "|"]
    scores = []
    for row in measured:
        blurred, sharp = read(folder / row["blurred"]), read(folder / row["sharp"])
        models = (arguments.model, *weights.values())
        images = [blurred, *(restore(blurred, m, arguments.device) for m in models)]
        scores.append([score(image, sharp) for image in images])
        lines.append(f"| {Path(row['blurred']).stem} | {cells(scores[-1])} |")
    lines.append(f"| mean | {cells(np.mean(scores, axis=0))} |")
    text = "\n".join(lines)
    (arguments.out / f"{arguments.set}.md").write_text(text + "\n")
    print(text)


def copy_pairs(folder: Path, rows: list[dict[str, str]], target: Path) -> tuple[Path, Path]:
    """Copy the pairs into two folders, under the names that arrays in a list get."""
    folders = target / "blurred", target / "sharp"
    for made, half in zip(folders, ("blurred", "sharp"), strict=True):
        made.mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(rows):
            file = folder / row[half]
            shutil.copyfile(file, made / f"sharp {number}{file.suffix}")
    return folders


def by_python(blurred: Path, sharp: Path, out: Path, model: str, device: str) -> None:
    quick = PRESETS["quick"]
    train(blurred, sharp, out, from_model=model, device=device, keep="best", progress=True, **quick)


def by_cli(blurred: Path, sharp: Path, out: Path, model: str, device: str) -> None:
    options = {"blurred": blurred, "sharp": sharp, "out": out, "from": model, "device": device}
    options |= {"keep": "best"} | PRESETS["quick"]
    options["lr"] = options.pop("learning_rate")
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "napari_swintormer", "train", *arguments]
    subprocess.run(command, check=True)


def by_widget(blurred: Path, sharp: Path, out: Path, model: str, device: str) -> None:
    """Fill in the form of the Train panel in a viewer, and press its button."""
    import napari
    from qtpy.QtCore import QTimer

    viewer = napari.Viewer()
    _, widget = viewer.window.add_plugin_dock_widget("napari-swintormer", "Train")
    form = widget.form
    form.sources.setCurrentIndex(1)
    form.sources.blurred_folder.value, form.sources.sharp_folder.value = blurred, sharp
    form.name.value, form.device.value, form.model.value = out.stem, device, model

    def end() -> None:
        print(widget.run_panel.message.text())
        viewer.close()

    widget.finished.connect(lambda _: QTimer.singleShot(1000, end))
    QTimer.singleShot(1000, widget.run_panel.run.click)
    napari.run()
    shutil.move(models_folder() / out.name, out)


DOORS = {"python": by_python, "cli": by_cli, "widget": by_widget}


def read(file: Path) -> np.ndarray:
    with open_image(file) as image:
        return np.asarray(image.data[...])


def restore(blurred: np.ndarray, model: str | Path, device: str) -> np.ndarray:
    return deblur(blurred, str(model), device=device)


def score(image: np.ndarray, sharp: np.ndarray) -> tuple[float, float]:
    """Return PSNR and SSIM over the whole image after a fit of gain and offset."""
    span, fitted = intensity_span(sharp), Fit.between(image, sharp)(image)
    colours = {"channel_axis": 2} if sharp.ndim == 3 else {}
    return (
        psnr(fitted, sharp, data_range=span),
        ssim(fitted, sharp.astype(float), data_range=span, **colours),
    )


def cells(scores: list[tuple[float, float]]) -> str:
    return " | ".join(f"{in_db:.2f} dB, {similar:.3f}" for in_db, similar in scores)


if __name__ == "__main__":
    main()
