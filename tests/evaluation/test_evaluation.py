"""Rows, resuming, methods, and the report that is made of them."""

import csv
import gc
import math
import os
import tempfile
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from helpers.tiny import tiny_card, tiny_prior_card
from napari_swintormer.api import deblur
from napari_swintormer.cli import app
from napari_swintormer.errors import SettingsError
from napari_swintormer.evaluation.data.pair_images import PairImages, most_detailed, open_pair
from napari_swintormer.evaluation.data.protocols import PROTOCOLS
from napari_swintormer.evaluation.evaluation import Evaluation, find_data_set
from napari_swintormer.evaluation.methods import evaluator
from napari_swintormer.evaluation.methods.cost import count
from napari_swintormer.evaluation.methods.methods import (
    ABLATION_TILES,
    BEST_SIGMA,
    ablation,
    parse_method,
)
from napari_swintormer.evaluation.metrics import scoring
from napari_swintormer.evaluation.metrics.frc import resolution
from napari_swintormer.evaluation.metrics.similarity import psnr, ssim
from napari_swintormer.evaluation.metrics.structure import gmsd, ms_ssim
from napari_swintormer.evaluation.reports import pages
from napari_swintormer.evaluation.reports.intervals import bootstrap, paired_difference
from napari_swintormer.imaging import intensity
from napari_swintormer.imaging.views import expand_index
from napari_swintormer.models.catalogue import load_model
from napari_swintormer.models.files.weights import save_weights
from napari_swintormer.models.prior.compact import build_network
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.settings.deblur_settings import DeblurSettings
from napari_swintormer.tiling import grid


def _dots(seed, shape=(80, 70)):
    rng = np.random.default_rng(seed)
    return 100 + 9000 * gaussian_filter((rng.random(shape) < 0.03).astype(float), 0.8)


@pytest.fixture
def pairs(tmp_path):
    """Three pairs of which the first is blurred least, with their point-spread functions."""
    root = tmp_path / "cells"
    for i, name in enumerate(("one", "three", "two")):
        sharp, sigma = _dots(i), 0.8 + 0.4 * i
        point = np.zeros((25, 25))
        point[12, 12] = 1
        for part, image in (
            ("sharp", sharp.astype(np.uint16)),
            ("blurred", gaussian_filter(sharp, sigma).astype(np.uint16)),
            ("psf", gaussian_filter(point, sigma)),
        ):
            (root / part).mkdir(parents=True, exist_ok=True)
            np.save(root / part / f"{name}.npy", image)
    return root


def _evaluate(pairs, out, *methods, resume=False):
    chosen = tuple(parse_method(text, DeblurSettings(device="cpu")) for text in methods)
    evaluation = Evaluation((find_data_set(f"folders={pairs}"),), chosen, out, ())
    events = list(evaluation.events(resume=resume))
    assert events[-1].done == events[-1].total
    return evaluation.rows


def test_doing_nothing_gains_nothing_and_knowing_the_blur_gains_most(pairs, tmp_path):
    methods = ("richardson-lucy:sigma=1.2,iterations=20", "richardson-lucy-psf:iterations=20")
    rows = _evaluate(pairs, tmp_path / "out", *methods, *BEST_SIGMA, "wiener-psf")
    gains = {
        method: np.mean([r.scores["psnr"] for r in rows if r.method == method])
        for method in dict.fromkeys(row.method for row in rows)
    }
    assert gains["richardson-lucy-psf:iterations=20"] > gains["blurred"] + 3
    assert gains["richardson-lucy-psf:iterations=20"] > gains[methods[0]]
    assert gains["wiener-psf"] > gains["blurred"]
    for best, method in BEST_SIGMA.items():
        told = {r.image: r.scores["psnr"] for r in rows if r.method == best}
        plain = {r.image: r for r in _evaluate(pairs, tmp_path / method, method)[1::2]}
        assert all(told[image] >= row.scores["psnr"] for image, row in plain.items())


def test_a_stopped_evaluation_goes_on_with_what_is_missing(pairs, tmp_path, monkeypatch):
    whole = _evaluate(pairs, tmp_path / "whole", "unsharp-mask")
    chosen = (parse_method("unsharp-mask", DeblurSettings()),)
    stopped = Evaluation((find_data_set(f"folders={pairs}"),), chosen, tmp_path / "out", ())
    events = stopped.events()
    for _ in range(3):
        next(events)
    events.close()
    journal = tmp_path / "out/.evaluation/rows.jsonl"
    with journal.open("a") as file:
        file.write('{"protocol": "fol')  # killed in the middle of a line
    made = []
    unsharp = parse_method("unsharp-mask", DeblurSettings())
    monkeypatch.setattr(
        type(unsharp), "restore", _counting(type(unsharp).restore, made), raising=True
    )
    resumed = _evaluate(pairs, tmp_path / "out", "unsharp-mask", resume=True)
    assert len(made) == 2
    assert [(r.image, r.method, r.scores) for r in resumed] == [
        (r.image, r.method, r.scores) for r in whole
    ]
    made.clear()  # another image under that name, another method: only these are made again
    np.save(pairs / "blurred" / "two.npy", (_dots(2) / 2).astype(np.uint16))
    _evaluate(pairs, tmp_path / "out", "unsharp-mask", "unsharp-mask:sigma=2", resume=True)
    assert len(made) == 4


def _counting(restore, made):
    def counted(self, pictures):
        made.append(self.name)
        return restore(self, pictures)

    return counted


def test_models_run_at_any_tiles_and_in_all_orientations(pairs, tmp_path, tiny_weights):
    tiles = f"{tiny_weights}:tile_size=32,overlap=16"
    rows = _evaluate(
        pairs, tmp_path / "out", str(tiny_weights), tiles, f"{tiny_weights}:ensemble=8"
    )
    found = {r.method: r.scores["psnr"] for r in rows if r.image == "one"}
    assert len(set(found.values())) == 4
    source = find_data_set(f"folders={pairs}")
    eight = parse_method(f"{tiny_weights}:ensemble=8", DeblurSettings(device="cpu"))
    with open_pair(source.scenes[0], source.protocol) as pictures:
        restored = eight.restore(pictures).astype(int)
        turned = pictures.__class__(
            "YX", np.asarray(pictures.blurred).T.copy(), pictures.sharp, source.protocol
        )
        assert np.abs(eight.restore(turned).T.astype(int) - restored).max() <= 1


def test_large_images_are_scored_in_bands_to_the_same_figures(monkeypatch):
    sharp, image = _dots(0, (211, 90)), gaussian_filter(_dots(0, (211, 90)), 1)
    scale = scoring.Scale.of(sharp, PROTOCOLS["microscopy"])
    whole = scoring.score(PROTOCOLS["microscopy"], image, sharp, scale, ("frc",))
    monkeypatch.setattr(scoring, "_BAND", 30 * 90)
    monkeypatch.setattr(scoring, "_AT_ONCE", 1000)
    bands = scoring.score(PROTOCOLS["microscopy"], image, sharp, scale, ("frc",))
    assert math.isnan(bands.pop("frc"))
    assert bands == {name: pytest.approx(whole[name], rel=1e-9) for name in bands}
    fitted = scoring.Fit.between(image, sharp)(image)
    assert bands["psnr"] == pytest.approx(psnr(fitted, sharp, data_range=scale.span))
    assert bands["ssim"] == pytest.approx(ssim(fitted, sharp, data_range=scale.span))


class Textured:
    """A grey image of any size, made where it is looked at."""

    ndim, dtype = 2, np.dtype(np.uint16)

    def __init__(self, side, period):
        self.shape, self.period = (side, side), period

    def __getitem__(self, index):
        spans = expand_index(index, 2)
        y, x = (np.arange(*s.indices(self.shape[0])) / self.period for s in spans)
        return (3000 + 2000 * np.sin(y)[:, None] * np.cos(x)).astype(np.uint16)

    def __array__(self, *_, **__):
        return self[:, :]


class Darker(IdentityRestorer):
    """Takes no time, and is no identity."""

    card = tiny_card()

    def forward(self, tiles):
        return tiles * 0.9


def test_large_images_are_restored_and_scored_from_disk(monkeypatch):
    """Neither the images nor the result are ever held, but parts of them."""
    side, settings = 1600, DeblurSettings(device="cpu", precision="fp32")
    whole = PairImages("YX", Textured(400, 9), Textured(400, 8), PROTOCOLS["folders"])
    for name in ("_SMALLEST_BLOCK", "_BLOCK_MULTIPLE"):
        monkeypatch.setattr(grid, name, 64)
    monkeypatch.setattr(intensity, "_REGIONS", 1)  # the sample for ranges is of one size for all
    in_memory = evaluator.restore(whole, settings, Darker(), 1)
    monkeypatch.setattr(evaluator, "_IN_MEMORY", 1000)
    monkeypatch.setattr(scoring, "_AT_ONCE", 1000)
    monkeypatch.setattr(scoring, "_BAND", 2**14)
    folder = tempfile.mkdtemp()
    monkeypatch.setattr(tempfile, "tempdir", folder)
    on_disk = evaluator.restore(whole, settings, Darker(), 1)
    assert not isinstance(on_disk, np.ndarray)
    np.testing.assert_array_equal(on_disk, in_memory)
    huge = replace(whole, blurred=Textured(side, 9), sharp=Textured(side, 8))
    scale = scoring.Scale.of(huge.sharp, huge.protocol)
    tracemalloc.start()
    restored = evaluator.restore(huge, settings, Darker(), 1)
    scores = scoring.score(huge.protocol, restored, huge.sharp, scale, ())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0 < scores["psnr"] < 40
    assert peak < 3 * side**2  # 5.6 MB were measured, and each of the images has 5.1 MB
    assert os.listdir(folder)
    del on_disk, restored
    gc.collect()
    assert not os.listdir(folder)  # it goes with the result


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("swintormer-small:tiles=3", "tile_size"),
        ("swintormer-small:tile_size=big", "must be a number"),
        ("swintormer-small:ensemble=4", "ensemble must be 1 or 8"),
        ("unsharp-mask:iterations=3", "sigma"),
    ],
)
def test_a_method_that_cannot_be_is_refused_in_a_sentence(text, says):
    with pytest.raises(SettingsError, match=says):
        parse_method(text, DeblurSettings())


# ---- figures -----------------------------------------------------------------------------------


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_the_interval_holds_the_mean_and_lies_within_the_values(values):
    mean = bootstrap(values)
    assert mean.value == pytest.approx(np.mean(values))
    assert min(values) - 1e-9 <= mean.low <= mean.value + 1e-9
    assert mean.value - 1e-9 <= mean.high <= max(values) + 1e-9


def test_the_interval_of_many_values_is_that_of_the_central_limit():
    values = np.random.default_rng(0).normal(3, 2, 400)
    mean = bootstrap(list(values))
    assert mean.high - mean.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_a_paired_difference_sees_what_two_means_hide():
    images = np.random.default_rng(0).normal(30, 5, 20)
    better = images + 0.1 + np.random.default_rng(1).normal(0, 0.02, 20)
    assert bootstrap(list(better)).low < np.mean(images)
    assert paired_difference(list(better), list(images)).low > 0.08


def test_ring_correlation_finds_the_cutoff_of_a_low_pass():
    sharp = np.random.default_rng(0).normal(size=(256, 256))
    frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    low_passed = np.fft.irfft2(np.fft.rfft2(sharp) * (frequency < 0.125), sharp.shape)
    noise = np.random.default_rng(1).normal(size=sharp.shape)
    assert resolution(low_passed + 1e-3 * noise, sharp) == pytest.approx(8, rel=0.1)
    assert resolution(sharp, sharp) == 2
    assert resolution(noise, sharp) > 20


def test_metrics_of_structure_know_equal_images_and_order_the_others():
    sharp = _dots(3, (180, 171))
    blurred = [gaussian_filter(sharp, sigma) for sigma in (0.5, 1, 2)]
    scores = [ms_ssim(image, sharp, data_range=9000) for image in (sharp, *blurred)]
    assert scores[0] == pytest.approx(1)
    assert scores == sorted(scores, reverse=True)
    distances = [gmsd(x, sharp, black=100, data_range=9000) for x in (sharp, *blurred)]
    assert distances[0] == 0
    assert distances == sorted(distances)
    assert math.isnan(ms_ssim(sharp[:160], sharp[:160], data_range=1))


# ---- the report --------------------------------------------------------------------------------


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


def test_the_picture_shows_best_median_and_worst_by_rule(pairs, tmp_path):
    rows = _evaluate(pairs, tmp_path / "out", "unsharp-mask")
    folder = tmp_path / "out/.evaluation"
    picture = np.asarray(pages.crops_picture(folder, rows))
    base = {row.image: row.scores["psnr"] for row in rows[::2]}
    ranked = sorted(rows[1::2], key=lambda row: base[row.image] - row.scores["psnr"])
    for line, row in enumerate(ranked):
        from PIL import Image

        crop = np.asarray(Image.open(folder / f"{row.crop}.png"))
        top = line * (pages.CROP * pages.ZOOM + 20) + 20
        left = pages.CROP * pages.ZOOM
        shown = picture[top : top + 2 * crop.shape[0] : 2, left : left + 2 * crop.shape[1] : 2]
        np.testing.assert_array_equal(shown, crop)


def test_the_most_detailed_place_is_found():
    sharp = np.zeros((300, 400))
    sharp[210:220, 300:310] = np.random.default_rng(0).random((10, 10))
    y, x = most_detailed(sharp)
    assert 0 <= y.start <= 210 < 220 <= y.stop <= 300
    assert 0 <= x.start <= 300 < 310 <= x.stop <= 400
    assert (y.stop - y.start, x.stop - x.start) == (128, 128)


def test_the_ablation_varies_tiles_and_the_steps_of_a_prior(pairs, tmp_path, tiny_weights):
    args = ["evaluate", f"folders={pairs}", "--table", "ablation", "-m", str(tiny_weights)]
    result = CliRunner().invoke(app, [*args, "--device", "cpu", "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    with (tmp_path / "out/scores.csv").open(newline="") as file:
        methods = {row["method"] for row in csv.DictReader(file)}
    tiles = {f"{tiny_weights}:{tiles},blend=uniform" for tiles in ABLATION_TILES}
    assert methods == {"blurred"} | tiles
    with_prior = tiny_prior_card()
    network = build_network(with_prior.network, with_prior.prior)
    save_weights(tmp_path / "sampled.safetensors", network.state_dict(), with_prior)
    varied = ablation(f"{tmp_path / 'sampled.safetensors'}:samples=2")
    assert varied[-1].endswith("samples=2,num_inference_steps=8")
    assert any(one.endswith("prior=off") for one in varied)


def test_cost_counts_every_pixel_of_every_tile(pairs, tmp_path, tiny_weights):
    tiles = ("tile_size=64,overlap=0", "tile_size=32,overlap=0,ensemble=8")
    rows = _evaluate(pairs, tmp_path / "out", *(f"{tiny_weights}:{t}" for t in tiles), "wiener")
    network = load_model(tiny_weights).network
    with torch.no_grad():
        network(torch.zeros(1, 3, 32, 32))  # makes what is prepared once
    per_pixel = count(lambda: network(torch.zeros(1, 3, 64, 64))) / 64**2
    # images of 80 x 70 pixels take 2 x 2 tiles of 64, or 3 x 3 of 32 in eight orientations
    expected = [per_pixel * n / (80 * 70) for n in (4 * 64**2, 8 * 9 * 32**2)]
    assert [row.macs_per_pixel for row in rows[1:3]] == pytest.approx(expected)
    assert rows[0].macs_per_pixel is rows[3].macs_per_pixel is None
    assert f" {expected[1] / 1e3:.1f} |" in pages.markdown([pages.score_table(rows)])


def test_cost_counts_every_step_of_a_prior(pairs, tmp_path):
    card = tiny_prior_card()
    file = tmp_path / "sampled.safetensors"
    save_weights(file, build_network(card.network, card.prior).state_dict(), card)
    ways = ("num_inference_steps=2", "num_inference_steps=4", "num_inference_steps=8", "prior=off")
    rows = _evaluate(pairs, tmp_path / "out", *(f"{file}:{way}" for way in ways))
    two, four, eight, off = (row.macs_per_pixel for row in rows[1:5])
    assert eight - four == pytest.approx(2 * (four - two))
    assert off < two < four


def test_samples_of_a_prior_are_averaged(pairs, tmp_path):
    card = tiny_prior_card()
    network = build_network(card.network, card.prior)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    file = tmp_path / "sampled.safetensors"
    save_weights(file, network.state_dict(), card)
    source = find_data_set(f"folders={pairs}")
    settings = DeblurSettings(device="cpu", precision="fp32")
    with open_pair(source.scenes[0], source.protocol) as pictures:
        one, both = (
            parse_method(f"{file}:{options}", settings).restore(pictures)
            for options in ("seed=0", "samples=2")
        )
        wanted = deblur(pictures.blurred, file, samples=2, device="cpu", precision="fp32")
    assert (one != both).any()
    np.testing.assert_array_equal(both, wanted)
