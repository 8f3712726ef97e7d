"""Judge a model on blurred photos and microscopy and on real pairs, and write what came out.

    python recipes/evaluate.py --model swintormer-small --photo DIR --microscopy DIR --pairs CSV \
        --out docs/models/swintormer-small/

Writes `evaluation.md` (tables), `scores.csv` (every image and method), `sharp.csv` (how little
sharp images change) and one picture of crops per data set. What is measured, and how, is told in
docs/models/README.md.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from napari_swintormer import deblur, load_model
from napari_swintormer.evaluation import datasets, report
from napari_swintormer.evaluation.baselines import BASELINES
from napari_swintormer.evaluation.metrics import intensity_span, psnr


def main() -> None:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    name = Path(options.model).stem

    restorer = load_model(options.model)

    def restore(image, axes):
        return deblur(image, restorer, axes=axes, device=options.device)

    methods = {name: restore} if options.only_model else {name: restore, **BASELINES}
    sources = {
        "photo": partial(datasets.blurred_pairs, options.photo, "photo"),
        "microscopy": partial(datasets.blurred_pairs, options.microscopy, "microscopy"),
        "pairs": partial(datasets.real_pairs, options.pairs),
    }
    titles = {
        "photo": "Photos, blurred by us",
        "microscopy": "Microscopy, blurred by us",
        "pairs": "Real pairs",
    }
    text = [f"# Evaluation of {name}\n"]
    everything, kept = [], []
    for source, pairs in sources.items():
        if getattr(options, source) is None:
            continue
        comparisons = []
        for pair in pairs():
            comparison = report.compare(pair, methods, oracle=options.oracle)
            comparisons.append(comparison)
            print(f"{pair.set} {pair.name}: {comparison.gain(name):+.2f} dB", flush=True)
            if not pair.fit_intensity:
                kept.append((pair.set, pair.name, *sharp_kept(pair, restore)))
        text += tables(titles[source], comparisons, name)
        columns = [report.BLURRED, *list(methods)[:2], report.SHARP]
        picture = report.crops_picture(comparisons, columns, chosen_by=name)
        picture.save(options.out / f"crops-{source}.png", optimize=True)
        text.append(f"![crops](crops-{source}.png)\n")
        everything += comparisons
    if kept:
        text += ["## Sharp images stay as they are\n", kept_table(kept)]
        lines = [
            f"{source},{image},{itself:.2f},{change:.2f}" for source, image, itself, change in kept
        ]
        header = "set,image,psnr_to_itself,largest_change_percent"
        (options.out / "sharp.csv").write_text("\n".join([header, *lines, ""]), encoding="utf-8")
    text += ["## Blank fields\n", fields_table(restore)]
    report.write_scores(options.out / "scores.csv", everything)
    (options.out / "evaluation.md").write_text("\n".join(text), encoding="utf-8")
    print("\n".join(text))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="name in the catalogue or weights file")
    parser.add_argument("--photo", type=Path, help="folder of sharp photos")
    parser.add_argument("--microscopy", type=Path, help="folder of sharp microscopy images")
    parser.add_argument("--pairs", type=Path, help="CSV file with columns blurred, sharp, set")
    parser.add_argument("--out", type=Path, required=True, help="folder for the report")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--oracle", action="store_true", help="add Richardson-Lucy at its best σ")
    parser.add_argument("--only-model", action="store_true", help="leave the baselines out")
    options = parser.parse_args()
    if not (options.photo or options.microscopy or options.pairs):
        parser.error("nothing to evaluate on: give --photo, --microscopy or --pairs")
    return options


def sharp_kept(pair: datasets.Pair, restore) -> tuple[float, float]:
    """PSNR of the restored sharp image to itself, and its largest change, in % of its range."""
    restored = restore(pair.sharp, pair.axes)
    span = intensity_span(pair.sharp)
    change = np.abs(restored.astype(float) - pair.sharp).max()
    return psnr(restored, pair.sharp, data_range=span), 100 * change / span


def tables(title: str, comparisons: list[report.Comparison], name: str) -> list[str]:
    return [
        f"## {title}\n",
        "PSNR in dB (gain over the blurred image):\n",
        report.score_table(comparisons, "psnr"),
        "SSIM:\n",
        report.score_table(comparisons, "ssim"),
        f"{name}, image by image:\n",
        report.spread_table(comparisons, name),
    ]


def kept_table(kept: list[tuple[str, str, float, float]]) -> str:
    rows = []
    for source in dict.fromkeys(row[0] for row in kept):
        members = [row for row in kept if row[0] == source]
        values = [row[2] for row in members]
        worst = min(members, key=lambda row: row[2])
        below = sum(value < 38 for value in values)
        rows.append(
            [
                source,
                f"{np.median(values):.1f}",
                f"{worst[2]:.1f} ({worst[1]})",
                f"{below} of {len(values)}",
                f"{max(row[3] for row in members):.1f} %",
            ]
        )
    header = ["set", "PSNR to itself (dB), median", "lowest", "below 38 dB", "largest change"]
    return report.markdown_table(header, rows)


def fields_table(restore) -> str:
    rows = []
    for field in datasets.blank_fields():
        restored = restore(field.image, "YX").astype(float)
        before = np.sqrt(np.mean((field.image - field.clean) ** 2))
        after = np.sqrt(np.mean((restored - field.clean) ** 2))
        change = np.abs(restored - field.image).max()
        rows.append([field.name, f"{before:.2f}", f"{after:.2f}", f"{change:.0f}"])
    return report.markdown_table(
        ["field", "noise before (counts)", "after", "largest change"], rows
    )


if __name__ == "__main__":
    main()
