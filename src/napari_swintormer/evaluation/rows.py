"""Rows of an evaluation: the scores of one method on one image, in a journal and as a table."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_swintormer.evaluation.methods.methods import BLURRED

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Row:
    """The scores of one method on one image; NaN where a metric does not apply."""

    protocol: str
    set: str
    image: str
    split: str
    method: str
    scores: dict[str, float]
    seconds: float  # that the method took
    crop: str  # PNG files in the journal's folder, without the suffix
    sharp_crop: str
    macs_per_pixel: float | None = None  # multiply-accumulates of a model for a pixel


def read_rows(journal: Path) -> dict[str, Row]:
    """Read the rows of a journal by their crop; skip lines that a killed run left incomplete."""
    known = {}
    if journal.is_file():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                row = Row(**json.loads(line))
            except ValueError:
                continue
            known[row.crop] = row
    return known


def append_rows(journal: Path, rows: Iterable[Row]) -> None:
    """Append rows to a journal, one JSON object a line."""
    with journal.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(row)) + "\n" for row in rows)


def write_scores(path: Path, rows: Iterable[Row]) -> None:
    """Write a CSV file with one line per image and method; `gain` is the PSNR over the blurred."""
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row.scores)
    base = {(r.protocol, r.set, r.image): r.scores["psnr"] for r in rows if r.method == BLURRED}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        others = [name for name in names if name != "psnr"]
        head = ["protocol", "set", "image", "split", "method", "psnr", "gain"]
        writer.writerow([*head, *others, "macs_per_pixel", "seconds"])
        for r in rows:
            psnr = r.scores["psnr"]
            figures = [psnr, psnr - base[r.protocol, r.set, r.image]]
            figures += [r.scores.get(name, float("nan")) for name in others]
            cells = ["" if np.isnan(figure) else f"{figure:.5g}" for figure in figures]
            macs = "" if r.macs_per_pixel is None else f"{r.macs_per_pixel:.0f}"
            image = [r.protocol, r.set, r.image, r.split]
            writer.writerow([*image, r.method, *cells, macs, f"{r.seconds:.2f}"])
