"""The report of an evaluation: tables, intervals and pictures, as Markdown and as HTML."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_swintormer import __version__
from napari_swintormer.evaluation.data.pair_images import CROP
from napari_swintormer.evaluation.data.protocols import PROTOCOLS
from napari_swintormer.evaluation.evaluation import JOURNAL, write_scores
from napari_swintormer.evaluation.methods.methods import BLURRED
from napari_swintormer.evaluation.reports.intervals import (
    LEVEL,
    RESAMPLES,
    bootstrap,
    paired_difference,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from napari_swintormer.evaluation.evaluation import Row
    from napari_swintormer.evaluation.reports.intervals import Mean

ZOOM = 2
_LINE = 20  # pixels of text above a crop
_HARM = 0.05  # dB that count as worse
_DIGITS = {"psnr": 2, "frc": 2}
_TITLES = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "ssim3d": "SSIM, 3-D",
    "mae": "MAE",
    "ms_ssim": "MS-SSIM",
    "gmsd": "GMSD",
    "lpips": "LPIPS",
    "frc": "FRC (pixels)",
}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:1100px;margin:2em auto;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.2em .7em;text-align:right}
td:first-child,th:first-child{text-align:left}tr{border-bottom:1px solid #ccc}img{max-width:100%}
details table{font-size:13px}"""


@dataclass(frozen=True)
class Table:
    """Cells of text; the first column goes to the left, the others to the right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    folded: str = ""  # in HTML, shown when this title is clicked; not in Markdown


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the report's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Picture:
    """A file beside the report."""

    file: str
    text: str


Part = str | Heading | Table | Picture


def write_report(folder: Path, title: str, rows: Sequence[Row]) -> list[Path]:
    """Write ``scores.csv``, ``report.md``, ``report.html`` and a picture for each set.

    Parameters
    ----------
    folder
        Of the evaluation, with its journal.
    title
        Of the report.
    rows
        Of the evaluation, at least one.

    Returns
    -------
    list of Path
        The files.
    """
    parts: list[Part] = [Heading(title, 1), _introduction(rows)]
    pictures = []
    for name in dict.fromkeys(row.protocol for row in rows):
        own = [row for row in rows if row.protocol == name]
        parts += [Heading(name), PROTOCOLS[name].about]
        for images, group in _groups(own).items():
            parts += _group_parts(images, group)
            if len(_methods(group)) > 1 and images in {row.set for row in group}:
                file = folder / f"crops-{name}-{re.sub(r'[^A-Za-z0-9._-]', '-', images)}.png"
                crops_picture(folder / JOURNAL, group).save(file, optimize=True)
                pictures.append(file)
                about = f"{images}: best, median and worst gain; crops with the most detail"
                parts.append(Picture(file.name, about))
    parts.append(_image_table(rows))
    files = [folder / "scores.csv", folder / "report.md", folder / "report.html"]
    write_scores(files[0], rows)
    files[1].write_text(markdown(parts), encoding="utf-8")
    files[2].write_text(html(title, parts), encoding="utf-8")
    return files + pictures


def _introduction(rows: Sequence[Row]) -> str:
    return (
        f"Made with `swintormer evaluate`, napari-swintormer {__version__}. Means over the images "
        f"of a set, with the {LEVEL:.0%} interval of {RESAMPLES} bootstrap samples of the images; "
        "gains and differences are taken image by image. Every figure of every image is "
        "in `scores.csv`."
        + ("" if any(row.method != BLURRED for row in rows) else " No method was asked for.")
    )


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Give the sets in the order in which they came, and their splits after them."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.set, []).append(row)
    for row in rows:
        if row.split:
            groups.setdefault(f"{row.set}, {row.split}", []).append(row)
    return groups


def _methods(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.method for row in rows))


def _group_parts(name: str, rows: Sequence[Row]) -> list[Part]:
    """Tables of a set: every method, then how methods differ from the first."""
    images = len({row.image for row in rows})
    parts: list[Part] = [Heading(f"{name} ({images} image{'s' * (images != 1)})", 3)]
    parts.append(score_table(rows))
    others = _methods(rows)[2:]
    if others:
        parts.append(difference_table(rows, _methods(rows)[1], others))
    return parts


def score_table(rows: Sequence[Row]) -> Table:
    """Means of every metric for each method of a set, and what it wins over the blurred image."""
    metrics = [
        name
        for name in dict.fromkeys(name for row in rows for name in row.scores)
        if any(np.isfinite(row.scores.get(name, np.nan)) for row in rows)
    ]
    header = ["method", "gain (dB)", "worst", "worse"]
    header += [_TITLES[name] for name in metrics] + ["GMACs / megapixel", "s / image"]
    cells = []
    for method in _methods(rows):
        own = [row for row in rows if row.method == method]
        line = [method, *_gain_cells(rows, method)]
        for name in metrics:
            values = [row.scores.get(name, np.nan) for row in own]
            line.append(_interval(bootstrap(values), _DIGITS.get(name, 3), signed=False))
        macs = [row.macs_per_pixel for row in own if row.macs_per_pixel is not None]
        line.append(f"{np.mean(macs) / 1e3:.1f}" if macs else "")
        cells.append([*line, f"{np.mean([row.seconds for row in own]):.2f}"])
    return Table(header, cells)


def _gain_cells(rows: Sequence[Row], method: str) -> list[str]:
    if method == BLURRED:
        return ["", "", ""]
    own = _figures(rows, method, "psnr")
    base = _figures(rows, BLURRED, "psnr")
    if np.isinf(list(base.values())).any():  # given the sharp images, a method can only lose
        worst = min(own, key=lambda image: own[image])
        return ["", f"{own[worst]:.2f} ({worst})", ""]
    gains = {image: own[image] - base[image] for image in own}
    worst = min(gains, key=lambda image: gains[image])
    worse = sum(gain < -_HARM for gain in gains.values())
    mean = _interval(paired_difference(list(own.values()), [base[i] for i in own]), 2, signed=True)
    return [mean, f"{gains[worst]:+.2f} ({worst})", f"{worse} of {len(gains)}"]


def difference_table(rows: Sequence[Row], first: str, others: Sequence[str]) -> Table:
    """How much better the first method is than others, image by image, in PSNR and SSIM."""
    cells = []
    for other in others:
        line = [f"{first} - {other}"]
        for name, digits in (("psnr", 2), ("ssim", 4)):
            a, b = _figures(rows, first, name), _figures(rows, other, name)
            both = [image for image in a if image in b]
            mean = paired_difference([a[i] for i in both], [b[i] for i in both])
            # images that a method does not touch are infinitely like themselves
            known = np.isfinite(mean.value)
            line.append(_interval(mean, digits, signed=True) if known else "")
        better = sum(
            x > y
            for x, y in zip(
                (_figures(rows, first, "psnr")[i] for i in both),
                (_figures(rows, other, "psnr")[i] for i in both),
                strict=True,
            )
        )
        cells.append([*line, f"{better} of {len(both)}"])
    return Table(["paired difference", "PSNR (dB)", "SSIM", "better (PSNR)"], cells)


def _figures(rows: Iterable[Row], method: str, metric: str) -> dict[str, float]:
    return {row.image: row.scores[metric] for row in rows if row.method == method}


def _merits(rows: Sequence[Row], method: str) -> dict[str, float]:
    """PSNR that a method wins; its PSNR where it was given the sharp image itself."""
    own, base = _figures(rows, method, "psnr"), _figures(rows, BLURRED, "psnr")
    return {i: own[i] if np.isinf(base[i]) else own[i] - base[i] for i in own}


def _interval(mean: Mean, digits: int, *, signed: bool) -> str:
    sign = "+" if signed else ""
    text = f"{mean.value:{sign}.{digits}f}"
    if np.isnan(mean.low):
        return text
    return f"{text} [{mean.low:{sign}.{digits}f}, {mean.high:{sign}.{digits}f}]"


def _image_table(rows: Sequence[Row]) -> Table:
    header = ["image", "method", "PSNR (dB)", "SSIM", "MAE", "s"]
    cells = [
        [
            f"{row.set}: {row.image}",
            row.method,
            *(f"{row.scores[n]:.{d}f}" for n, d in (("psnr", 2), ("ssim", 3), ("mae", 4))),
            f"{row.seconds:.2f}",
        ]
        for row in rows
    ]
    return Table(header, cells, folded="Every image")


def crops_picture(folder: Path, rows: Sequence[Row]) -> Image.Image:
    """Picture with a line for the best, the median and the worst gain of a set.

    The gain is that of the first method. Choosing by rule, not by eye, keeps the picture honest.

    Parameters
    ----------
    folder
        With the crops.
    rows
        Of one set, with a method beside the blurred image.
    """
    methods = _methods(rows)
    lines = []
    first = _merits(rows, methods[1])
    ranked = sorted(first, key=lambda image: first[image])
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    for rank, image in list(chosen.items())[: len(ranked)]:
        by_method = {row.method: row for row in rows if row.image == image}
        merits = {m: _merits(rows, m).get(image, np.nan) for m in methods}
        lines.append((f"{rank}: {image}", by_method, merits))
    side = CROP * ZOOM
    size = (side * (len(methods) + 1), (side + _LINE) * len(lines))
    picture = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    for i, (label, by_method, merits) in enumerate(lines):
        crops = {m: row.crop for m, row in by_method.items()}
        crops["sharp"] = by_method[BLURRED].sharp_crop
        for j, method in enumerate([*methods, "sharp"]):
            if method not in crops:
                continue
            left, top = j * side, i * (side + _LINE)
            text = label if method == BLURRED else method
            if method in by_method and method != BLURRED:
                text = f"{method}: {merits[method]:+.2f} dB"
            draw.text((left + 3, top + 3), _shortened(text, 40), fill="black", font=font)
            with Image.open(folder / f"{crops[method]}.png") as crop:
                enlarged = crop.resize((crop.width * ZOOM, crop.height * ZOOM), 0)
            picture.paste(enlarged, (left, top + _LINE))
    return picture


def markdown(parts: Iterable[Part]) -> str:
    """Write parts as Markdown; folded tables are left out."""
    texts = []
    for part in parts:
        if isinstance(part, Heading):
            texts.append(f"{'#' * part.level} {part.text}\n")
        elif isinstance(part, Picture):
            texts.append(f"![{part.text}]({part.file})\n")
        elif isinstance(part, str):
            texts.append(part + "\n")
        elif not part.folded:
            texts.append(markdown_table(part.header, part.rows))
    return "\n".join(texts)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table, first column to the left, the others to the right."""
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def html(title: str, parts: Iterable[Part]) -> str:
    """Write parts as a page that needs nothing but its pictures."""
    texts = [f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title>"]
    texts.append(f"<style>{_STYLE}</style>")
    for part in parts:
        if isinstance(part, Heading):
            texts.append(f"<h{part.level}>{escape(part.text)}</h{part.level}>")
        elif isinstance(part, Picture):
            texts.append(f'<img src="{escape(part.file)}" alt="{escape(part.text)}">')
        elif isinstance(part, str):
            texts.append(f"<p>{escape(part)}</p>")
        else:
            lines = [_html_row("th", part.header), *(_html_row("td", row) for row in part.rows)]
            table = "<table>" + "\n".join(lines) + "</table>"
            summary = f"<summary>{escape(part.folded)}</summary>"
            texts.append(f"<details>{summary}{table}</details>" if part.folded else table)
    return "\n".join(texts) + "\n"


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _shortened(label: str, length: int) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"
