import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_swintormer.evaluation import report
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
