"""Intervals, tables and pictures of a report."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from napari_swintormer.cli import app
from napari_swintormer.evaluation.methods.methods import ABLATION_TILES
from napari_swintormer.evaluation.methods.told_blur import FOUND
from napari_swintormer.evaluation.reports import evaluation_report
from napari_swintormer.evaluation.reports.evaluation_report import crops_picture, found_table
from napari_swintormer.evaluation.reports.intervals import bootstrap, paired_difference
from napari_swintormer.evaluation.rows import Row


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_the_interval_holds_the_mean_and_lies_within_the_values(values):
    mean = bootstrap(values)
    assert mean.value == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= mean.low <= mean.value + 1e-9
    assert mean.value - 1e-9 <= mean.high <= max(values) + 1e-9


def test_the_interval_of_many_values_agrees_with_the_central_limit():
    values = np.random.default_rng(0).normal(3, 2, 400)
    mean = bootstrap(list(values))
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_a_paired_difference_is_clear_where_two_means_overlap():
    images = np.random.default_rng(0).normal(30, 5, 20)
    better = images + 0.1 + np.random.default_rng(1).normal(0, 0.02, 20)
    assert bootstrap(list(better)).low < np.mean(images)
    assert paired_difference(list(better), list(images)).low > 0.08


def test_the_command_writes_tables_pictures_and_every_score(pairs, tmp_path):
    out = tmp_path / "out"
    args = ["evaluate", f"folders={pairs}", "-m", "unsharp-mask", "-m", "wiener", "--out", str(out)]
    result = CliRunner().invoke(app, [*args, "--title", "A <comparison>"])
    assert result.exit_code == 0, result.output
    text = (out / "report.md").read_text()
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    gains = [float(row["gain"]) for row in rows if row["method"] == "unsharp-mask"]
    line = next(line for line in text.splitlines() if line.startswith("| unsharp-mask |"))
    assert f"{np.mean(gains):+.2f} [" in line
    assert f"{min(gains):+.2f} (" in line
    assert "| unsharp-mask - wiener |" in text
    assert "![" in text
    page = (out / "report.html").read_text()
    assert "<title>A &lt;comparison&gt;" in page
    assert page.count("<tr>") > 9
    refused = CliRunner().invoke(app, args)
    assert refused.exit_code == 2
    assert "--resume" in refused.output
    assert CliRunner().invoke(app, [*args, "--resume"]).exit_code == 0


def test_the_picture_shows_best_median_and_worst_by_rule(pairs, evaluate, tmp_path):
    rows = evaluate(tmp_path / "out", "unsharp-mask")
    folder = tmp_path / "out/.evaluation"
    picture = np.asarray(crops_picture(folder, rows))
    base = {row.image: row.scores["psnr"] for row in rows[::2]}
    ranked = sorted(rows[1::2], key=lambda row: base[row.image] - row.scores["psnr"])
    for line, row in enumerate(ranked):
        crop = np.asarray(Image.open(folder / f"{row.crop}.png"))
        top = line * (evaluation_report.CROP * evaluation_report.ZOOM + 20) + 20
        left = evaluation_report.CROP * evaluation_report.ZOOM
        shown = picture[top : top + 2 * crop.shape[0] : 2, left : left + 2 * crop.shape[1] : 2]
        np.testing.assert_array_equal(shown, crop)


def test_the_command_runs_the_ablation_over_tiles(pairs, tmp_path, tiny_weights):
    args = ["evaluate", f"folders={pairs}", "--table", "ablation", "-m", str(tiny_weights)]
    result = CliRunner().invoke(app, [*args, "--device", "cpu", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        methods = {row["method"] for row in csv.DictReader(file)}
    tiles = {f"{tiny_weights}:{tiles},blend=uniform" for tiles in ABLATION_TILES}
    assert methods == {"blurred"} | tiles


def test_found_blurs_are_compared_with_true_ones():
    def row(number, *found):
        scores = dict(zip(FOUND, found, strict=True))
        return Row("folders", "a", f"{number}", "", "blur-auto", scores, 0.1, "", "")

    unknown = row(0, np.nan, np.nan, np.nan)
    table = found_table([unknown, row(1, -0.1, 0.9, 0.6), row(2, 0.3, 0.7, 0.6), row(3, 0, 1, 0.9)])
    assert table.rows == [
        ["none found", "1", "", "", "", ""],
        ["50% to 70%", "2", "20%", "50%", "60%", "0.80"],
        ["85% to 100%", "1", "0%", "100%", "90%", "1.00"],
        ["all found", "3", "10%", "67%", "70%", "0.90"],
    ]
