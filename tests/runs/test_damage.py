"""Full, missing or damaged disks end a run with one sentence; it resumes to the same bytes."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import zarr
import zarr.storage

from napari_swintormer import tiling
from napari_swintormer.engine import runners
from napari_swintormer.errors import FileError, OutputError
from napari_swintormer.events import ChunkFinished, Notice
from napari_swintormer.imaging.store.result import partial_folder
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    from napari_swintormer.events import Event

BLOCK = 64


class Darker(IdentityRestorer):
    """A restorer whose results are easily told from the input."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles * 0.75


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with an image of 5 x 4 blocks in three formats, and a place for results."""
    monkeypatch.setattr(tiling.grid, "_SMALLEST_BLOCK", BLOCK)
    monkeypatch.setattr(tiling.grid, "_BLOCK_MULTIPLE", BLOCK)
    image = np.random.default_rng(0).integers(100, 60_000, (5 * BLOCK, 4 * BLOCK), np.uint16)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    tifffile.imwrite(tmp_path / "in/flat.tif", image)
    np.save(tmp_path / "in/a.npy", image)
    zarr.create_array(tmp_path / "in/a.zarr", data=image, chunks=(BLOCK, BLOCK))
    return tmp_path


def run(source: Path, result: Path, after_a_chunk: Callable[[], object] | None = None) -> list[str]:
    """Run or go on; give the notices. `after_a_chunk` is called once, when a chunk is finished."""
    settings = DeblurSettings(tile_size=32, overlap=8, device="cpu", precision="fp32", batch_size=2)
    notices = []
    for event in FileRun(source, result, settings, Darker(), resume=True).events():
        if isinstance(event, Notice):
            notices.append(event.message)
        if isinstance(event, ChunkFinished) and after_a_chunk is not None:
            after_a_chunk()
            after_a_chunk = None
    return notices


def files_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def ends_the_same(disk: Path, source: Path) -> None:
    """Complete the run into out/a.zarr; compare it with one that nothing happened to."""
    run(source, disk / "out/a.zarr")
    (disk / "whole").mkdir()
    run(source, disk / "whole/a.zarr")
    assert files_of(disk / "out") == files_of(disk / "whole")


@pytest.mark.parametrize("name", ["flat.tif", "a.npy", "a.zarr"])
def test_the_disk_of_the_input_vanishes(disk: Path, name: str) -> None:
    source, result = disk / "in" / name, disk / "out/a.zarr"
    with pytest.raises(FileError, match=r"cannot be read any more .*Connect its disk again"):
        run(source, result, lambda: (disk / "in").rename(disk / "gone"))
    assert os.listdir(disk / "out") == [partial_folder(result).name]
    (disk / "gone").rename(disk / "in")
    ends_the_same(disk, source)


def test_the_disk_of_the_result_vanishes(disk: Path) -> None:
    source, result = disk / "in/flat.tif", disk / "out/a.zarr"
    with pytest.raises(OutputError, match=r"a\.zarr cannot be written"):
        run(source, result, lambda: (disk / "out").rename(disk / "gone"))
    shutil.rmtree(disk / "out", ignore_errors=True)  # what zarr wrote before the journal was missed
    (disk / "gone").rename(disk / "out")
    assert not result.exists()
    ends_the_same(disk, source)


def test_a_block_cannot_be_read(disk: Path) -> None:
    source, result = disk / "in/a.zarr", disk / "out/a.zarr"
    chunk = source / "c/4/3"
    whole = chunk.read_bytes()
    with pytest.raises(FileError, match=r"a\.zarr has a damaged chunk"):
        run(source, result, lambda: chunk.write_bytes(whole[:9]))
    chunk.write_bytes(whole)
    ends_the_same(disk, source)


def test_the_disk_is_full(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, result = disk / "in/flat.tif", disk / "out/a.zarr"

    async def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as filling, pytest.raises(OutputError, match="The disk is full"):
        run(source, result, lambda: filling.setattr(zarr.storage.LocalStore, "set", full))
    assert not result.exists()
    ends_the_same(disk, source)


@pytest.mark.gpu
def test_a_run_resumed_with_less_gpu_memory_makes_the_same_bytes(
    disk: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = DeblurSettings(model=str(tiny_weights), device="cuda", tile_size=64)

    def events(name: str) -> Iterator[Event]:
        (disk / name).mkdir(exist_ok=True)
        return FileRun(disk / "in/flat.tif", disk / name / "a.zarr", settings, resume=True).events()

    for _ in events("whole"):
        pass
    with closing(events("out")) as stopped:
        while not isinstance(next(stopped), ChunkFinished):
            pass
    monkeypatch.setattr(runners, "batch_size_that_fits", lambda *_: 1)
    for _ in events("out"):
        pass
    assert files_of(disk / "out") == files_of(disk / "whole")


def test_damaged_chunks_are_reported_and_made_again(disk: Path) -> None:
    source, result = disk / "in/flat.tif", disk / "out/a.zarr"

    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        run(source, result, stop)
    (partial_folder(result) / "0/c/0/0").write_bytes(b"damaged")
    (disk / "copy").mkdir()
    shutil.copytree(partial_folder(result), partial_folder(disk / "copy/a.zarr"))
    notices = run(source, disk / "copy/a.zarr")
    assert any("has 1 file that changed on disk" in notice for notice in notices)
    ends_the_same(disk, source)
    assert files_of(disk / "copy") == files_of(disk / "whole")
