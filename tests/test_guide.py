"""The user guide does what it says: its snippets run, its pictures are there."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from napari_swintormer.cli import app
from napari_swintormer.settings.preferences import preferences

GUIDE = Path(__file__).parents[1] / "docs" / "guide.md"


def snippets(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)


def test_the_snippets_of_the_guide_run(home, tiny_weights, tmp_path, monkeypatch):
    (home / "models").mkdir(parents=True)
    shutil.copy(tiny_weights, home / "models" / "swintormer-small.safetensors")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "blurred").mkdir()
    tifffile.imwrite(tmp_path / "blurred" / "a.tif", np.zeros((70, 60), np.uint8))
    names: dict[str, object] = {}
    for snippet in snippets("python"):
        exec(snippet, names)
    for line in "".join(snippets("bash")).splitlines():
        program, *arguments = shlex.split(line)
        assert program == "swintormer"
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
    assert (tmp_path / "sharper.ome.zarr").is_dir()
    assert (tmp_path / "sharper.ome.tif").is_file()
    assert not (tmp_path / "other.ome.tif").exists()
    assert (tmp_path / "unexplained.tif").is_file()
    assert (tmp_path / "sharper" / "a.tif").is_file()
    assert preferences().memory_share == 0.7


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", GUIDE.read_text("utf-8")))
def test_the_pictures_of_the_guide_are_there(picture):
    assert (GUIDE.parent / picture).is_file()
