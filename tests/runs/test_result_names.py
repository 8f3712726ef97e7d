"""Names of results: no two are equal, and nothing is renamed without need."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_swintormer.runs.result_names import result_file, result_names


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
