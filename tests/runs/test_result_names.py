"""Names of results: no two are equal, and nothing is renamed without need."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_swintormer.runs.planning import prepare
from napari_swintormer.runs.result_names import (
    result_file,
    result_names,
    result_stem,
    result_title,
    result_words,
)
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL, DeblurSettings


@pytest.mark.parametrize(
    ("images", "results"),
    [
        ("a.tif a.png a.npy a.ome.tif a.ome.zarr", "a.tif a.png a.npy a.ome.tif a.ome.zarr"),
        ("a.jpg b.jpeg c.btf", "a.png b.png c.tif"),
        ("a.jpeg a.jpg", "a.jpeg.png a.jpg.png"),
        ("a.jpeg a.jpg a.png", "a.jpeg.png a.jpg.png a.png"),
        ("a.JPG a.jpg", "a.JPG.png a-2.png"),
        ("a.PNG a.jpg", "a.PNG a.jpg.png"),
        ("A.tif a.tif", "A.tif a-2.tif"),
        ("A.tif a-2.tif a.tif", "A.tif a-2.tif a-3.tif"),
        ("a.btf a.tif", "a.btf.tif a.tif"),
        ("a.jpeg a.jpg a.jpg.png", "a.jpeg.png a-2.png a.jpg.png"),
        ("caf\u00e9.tif cafe\u0301.tif", "caf\u00e9.tif cafe\u0301-2.tif"),
        ("straße.tif STRASSE.tif", "straße.tif STRASSE-2.tif"),
        ("one/a.tif two/a.tif", "a.tif a-2.tif"),
        ("one/a.ome.tif two/a.ome.tif", "a.ome.tif a-2.ome.tif"),
        ("a.dat", "a.tif"),
    ],
)
def test_results_never_share_a_name(images, results):
    assert result_names([Path(name) for name in images.split()]) == results.split()


def test_a_deviation_takes_a_name_too():
    images = [Path("a.png"), Path("a-deviation.tif")]
    assert result_names(images) == ["a.png", "a-deviation.tif"]
    assert result_names(images, deviations=True) == ["a.png", "a-deviation-2.tif"]


def test_an_existing_folder_takes_the_result(tmp_path):
    (tmp_path / "old.ome.zarr").mkdir()
    for given, file in [
        (tmp_path, tmp_path / "a.png"),
        (tmp_path / "new", tmp_path / "new"),
        (tmp_path / "old.ome.zarr", tmp_path / "old.ome.zarr"),
    ]:
        assert result_file(Path("in/a.jpg"), given) == file


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"model": "MINE"}, "a · mine"),
        ({"model": "MINE", "scale": 2, "strength": 1.2}, "a · mine · half size · 1.2x"),
        ({"model": "MINE", "prior": "off"}, "a · mine · no prior"),
        ({"planes": "Z=1:2"}, "a · shipped · Z=1:2"),
        ({"blur": "auto"}, "a · shipped · auto blur"),
        ({"blur": "unknown", "model": "MINE"}, "a · mine · unknown"),
        ({"blur": "3.2px", "model": "filter"}, "a · filter · 3.2px"),
        ({"blur": "motion:14@30"}, "a · shipped · motion:14@30"),
        ({"blur": "optics:0.7@0.5@0.2"}, "a · shipped · lens"),
        ({"psf": "PSF"}, "a · volume"),
    ],
)
def test_the_name_of_a_result_tells_how_it_was_made(options, title, tmp_path, make_weights):
    if options.get("model") == "MINE":
        options = options | {"model": str(make_weights("mine"))}
    title = title.replace("shipped", DEFAULT_MODEL)
    if "psf" in options:
        np.save(tmp_path / "psf.npy", np.ones((3, 3, 3), np.float32))
        options = {"psf": str(tmp_path / "psf.npy"), "depth": "volume"}
    job = prepare(np.zeros((3, 40, 50), np.uint16), DeblurSettings(axes="ZYX", **options))
    assert result_title("a", result_words(job)) == title
    assert not set(result_stem("a", result_words(job))) & set(' <>:"/\\|?*·=@')
