"""Every step of a run fails once: nothing half is left under the name, and resuming mends all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from helpers.failures import Failures
from napari_swintormer import tiling
from napari_swintormer.errors import SwintormerError
from napari_swintormer.imaging.store import pyramid, sharding
from napari_swintormer.imaging.store.result import ResultStore
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from pathlib import Path

    import torch

BLOCK = 64


class Darker(IdentityRestorer):
    """A restorer whose results are easily told from the input."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles * 0.75


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an image of 2 x 2 blocks, whose results have two levels and are packed."""
    monkeypatch.setattr(tiling.grid, "_SMALLEST_BLOCK", BLOCK)
    monkeypatch.setattr(tiling.grid, "_BLOCK_MULTIPLE", BLOCK)
    monkeypatch.setattr(pyramid, "_COARSEST", BLOCK)
    monkeypatch.setattr(sharding, "_MANY_CHUNKS", 4)
    monkeypatch.setattr(sharding, "_SIDE", 2)
    image = np.random.default_rng(0).integers(100, 60_000, (2 * BLOCK, 2 * BLOCK), np.uint16)
    tifffile.imwrite(tmp_path / "in.tif", image)
    return tmp_path / "in.tif"


def run(source: Path, result: Path) -> None:
    """Run or go on."""
    settings = DeblurSettings(tile_size=64, overlap=8, device="cpu", precision="fp32", batch_size=2)
    for _ in FileRun(source, result, settings, Darker(), resume=True).events():
        pass


def content(result: Path) -> dict[str, bytes]:
    """Read all files of a result."""
    files = (path for path in (result, *result.rglob("*")) if path.is_file())
    return {path.relative_to(result).as_posix(): path.read_bytes() for path in files}


def fail_at_every(
    source: Path, name: str, monkeypatch: pytest.MonkeyPatch, *, stride: int, full: bool
) -> int:
    """Let step 1, 1 + stride, … of a run fail, until a run has fewer; return how many failed."""
    whole = source.with_name("whole") / name
    whole.parent.mkdir()
    run(source, whole)
    expected, failed, n = content(whole), 0, 1
    while True:
        result = source.with_name(f"at {n}") / name
        result.parent.mkdir()
        with Failures(result.parent).at(n, monkeypatch, full=full) as failures:
            try:
                run(source, result)
            except (SwintormerError, MemoryError):
                assert failures.failed
        if not failures.failed:
            assert content(result) == expected
            return failed
        failed += 1
        if result.exists():
            assert content(result) == expected, f"half a result after step {n} failed"
        if not result.exists() or ResultStore.is_unfinished(result):
            run(source, result)
        assert content(result) == expected, f"another result after step {n} failed"
        assert not ResultStore.is_unfinished(result)
        n += stride


@pytest.mark.parametrize(("name", "full"), [("a.zarr", False), ("a.ome.tif", True)])
def test_a_run_with_a_failing_step_is_completed_by_resuming(
    source: Path, name: str, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fail_at_every(source, name, monkeypatch, stride=23, full=full) > 2


@pytest.mark.slow("engine", "imaging", "runs", "tiling")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("full", [False, True], ids=["once", "full disk"])
@pytest.mark.parametrize("name", ["a.zarr", "a.ome.tif", "a.npy"])
def test_a_run_that_fails_anywhere_is_completed_by_resuming(
    source: Path, name: str, full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fail_at_every(source, name, monkeypatch, stride=1, full=full) > 30
