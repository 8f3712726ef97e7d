"""Stacks are scored as volumes, and other programs restore them in the same table."""

from __future__ import annotations

import csv
import importlib.util

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter1d
from scipy.signal import fftconvolve
from typer.testing import CliRunner

from napari_swintormer.cli import app
from napari_swintormer.errors import FileError, ImageError, SettingsError
from napari_swintormer.evaluation.data.pair_images import open_pair
from napari_swintormer.evaluation.evaluation import find_data_set
from napari_swintormer.evaluation.methods import volumetric
from napari_swintormer.evaluation.methods.methods import parse_method
from napari_swintormer.evaluation.metrics.scoring import Scale
from napari_swintormer.evaluation.metrics.volumes import score_volume
from napari_swintormer.optics.stack_optics import StackOptics
from napari_swintormer.optics.stack_psf import stack_psf
from napari_swintormer.settings.deblur_settings import DeblurSettings

HEAD = "blurred,sharp,set,planes,na,immersion,wavelength,pixel_size,z_step"
LINE = "blurred.tif,sharp.tif,points,{planes},0.8,air,500,0.3,{z_step}"


@pytest.fixture(scope="module")
def volume():
    """Points and a bar, and their blurred counts."""
    psf = stack_psf(StackOptics(0.8, 0.5, 0.3, 0.8, immersion_index=1.0), (11, 13, 13))
    rng = np.random.default_rng(3)
    thing = np.zeros((8, 40, 44))
    thing[rng.integers(0, 8, 30), rng.integers(0, 40, 30), rng.integers(0, 44, 30)] = 4e4
    thing[3, 10:30, 20:23] = 6000
    blurred = fftconvolve(thing, psf, mode="same").clip(0)
    return thing.astype(np.float32), (rng.poisson(blurred + 20) + 100).astype(np.uint16)


@pytest.fixture
def table(volume, tmp_path):
    for name, image in zip(("sharp", "blurred"), volume, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", image, photometric="minisblack")

    def write(planes="", z_step="0.8"):
        path = tmp_path / "pairs.csv"
        path.write_text(f"{HEAD}\n{LINE.format(planes=planes, z_step=z_step)}\n")
        return path

    return write


def test_one_fit_serves_the_whole_volume(volume):
    sharp, scale = volume[0].astype(float), Scale(0.0, 4e4)
    noisy = sharp + np.random.default_rng(0).normal(0, 400, sharp.shape)
    scores = score_volume(7 * noisy + 30, sharp, scale)
    gain = np.cov(noisy.ravel(), sharp.ravel())[0, 1] / noisy.var()
    error = gain * (noisy - noisy.mean()) + sharp.mean() - sharp
    assert scores["psnr"] == pytest.approx(10 * np.log10(4e4**2 / np.mean(error**2)), abs=0.01)
    assert scores["correlation"] == pytest.approx(np.corrcoef(noisy.ravel(), sharp.ravel())[0, 1])
    bright = sharp.copy()
    bright[3] *= 3  # a fit for each plane would hide this
    assert score_volume(bright, sharp, scale)["psnr"] < 40
    assert score_volume(sharp, sharp, scale)["psnr"] == np.inf


def test_the_best_offset_of_whole_planes_counts_where_planes_are_named(volume):
    sharp, scale = volume[0], Scale(0.0, 4e4)
    shifted = np.roll(sharp, 2, axis=0)
    assert score_volume(shifted, sharp, scale, (2, 6))["psnr"] == np.inf
    assert score_volume(shifted, sharp, scale)["psnr"] < 40


def test_blur_along_z_costs_axial_resolution_only():
    rng = np.random.default_rng(1)
    sharp = rng.normal(size=(32, 48, 48))
    blurred = gaussian_filter1d(sharp, 2.0, axis=0)
    noisy = blurred + rng.normal(0, 0.2, sharp.shape)
    scores = score_volume(noisy, sharp, Scale(0.0, 4.0))
    assert scores["frc_lateral"] == 2
    assert scores["frc_axial"] > 3.5
    across = gaussian_filter1d(gaussian_filter1d(sharp, 2.0, axis=1), 2.0, axis=2)
    noisy = across + rng.normal(0, 0.2, sharp.shape)
    assert score_volume(noisy, sharp, Scale(0.0, 4.0))["frc_lateral"] > 4


def test_volumes_and_planes_stand_in_one_table(table, tmp_path, tiny_weights, monkeypatch):
    monkeypatch.setattr(volumetric, "ORACLE_ITERATIONS", (2, 5))
    methods = ["volume:iterations=5", "richardson-lucy-3d:iterations=5", str(tiny_weights)]
    methods += ["richardson-lucy-3d-best", "unsharp-mask"]
    if importlib.util.find_spec("RedLionfishDeconv") is not None:
        methods.append("redlionfish:iterations=5")
    options = [text for method in methods for text in ("-m", method)]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["evaluate", f"stacks={table()}", *options, "--out", str(out)])
    assert done.exit_code == 0, done.output
    with (out / "scores.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    gains = {method: float(rows[method]["gain"]) for method in methods}
    assert gains["volume:iterations=5"] == max(gains.values())
    assert gains["richardson-lucy-3d-best"] >= gains["richardson-lucy-3d:iterations=5"] > 0.1
    assert np.isfinite(gains.get("redlionfish:iterations=5", 0))
    assert all(float(row["correlation"]) > 0 for row in rows.values())
    assert "FRC, axial (planes)" in (out / "report.md").read_text(encoding="utf-8")


def test_redlionfish_is_offered_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="needs the package RedLionfish"):
        parse_method("redlionfish", DeblurSettings())


def test_methods_for_volumes_leave_planes_out(one_pair, evaluate, tmp_path):
    rows = evaluate(tmp_path / "out", "volume", "richardson-lucy-3d-best")
    assert {row.method for row in rows} == {"blurred"}


@pytest.mark.parametrize(
    ("cells", "error", "sentence"),
    [
        ({"z_step": "far"}, FileError, "z_step of .* holds numbers"),
        ({"planes": "2-5"}, FileError, "spans such as 8:37"),
        ({"planes": "2:9"}, ImageError, "has 8 planes"),
    ],
)
def test_a_table_with_impossible_cells_is_refused_in_a_sentence(table, cells, error, sentence):
    def open_all():
        data_set = find_data_set(f"stacks={table(**cells)}")
        with open_pair(data_set.pairs[0], data_set.protocol):
            pass

    with pytest.raises(error, match=sentence):
        open_all()
