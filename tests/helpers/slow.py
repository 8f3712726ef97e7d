"""Select the slow tests: one runs when files that it covers changed since it last passed.

``@pytest.mark.slow("engine", "runs")`` names the rooms of the package that a test covers.
``tests/slow_passed.json`` holds a checksum of those rooms for every slow test that passed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PACKAGE = TESTS.parent / "src" / "napari_swintormer"
PASSED = TESTS / "slow_passed.json"
CHECKSUMS = pytest.StashKey[dict[str, str]]()


def checksum(test_file: Path, rooms: tuple[str, ...]) -> str:
    """Return a checksum of a test file and of all Python files in some rooms of the package."""
    files = [test_file]
    for room in rooms:
        path = PACKAGE / room
        if not path.exists():
            raise pytest.UsageError(f"{test_file.name}: mark.slow names {room!r}, which is no room")
        files += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    sha = hashlib.sha256()
    for file in files:
        sha.update(file.relative_to(TESTS.parent).as_posix().encode())
        sha.update(file.read_bytes().replace(b"\r\n", b"\n"))
    return sha.hexdigest()[:16]


def name_of(item: pytest.Item) -> str:
    """Return the name of a test without its parameters."""
    return item.nodeid.partition("[")[0]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow",
        choices=["changed", "all", "never"],
        default="changed",
        help="slow tests to run: those whose files changed, all (and note which pass), or none",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wish = config.getoption("--slow")
    config.stash[CHECKSUMS] = {
        name_of(item): checksum(item.path, marker.args)
        for item in items
        if (marker := item.get_closest_marker("slow"))
    }
    if wish == "all":
        return
    passed = json.loads(PASSED.read_text()) if wish == "changed" and PASSED.exists() else {}
    left_out = [
        item
        for item in items
        if (now := config.stash[CHECKSUMS].get(name_of(item)))
        and (wish == "never" or passed.get(name_of(item)) == now)
    ]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    report = (yield).get_result()
    if not report.passed:  # failed or skipped: not noted as passed
        item.config.stash[CHECKSUMS].pop(name_of(item), None)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if session.config.getoption("--slow") == "all" and exitstatus == pytest.ExitCode.OK:
        before = json.loads(PASSED.read_text()) if PASSED.exists() else {}
        passed = dict(sorted((before | session.config.stash[CHECKSUMS]).items()))
        PASSED.write_text(json.dumps(passed, indent=2) + "\n", newline="\n")
