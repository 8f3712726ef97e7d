"""The report of an evaluation: ``report.md``, ``report.html``, ``scores.csv`` and pictures."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_swintormer import __version__
from napari_swintormer.evaluation.data.pair_images import CROP
from napari_swintormer.evaluation.data.protocols import PROTOCOLS
from napari_swintormer.evaluation.evaluation import JOURNAL_FOLDER
from napari_swintormer.evaluation.methods.methods import BLURRED
from napari_swintormer.evaluation.methods.told_blur import FOUND
from napari_swintormer.evaluation.metrics.scoring import ALWAYS
from napari_swintormer.evaluation.reports import intervals
from napari_swintormer.evaluation.reports.intervals import bootstrap, paired_difference
from napari_swintormer.evaluation.reports.pages import Heading, Picture, Table, html, markdown
from napari_swintormer.evaluation.rows import write_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from napari_swintormer.evaluation.reports.intervals import Mean
    from napari_swintormer.evaluation.reports.pages import Part
    from napari_swintormer.evaluation.rows import Row

ZOOM = 2
_LINE = 20  # pixels of text above a crop
_HARM = 0.05  # dB; an image counts as worse if it loses more
_SURE, _CLOSE = (0.0, 0.5, 0.7, 0.85, 1.0), 0.2
_DIGITS = {"psnr": 2, "frc": 2, "frc_lateral": 2, "frc_axial": 2}
_TITLES = {
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "ssim3d": "SSIM, 3-D",
    "mae": "MAE",
    "ms_ssim": "MS-SSIM",
    "gmsd": "GMSD",
    "lpips": "LPIPS",
    "frc": "FRC (pixels)",
    "correlation": "Correlation",
    "frc_lateral": "FRC, lateral (pixels)",
    "frc_axial": "FRC, axial (planes)",
}


def write_report(folder: Path, title: str, rows: Sequence[Row]) -> list[Path]:
    """Write tables, scores and a picture for each set; give the paths of the files.

    `folder` is the folder of the evaluation, with its journal; `rows` has at least one row.
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
                crops_picture(folder / JOURNAL_FOLDER, group).save(file, optimize=True)
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
    level, samples = f"{intervals.LEVEL:.0%}", intervals.RESAMPLES
    return (
        f"Made with `swintormer evaluate`, napari-swintormer {__version__}. Means over the images "
        f"of a set, with the {level} interval of {samples} bootstrap samples of the images; gains "
        "and differences are taken image by image. Every figure of every image is in `scores.csv`."
        + ("" if any(row.method != BLURRED for row in rows) else " No method was asked for.")
    )


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by set, in order of appearance, and then by split."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.set, []).append(row)
    for row in rows:
        if row.split:
            groups.setdefault(f"{row.set}, {row.split}", []).append(row)
    return groups


def _methods(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.method for row in rows))


def _values(rows: Iterable[Row], method: str, metric: str) -> dict[str, float]:
    """Values of a metric by image."""
    return {row.image: row.scores[metric] for row in rows if row.method == method}


def _group_parts(name: str, rows: Sequence[Row]) -> list[Part]:
    """Make the tables of a set: every method, then the differences to the first method."""
    images, methods = len({row.image for row in rows}), _methods(rows)
    heading = Heading(f"{name} ({images} image{'s' * (images != 1)})", 3)
    parts: list[Part] = [heading, score_table(rows)]
    if len(methods) > 2:
        parts.append(difference_table(rows, methods[1], methods[2:]))
    if found := [row for row in rows if "certainty" in row.scores]:
        parts.append(found_table(found))
    return parts


def score_table(rows: Sequence[Row]) -> Table:
    """Mean of every metric for each method of a set, and its gain over the blurred image."""
    metrics = [
        name
        for name in dict.fromkeys(name for row in rows for name in row.scores)
        if name in _TITLES
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
    """Mean gain, the worst image, and the number of images that became worse."""
    if method == BLURRED:
        return ["", "", ""]
    if np.isinf(list(_values(rows, BLURRED, "psnr").values())).any():  # a sharp image was given
        own = _values(rows, method, "psnr")
        worst = min(own, key=lambda image: own[image])
        return ["", f"{own[worst]:.2f} ({worst})", ""]
    gains = _gains(rows, method)
    worst = min(gains, key=lambda image: gains[image])
    worse = sum(gain < -_HARM for gain in gains.values())
    mean = _interval(bootstrap(list(gains.values())), 2, signed=True)
    return [mean, f"{gains[worst]:+.2f} ({worst})", f"{worse} of {len(gains)}"]


def _gains(rows: Sequence[Row], method: str) -> dict[str, float]:
    """Gain in PSNR by image; the PSNR itself if the method was given the sharp image."""
    own, base = _values(rows, method, "psnr"), _values(rows, BLURRED, "psnr")
    return {i: own[i] if np.isinf(base[i]) else own[i] - base[i] for i in own}


def difference_table(rows: Sequence[Row], first: str, others: Sequence[str]) -> Table:
    """How much better the first method is than others, image by image, in PSNR and SSIM."""
    cells = []
    for other in others:
        line, better = [f"{first} - {other}"], ""
        for name, digits in (("psnr", 2), ("ssim", 4)):
            a, b = _values(rows, first, name), _values(rows, other, name)
            both = [image for image in a if image in b]
            mean = paired_difference([a[i] for i in both], [b[i] for i in both])
            # a method that does not touch a sharp image has an infinite PSNR there
            line.append(_interval(mean, digits, signed=True) if np.isfinite(mean.value) else "")
            if name == "psnr":
                better = f"{sum(a[i] > b[i] for i in both)} of {len(both)}"
        cells.append([*line, better])
    return Table(["paired difference", "PSNR (dB)", "SSIM", "better (PSNR)"], cells)


def found_table(rows: Sequence[Row]) -> Table:
    """Tell how near found blurs are to the true ones, in groups of how sure they are.

    A blur that is sure to 70 % should be within 20 % of the true size in 70 % of the images.
    """
    values = np.array([[row.scores[name] for name in FOUND] for row in rows])
    wrong, similar, sure = values[~np.isnan(values[:, 2])].T
    left = len(rows) - len(sure)
    cells = [] if not left else [["none found", f"{left}", "", "", "", ""]]
    groups = [(f"{a:.0%} to {b:.0%}", (sure > a) & (sure <= b)) for a, b in pairwise(_SURE)]
    groups.append(("all found", np.ones(len(sure), bool)))
    for name, chosen in groups:
        if chosen.any():
            close = np.abs(wrong[chosen])
            figures = [f"{np.median(close):.0%}", f"{np.mean(close <= _CLOSE):.0%}"]
            figures += [f"{np.mean(sure[chosen]):.0%}", f"{np.median(similar[chosen]):.2f}"]
            cells.append([name, f"{chosen.sum()}", *figures])
    header = ["blur found, sure to", "images", "size error, median", f"within {_CLOSE:.0%}"]
    return Table([*header, "sure, mean", "PSF similarity, median"], cells)


def _interval(mean: Mean, digits: int, *, signed: bool) -> str:
    sign = "+" if signed else ""
    text = f"{mean.value:{sign}.{digits}f}"
    if np.isnan(mean.low):
        return text
    return f"{text} [{mean.low:{sign}.{digits}f}, {mean.high:{sign}.{digits}f}]"


def _image_table(rows: Sequence[Row]) -> Table:
    header = ["image", "method", "PSNR (dB)", "SSIM", "MAE", "s"]
    cells = []
    for row in rows:
        psnr, ssim, mae = (row.scores[name] for name in ALWAYS)
        figures = [f"{psnr:.2f}", f"{ssim:.3f}", f"{mae:.4f}", f"{row.seconds:.2f}"]
        cells.append([f"{row.set}: {row.image}", row.method, *figures])
    return Table(header, cells, folded="Every image")


def crops_picture(folder: Path, rows: Sequence[Row]) -> Image.Image:
    """Show the images with the best, the median and the worst gain of the first method.

    The rule chooses, not a person, so the picture flatters nobody. `folder` has the crops; `rows`
    are those of one set, with a method beside the blurred image.
    """
    methods = _methods(rows)
    gains = {method: _gains(rows, method) for method in methods}
    first = gains[methods[1]]
    ranked = sorted(first, key=lambda image: first[image])
    chosen = {"best": ranked[-1], "median": ranked[len(ranked) // 2], "worst": ranked[0]}
    lines = [(f"{rank}: {image}", image) for rank, image in chosen.items()][: len(ranked)]
    side = CROP * ZOOM
    size = (side * (len(methods) + 1), (side + _LINE) * len(lines))
    picture = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=12)
    for i, (label, image) in enumerate(lines):
        crops = {row.method: row.crop for row in rows if row.image == image}
        crops["sharp"] = next(row.sharp_crop for row in rows if row.image == image)
        for j, method in enumerate([*methods, "sharp"]):
            if method not in crops:
                continue
            left, top = j * side, i * (side + _LINE)
            text = label if method == BLURRED else method
            if method in gains and method != BLURRED:
                text = f"{method}: {gains[method][image]:+.2f} dB"
            text = text if len(text) <= 40 else text[:39] + "…"
            draw.text((left + 3, top + 3), text, fill="black", font=font)
            with Image.open(folder / f"{crops[method]}.png") as crop:
                enlarged = crop.resize((crop.width * ZOOM, crop.height * ZOOM), 0)
            picture.paste(enlarged, (left, top + _LINE))
    return picture
