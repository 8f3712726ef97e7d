"""README and user guide: their snippets run, their pictures and pages exist."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from typer.testing import CliRunner

from helpers.tiny import FINDING_NETWORK
from napari_swintormer.cli import app
from napari_swintormer.models import catalogue
from napari_swintormer.settings.deblur_settings import DEFAULT_MODEL
from napari_swintormer.settings.preferences import preferences

ROOT = Path(__file__).parents[1]
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "guide.md"
PAPER = ROOT / "docs" / "paper.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


def snippets(document, language):
    text = document.read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def blurred(tmp_path):
    """Make a folder of one image, as the snippets expect."""
    folder = tmp_path / "blurred"
    folder.mkdir()
    tifffile.imwrite(folder / "a.tif", np.zeros((70, 60), np.uint8))
    return folder


@pytest.fixture
def run(home, tiny_weights, make_weights, tmp_path, monkeypatch):
    """Run all snippets of a document in an empty folder, with a tiny model for every image."""
    built_in = tmp_path / "built-in"
    built_in.mkdir()
    shutil.copy(make_weights(DEFAULT_MODEL, network=FINDING_NETWORK), built_in)
    monkeypatch.setattr(catalogue, "BUILT_IN_FOLDER", built_in)
    shutil.copy(tiny_weights, tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)

    def run(document):
        names: dict[str, object] = {}
        for snippet in snippets(document, "python"):
            exec(snippet, names)
        for line in "".join(snippets(document, "bash")).splitlines():
            program, *arguments = shlex.split(line, comments=True)
            if program in ("make", "pip"):
                continue
            assert program == "swintormer"
            if arguments[0] == "train":  # takes too long: only its flags are checked
                flags = {word for word in arguments if word.startswith("--")}
                done = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["train", "--help"])
                assert [flag for flag in flags if flag not in done.output] == []
                continue
            done = CliRunner().invoke(app, arguments)
            assert done.exit_code == 0, f"{line}\n{done.output}"

    return run


def test_the_snippets_of_the_readme_run(run, blurred):
    stack = np.random.default_rng(0).integers(90, 4000, (2, 2, 70, 60), np.uint16)
    tifffile.imwrite("cells.tif", stack, metadata={"axes": "TCYX"})
    tifffile.imwrite("slide.tif", stack[0, 0])
    sizes = dict.fromkeys(("PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ"), 0.3)
    tifffile.imwrite("stack.ome.tif", stack[0], metadata={"axes": "ZYX"} | sizes)
    PIL.Image.new("RGB", (60, 70)).save("photo.jpg")
    run(README)
    assert tifffile.imread("cells_sharp.tif").shape == stack.shape
    assert Path("slide_sharp.ome.zarr").is_dir()
    assert not Path("plan.ome.zarr").exists()
    assert (blurred.parent / "sharper" / "a.tif").is_file()


def test_the_snippets_of_the_guide_run(run, blurred):
    run(GUIDE)
    assert Path("sharper.ome.zarr").is_dir()
    assert Path("sharper.ome.tif").is_file()
    assert not Path("other.ome.tif").exists()
    assert Path("unexplained.tif").is_file()
    assert (blurred.parent / "sharper" / "a.tif").is_file()
    assert preferences().memory_share == 0.7


def test_the_commands_of_the_paper_name_options_that_exist(monkeypatch):
    """They take hours; so their settings are made, and nothing is run."""
    made = []

    def nothing(settings):
        made.append(settings)
        yield from ()

    monkeypatch.setattr("napari_swintormer.training.loop.train.iter_train", nothing)
    lines = "".join(snippets(PAPER, "bash")).splitlines()
    commands = [line for line in lines if line.startswith("swintormer train")]
    for line in commands:
        done = CliRunner().invoke(app, shlex.split(line)[1:])
        assert done.exit_code == 0, f"{line}\n{done.output}"
    assert [s.stage for s in made] == ["denoiser", "network", "prior", "prior"]
    assert all(s.prior.kind == "ldm_sr" for s in made)


def test_links_and_pictures_of_the_readme_exist():
    links = re.findall(r"\]\(([^)#]+)", README.read_text("utf-8"))
    here = [link for link in links if "://" not in link]
    assert len(here) > 10
    assert [link for link in here if not (ROOT / link).exists()] == []


def test_files_that_contributors_are_told_of_exist():
    words = re.findall(
        r"`((?:src|tests|packaging|benchmarks)/[\w./-]+)`", CONTRIBUTING.read_text("utf-8")
    )
    files = [word for word in words if not re.search("NAME|ROOM", word)]
    assert len(files) > 10
    assert [file for file in files if not (ROOT / file).exists()] == []
