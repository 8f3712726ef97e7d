"""Files about the project agree: version, addresses, dependencies, versions of Python."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

import napari_swintormer

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OTHER_NAMES = {  # of packages in conda-forge
    "dask": "dask-core",
    "huggingface-hub": "huggingface_hub",
    "napari": "napari-base",
    "torch": "pytorch",
}


@pytest.fixture(scope="module")
def recipe():
    return yaml.safe_load((ROOT / "packaging/conda/recipe.yaml").read_text("utf-8"))


@pytest.fixture(scope="module")
def citation():
    return yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))


def test_the_version_is_the_same_everywhere(recipe, citation):
    version = napari_swintormer.__version__
    assert recipe["context"]["version"] == version
    assert citation["version"] == version
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert sections[0] == version


def test_the_repository_has_one_address(recipe, citation):
    home = PROJECT["urls"]["Homepage"]
    assert citation["repository-code"] == recipe["about"]["homepage"] == home
    texts = [*ROOT.glob("*.md"), ROOT / "mkdocs.yml", *ROOT.glob(".github/ISSUE_TEMPLATE/*")]
    for text in texts:
        owners = re.findall(r"github\.com/([\w-]+)/napari-swintormer", text.read_text("utf-8"))
        assert set(owners) <= {home.split("/")[-2]}, text


def test_the_recipe_has_the_dependencies_of_the_package(recipe):
    wanted = {f"python {PROJECT['requires-python']}"}
    for each in map(Requirement, PROJECT["dependencies"]):
        wanted.add(f"{OTHER_NAMES.get(each.name, each.name)} {each.specifier}")
    assert set(recipe["requirements"]["run"]) == wanted
    extras = [PROJECT["optional-dependencies"][extra] for extra in ("bioio", "heif", "raw")]
    formats = {str(Requirement(each)) for extra in extras for each in extra}
    limits = recipe["requirements"]["run_constraints"]
    assert {each.replace(" ", "") for each in limits} == formats


def test_every_version_of_python_is_tested():
    said = [c.rpartition(" :: ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == said
