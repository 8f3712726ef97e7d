"""The command ``blur`` says, draws and saves what is found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from helpers.images import texture
from napari_swintormer.cli import app
from napari_swintormer.cli.blur_command import drawing
from napari_swintormer.optics.blur import Blur
from napari_swintormer.optics.blur_field import BlurField
from napari_swintormer.optics.plane_blur import FoundBlur
from napari_swintormer.runs import blur_finding

if TYPE_CHECKING:
    from pathlib import Path

FOUND = FoundBlur(Blur.motion(14, 30), 0.9, "The image shows motion blur; 90 % sure.")
NOTHING = FoundBlur(Blur.none(), 0.8, "The image looks sharp.")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    stack = (1000 * np.stack([texture(60, 70)] * 2)).astype(np.uint16)
    tifffile.imwrite(path, stack, metadata={"axes": "CYX"})
    return path


def run(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["blur", *map(str, args)])
    return result.exit_code, result.stdout + result.stderr


def test_the_blur_is_said_drawn_and_saved(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blur_finding, "estimate_blur", lambda *_: FOUND)
    code, said = run(image)
    assert code == 0
    assert said.splitlines()[0] == f"C=0: {FOUND.reason}"
    assert f"C=1: {FOUND.reason}" in said
    assert said.count("@") < 60  # drawn once
    code, said = run(image, "--json", "--planes", "C=1:2", "--save", tmp_path / "psf.tif")
    assert code == 0
    (plane,) = json.loads(said[: said.rindex("]") + 1])
    assert (plane["C"], plane["family"], plane["certainty"]) == (1, "motion", 0.9)
    assert Blur.from_json(plane["blur"]) == FOUND.blur
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "psf.tif"), FOUND.blur.psf())
    code, said = run(image, "--save", tmp_path / "psf.tif")
    assert code == 2
    assert "psf.tif" in said


def test_no_blur_has_no_psf(image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blur_finding, "estimate_blur", lambda *_: NOTHING)
    assert run(image, "--planes", "C=0:1")[1] == "The image looks sharp.\n"
    code, said = run(image, "--save", tmp_path / "psf.tif")
    assert (code, (tmp_path / "psf.tif").exists()) == (2, False)
    assert "error: There is no PSF to write" in said


def test_a_blur_that_changes_is_drawn_as_a_map(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    radii = np.linspace(0, 4, 40)[None] * np.ones((12, 1))
    shares = np.stack([radii < 2, radii >= 2]).astype(float)
    field = BlurField.of((Blur.none(), Blur.disk(3)), (0.0, 0.0), (2.0, 2.0), shares, radii)
    monkeypatch.setattr(blur_finding, "estimate_blur", lambda *_: FoundBlur.of_field(field))
    said = run(image, "--planes", "C=0:1")[1].splitlines()
    assert said[0] == "The blur changes from place to place, from sharp to about 3.8 pixels."
    assert said[1:] == [said[1]] * 6
    assert len(said[1]) == 40
    assert (said[1][0], said[1][-1]) == (" ", "@")
    (plane,) = json.loads(run(image, "--planes", "C=0:1", "--json")[1])
    np.testing.assert_allclose(plane["radii"], radii, atol=0.04)


def test_a_drawing_has_the_form_of_the_psf() -> None:
    lines = drawing(Blur.motion(60, 0).psf())
    assert len(lines) <= 7
    assert max(map(len, lines)) > 40
    assert drawing(Blur.disk(1.2).psf())[1].strip().startswith("@") is False
