import csv

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_swintormer.evaluation import report
from napari_swintormer.evaluation.baselines import richardson_lucy
from napari_swintormer.evaluation.datasets import Pair


def _pair(name="cell", set_="cells", sigma=1.5, fit=False):
    rng = np.random.default_rng(len(name))
    dots = (rng.random((150, 170)) < 0.02).astype(float)
    dots[20:30, 30:40] = rng.random((10, 10))
    sharp = 100 + 900 * gaussian_filter(dots, 0.8)
    blurred = gaussian_filter(sharp, sigma)
    return Pair(set_, name, "YX", blurred.astype(np.uint16), sharp.astype(np.uint16), fit)


def _nothing(image, axes):
    return image


def test_doing_nothing_gains_nothing_and_undoing_the_blur_gains():
    pair = _pair()
    methods = {"nothing": _nothing, "oracle": lambda image, axes: pair.sharp}
    comparison = report.compare(pair, methods)
    assert comparison.gain("nothing") == 0
    assert comparison.scores["nothing"].ssim == comparison.scores["blurred"].ssim
    assert comparison.scores["oracle"].psnr == np.inf
    assert comparison.scores["oracle"].ssim == pytest.approx(1)


def test_real_pairs_are_judged_after_a_fit_of_the_intensity():
    brighter = {"brighter": lambda image, axes: image.astype(float) * 3 - 40}
    assert report.compare(_pair(fit=True), brighter).gain("brighter") == pytest.approx(0, abs=1e-6)
    assert report.compare(_pair(fit=False), brighter).gain("brighter") < -3


def test_the_oracle_is_the_best_richardson_lucy():
    pair = _pair(sigma=1.2)
    comparison = report.compare(pair, {"RL": richardson_lucy}, oracle=True)
    assert comparison.gain(report.ORACLE) > comparison.gain("RL")


def test_tables_show_means_gains_and_the_worst_image():
    bright = {"lift": lambda image, axes: image + np.uint16(5)}
    pairs = [_pair("one"), _pair("three"), _pair("one", "tissue", sigma=0.6)]
    comparisons = [report.compare(pair, bright) for pair in pairs]
    header, _, cells, tissue = report.score_table(comparisons, "psnr").splitlines()
    assert header == "| set | images | blurred | lift |"
    blurred = np.mean([c.scores["blurred"].psnr for c in comparisons[:2]])
    lift = np.mean([c.scores["lift"].psnr for c in comparisons[:2]])
    assert cells == f"| cells | 2 | {blurred:.2f} | {lift:.2f} ({lift - blurred:+.2f}) |"
    assert tissue.startswith("| tissue | 1 |")
    worst = min(comparisons[:2], key=lambda c: c.gain("lift"))
    spread = report.spread_table(comparisons, "lift").splitlines()[2]
    assert f"{worst.gain('lift'):+.2f} ({worst.name}) | 2 of 2 |" in spread


def test_scores_are_written_one_row_per_image_and_method(tmp_path):
    comparison = report.compare(_pair(), {"nothing": _nothing})
    report.write_scores(tmp_path / "scores.csv", [comparison])
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["blurred", "nothing"]
    assert float(rows[1]["psnr"]) == pytest.approx(comparison.scores["nothing"].psnr, abs=1e-3)


def test_the_picture_shows_best_median_and_worst():
    methods = {"halved": lambda image, axes: image // 2}
    comparisons = [report.compare(_pair(n), methods) for n in ("a", "bb", "ccc")]
    columns = ["blurred", "halved", "sharp"]
    picture = np.asarray(report.crops_picture(comparisons, columns, "halved"))
    side = report.CROP * report.ZOOM
    assert picture.shape[:2] == (3 * (side + 20), 3 * side)
    ranked = sorted(comparisons, key=lambda c: -c.gain("halved"))
    for row, comparison in enumerate(ranked):
        top = row * (side + 20) + 20
        shown = picture[top : top + side : 2, side : 2 * side : 2]
        np.testing.assert_array_equal(shown, comparison.crops["halved"])


def test_the_most_detailed_place_is_found():
    sharp = np.zeros((300, 400))
    sharp[210:220, 300:310] = np.random.default_rng(0).random((10, 10))
    y, x = report._most_detailed(sharp)
    assert 0 <= y.start <= 210 < 220 <= y.stop <= 300
    assert 0 <= x.start <= 300 < 310 <= x.stop <= 400
    assert (y.stop - y.start, x.stop - x.start) == (128, 128)
