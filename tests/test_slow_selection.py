"""The selection of slow tests: nothing counts as passed that did not run and pass as it is now."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from helpers import slow

SOURCE = """
import pytest
import helpers.used

@pytest.mark.slow("room", "scripts/script.py")
@pytest.mark.parametrize("n", [1, 2])
def test_it(n):
    assert n < helpers.used.LIMIT
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Make a project of its own, whose slow tests the plugin selects."""
    files = {
        "src/napari_swintormer/room/code.py": "",
        "src/napari_swintormer/other/code.py": "",
        "scripts/script.py": "",
        "tests/helpers/__init__.py": "",
        "tests/helpers/used.py": "from helpers.below import LIMIT\n",
        "tests/helpers/below.py": "LIMIT = 2\n",
        "tests/helpers/unused.py": "",
        "tests/conftest.py": 'pytest_plugins = ["helpers.slow"]\n',
        "tests/test_it.py": SOURCE,
        "pytest.ini": "[pytest]\npythonpath = tests\nmarkers =\n    slow\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copy(slow.__file__, tmp_path / "tests/helpers/slow.py")
    monkeypatch.setattr(slow, "TESTS", tmp_path / "tests")
    monkeypatch.setattr(slow, "ROOT", tmp_path)
    monkeypatch.setattr(slow, "PACKAGE", tmp_path / "src/napari_swintormer")
    return tmp_path


def run(project, *words):
    """Run the tests of the project, and return the output and the names that are noted."""
    command = [sys.executable, "-m", "pytest", "--disable-plugin-autoload", *words]
    ran = subprocess.run(command, cwd=project, env=os.environ, capture_output=True, text=True)
    file = project / "tests/slow_passed.json"
    return ran.stdout, list(json.loads(file.read_text())) if file.exists() else []


def test_only_a_test_that_ran_and_passed_is_noted(project):
    name = "tests/test_it.py::test_it"
    assert run(project, "--slow", "all", "--collect-only")[1] == []
    assert run(project, "--slow", "all")[1] == [f"{name}[1]"]  # the other one failed
    assert "1 failed, 1 deselected" in run(project)[0]
    (project / "tests/helpers/below.py").write_text(
        "LIMIT = 30\n"
    )  # another size: bytecode of the same second is made again
    assert run(project, "--slow", "all", f"{name}[2]")[1] == [f"{name}[1]", f"{name}[2]"]
    assert "1 passed, 1 deselected" in run(project)[0]  # the first one passed with other helpers


def test_a_test_covers_its_rooms_files_and_helpers(project):
    covered = ("room", "scripts/script.py")

    def changes(name):
        before = slow.checksum(project / "tests/test_it.py", covered)
        (project / name).write_text((project / name).read_text() + "# changed\n")
        return slow.checksum(project / "tests/test_it.py", covered) != before

    told = ("src/napari_swintormer/room/code.py", "scripts/script.py", "tests/test_it.py")
    helpers = ("tests/conftest.py", "tests/helpers/used.py", "tests/helpers/below.py")
    assert all(map(changes, (*told, *helpers)))
    assert not any(map(changes, ("src/napari_swintormer/other/code.py", "tests/helpers/unused.py")))
    with pytest.raises(pytest.UsageError, match="names 'rom', which is no room"):
        slow.checksum(project / "tests/test_it.py", ("rom",))
