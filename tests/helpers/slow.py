"""Select the slow tests: one runs when files that it covers changed since it last passed.

``@pytest.mark.slow("engine", "runs")`` names what a test covers: rooms of the package, or files
from the root of the repository. The file of the test, its ``conftest.py`` and the helpers that they
import are always covered. ``tests/slow_passed.json`` holds a checksum of all these files for every
slow test that passed, with its parameters.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PACKAGE = ROOT / "src" / "napari_swintormer"
PASSED = TESTS / "slow_passed.json"
NOTED = pytest.StashKey[dict[str, str | None]]()
"""Checksums of the tests that passed in this session; None for one that failed or was skipped."""


def checksum(test_file: Path, covered: tuple[str, ...]) -> str:
    """Return a checksum of a test file and of all Python files that it covers."""
    files = with_helpers(test_file)
    for name in covered:
        path = next((p for p in (PACKAGE / name, ROOT / name) if p.exists()), None)
        if path is None:
            raise pytest.UsageError(f"{test_file.name}: mark.slow names {name!r}, which is no room")
        files |= set(path.rglob("*.py")) if path.is_dir() else {path}
    sha = hashlib.sha256()
    for name, file in sorted((file.relative_to(ROOT).as_posix(), file) for file in files):
        sha.update(name.encode())
        sha.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return sha.hexdigest()[:16]


def with_helpers(test_file: Path) -> set[Path]:
    """Return a test file, the ``conftest.py`` of its folders, and the helpers that they import."""
    folders = [folder for folder in test_file.parents if folder.is_relative_to(TESTS)]
    found = {folder / "conftest.py" for folder in folders if (folder / "conftest.py").exists()}
    waiting = [test_file, *found]
    while waiting:
        found.add(file := waiting.pop())
        for name in re.findall(r"(?:from|import) helpers\.(\w+)", file.read_text("utf-8")):
            helper = TESTS / "helpers" / f"{name}.py"
            if helper not in found:
                waiting.append(helper)
    return found


def checksum_of(item: pytest.Item) -> str | None:
    """Return the checksum of a slow test; None for another test."""
    marker = item.get_closest_marker("slow")
    return None if marker is None else checksum(item.path, marker.args)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow",
        choices=["changed", "all", "never"],
        default="changed",
        help="slow tests to run: those whose files changed, all (and note which pass), or none",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[NOTED] = {}
    wish = config.getoption("--slow")
    passed = json.loads(PASSED.read_text()) if wish == "changed" and PASSED.exists() else {}
    left_out = [
        item
        for item in items
        if (now := None if wish == "all" else checksum_of(item))
        and (wish == "never" or passed.get(item.nodeid) == now)
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = (yield).get_result()
    noted = item.config.stash[NOTED]
    if not report.passed:
        noted[item.nodeid] = None
    elif report.when == "call" and (now := checksum_of(item)):
        noted.setdefault(item.nodeid, now)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Note the slow tests that passed, and forget those that did not or are gone."""
    noted = session.config.stash.get(NOTED, {})
    if session.config.getoption("--slow") == "all" and noted:
        before = json.loads(PASSED.read_text()) if PASSED.exists() else {}
        there = {name: sha for name, sha in (before | noted).items() if sha}
        there = {n: sha for n, sha in there.items() if (ROOT / n.partition("::")[0]).exists()}
        PASSED.write_text(json.dumps(dict(sorted(there.items())), indent=2) + "\n", newline="\n")
