"""A run that is stopped, killed and damaged in any order, against a perfect model in memory.

``SWINTORMER_MACHINE=500`` walks through 500 random histories instead of a few.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from helpers.failures import Failures
from napari_swintormer import tiling
from napari_swintormer.engine import local
from napari_swintormer.errors import OutputError
from napari_swintormer.events import ChunkFinished
from napari_swintormer.imaging.store import pyramid, sharding
from napari_swintormer.imaging.store.result import ResultStore, partial_folder
from napari_swintormer.models.restorer import IdentityRestorer
from napari_swintormer.runs.file import FileRun
from napari_swintormer.settings.deblur_settings import DeblurSettings

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch

    from napari_swintormer.events import Event

BLOCK, CHUNKS = 64, 4
IMAGE = np.random.default_rng(0).integers(100, 60_000, (2 * BLOCK, 2 * BLOCK), np.uint16)


class Darker(IdentityRestorer):
    """A restorer whose results are easily told from the input."""

    def forward(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles * 0.75


def content(path: Path) -> dict[str, bytes]:
    """Read all files of a file or folder."""
    files = (each for each in (path, *path.rglob("*")) if each.is_file())
    return {each.relative_to(path).as_posix(): each.read_bytes() for each in files}


class StoreMachine(RuleBasedStateMachine):
    """The machine holds what must be true of a run, and does harm to it."""

    expected: ClassVar[dict[tuple[str, bool], dict[str, bytes]]] = {}  # without harm

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.home = Path(tempfile.mkdtemp(prefix="machine-"))
        self.synced: dict[int, int] = {}  # time of the last change, by inode
        self.futures: list[Future[Any]] = []  # work in the threads of runs
        self.finished: set[tuple[int, int]] = set()  # chunks that the model holds for written
        self.harmed: set[str] = set()  # files that the machine has damaged
        self.complete = False

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.home, ignore_errors=True)

    @initialize(name=st.sampled_from(["a.zarr", "a.ome.tif"]), packed=st.booleans())
    def begin(self, name: str, packed: bool) -> None:
        for attribute, value in (("_SMALLEST_BLOCK", BLOCK), ("_BLOCK_MULTIPLE", BLOCK)):
            self.patch.setattr(tiling.grid, attribute, value)
        self.patch.setattr(pyramid, "_COARSEST", BLOCK)
        self.patch.setattr(sharding, "_SIDE", 2)
        futures, fsync = self.futures, os.fsync

        class Noting(ThreadPoolExecutor):
            def submit(self, *work: Any, **options: Any) -> Future[Any]:
                futures.append(super().submit(*work, **options))
                return futures[-1]

        self.patch.setattr(local, "ThreadPoolExecutor", Noting)

        def noted(number: int) -> None:
            fsync(number)
            state = os.fstat(number)
            self.synced[state.st_ino] = state.st_mtime_ns

        self.patch.setattr(os, "fsync", noted)
        tifffile.imwrite(self.home / "in.tif", IMAGE)
        for kind in ((name, packed), ("a.zarr", False)):
            if kind not in self.expected:
                self.patch.setattr(sharding, "_MANY_CHUNKS", CHUNKS if kind[1] else 1000)
                self.use(f"whole {kind}", kind[0])
                for _ in self.events():
                    pass
                self.expected[kind] = content(self.result)
        self.patch.setattr(sharding, "_MANY_CHUNKS", CHUNKS if packed else 1000)
        self.use("run", name)
        self.kind = (name, packed)

    def use(self, folder: str, name: str) -> None:
        self.folder = self.home / folder
        self.folder.mkdir(exist_ok=True)
        self.result = self.folder / name

    def events(self, **changes: Any) -> Generator[Event, None, None]:
        """Begin to run or to go on."""
        chosen = DeblurSettings(
            tile_size=64, overlap=8, device="cpu", precision="fp32", batch_size=2, **changes
        )
        return FileRun(self.home / "in.tif", self.result, chosen, Darker(), resume=True).events()

    def advance(self, events: Generator[Event, None, None], n: int | None = None) -> int:
        """Take `n` events, or all; count the finished chunks."""
        count = 0
        while n is None or n > 0:
            event = next(events, None)
            if event is None:
                self.complete = True
                break
            if isinstance(event, ChunkFinished):
                count += 1
                self.finished.add((event.y[0] // BLOCK, event.x[0] // BLOCK))
            n = None if n is None else n - 1
        return count

    def going(self) -> bool:
        return not self.complete

    # ---- what happens to a run ------------------------------------------------------------------

    @precondition(going)
    @rule(n=st.integers(1, 25))
    def run_a_while_and_cancel(self, n: int) -> None:
        events = self.events()
        self.advance(events, n)
        events.close()
        self.forget_what_was_harmed()

    @precondition(going)
    @rule(n=st.integers(1, 25))
    def kill(self, n: int) -> None:
        self.stop_dead(n)
        self.forget_what_was_harmed()

    @precondition(going)
    @rule(n=st.integers(1, 30), data=st.data())
    def lose_power(self, n: int, data: st.DataObject) -> None:
        unsynced = self.stop_dead(n)
        for name in data.draw(st.lists(st.sampled_from(unsynced), unique=True)) if unsynced else []:
            path = self.folder / name
            path.write_bytes(path.read_bytes()[: data.draw(st.sampled_from([0, 9]))])
            self.harmed.add(name)
        self.forget_what_was_harmed()

    def stop_dead(self, n: int) -> list[str]:
        """Run, and stop without any clean-up; return the files that are not synced."""
        events, saved = self.events(), self.home / "saved"
        self.advance(events, n)
        wait(self.futures)  # else files change while they are copied
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        states = [(path.relative_to(self.folder).as_posix(), path.stat()) for path in files]
        shutil.copytree(self.folder, saved)
        events.close()
        shutil.rmtree(self.folder)
        saved.rename(self.folder)
        unsynced = [name for name, s in states if self.synced.get(s.st_ino) != s.st_mtime_ns]
        # file systems write the old or the new content of a file that is replaced
        return [name for name in unsynced if not name.endswith("zarr.json")]

    @precondition(going)
    @rule(data=st.data(), how=st.sampled_from(["delete", "cut", "flip"]))
    def damage_a_chunk(self, data: st.DataObject, how: str) -> None:
        if self.is_packing():  # no checksum is kept of a shard
            return
        names = [name for name, _ in self.claims() if (self.partial / name).is_file()]
        if not names:
            return
        path = self.partial / data.draw(st.sampled_from(sorted(names)))
        pixels = bytearray(path.read_bytes())
        if how == "delete":
            path.unlink()
        elif how == "cut":
            path.write_bytes(pixels[: len(pixels) // 2])
        elif pixels:
            pixels[len(pixels) // 2] ^= 1
            path.write_bytes(pixels)
        self.harmed.add(path.relative_to(self.folder).as_posix())
        self.forget_what_was_harmed()

    @precondition(going)
    @rule(n=st.integers(1, 80))
    def fill_the_disk(self, n: int) -> None:
        with Failures(self.folder).at(n, pytest.MonkeyPatch(), full=True) as failures:
            try:
                self.advance(self.events())
            except OutputError:
                assert failures.failed
        self.forget_what_was_harmed()

    @precondition(going)
    @rule()
    def hold_the_file_open(self) -> None:
        move = os.replace

        def held(source: Any, destination: Any, **options: Any) -> None:
            if Path(destination) == self.result:
                raise PermissionError(13, "held by a viewer")
            move(source, destination, **options)

        with pytest.MonkeyPatch.context() as viewer:
            viewer.setattr(os, "replace", held)
            with pytest.raises(OutputError, match="you lack the permission"):
                self.advance(self.events())
        self.harmed.clear()
        assert ResultStore.is_unfinished(self.result)
        assert len(self.finished) == CHUNKS

    @precondition(going)
    @rule()
    def ask_for_other_settings(self) -> None:
        if ResultStore.is_unfinished(self.result):
            before = content(self.folder)
            with pytest.raises(OutputError, match=r"differs in settings\.strength"):
                self.advance(self.events(strength=0.5))
            after = content(self.folder)
            assert all(after[name] == before[name] for name in before if "journal" not in name)

    @precondition(going)
    @rule()
    def resume_to_the_end(self) -> None:
        done = len(self.finished)
        assert self.advance(self.events()) <= CHUNKS - done, "a finished chunk was made again"
        self.harmed.clear()
        assert self.complete

    @precondition(lambda self: self.complete)
    @rule()
    def resume_again(self) -> None:
        before = content(self.folder)
        with pytest.raises(OutputError, match="exists already"):
            self.advance(self.events())
        assert content(self.folder) == before

    @precondition(lambda self: self.complete)
    @rule()
    def begin_anew(self) -> None:
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.complete = False
        self.finished.clear()

    # ---- what is always true --------------------------------------------------------------------

    @property
    def partial(self) -> Path:
        return partial_folder(self.result)

    def claims(self) -> list[tuple[str, list[str]]]:
        """Read the journal: names of chunk files, and their plane, row and column."""
        aside = self.result.with_name(f".{self.result.name}.journal")
        journal = next((p for p in (self.partial / "journal.txt", aside) if p.is_file()), None)
        if journal is None or not ResultStore.is_unfinished(self.result):
            return []
        whole = journal.read_bytes().rpartition(b"\n")[0].decode().splitlines()
        words = [line.split() for line in whole]
        return [(name, rest) for word, _, name, *rest in (w for w in words if len(w) > 2)]

    def is_packing(self) -> bool:
        """Whether chunks of this run lie in shards."""
        packing = [*self.partial.glob("*.packed"), *self.partial.glob("*.loose")]
        described = (path.read_text() for path in self.partial.glob("[0-9]/zarr.json"))
        return bool(packing) or any("sharding_indexed" in text for text in described)

    def forget_what_was_harmed(self) -> None:
        """Keep those chunks in the model that the journal claims, and that nobody harmed."""
        whole = self.expected["a.zarr", False]
        for name in list(self.harmed):  # a run may have made it again
            path, chunk = self.folder / name, name.partition("/")[2]
            if path.is_file() and path.read_bytes() == whole.get(chunk):
                self.harmed.remove(name)
        harmed = {name.partition("/")[2] for name in self.harmed}
        claimed = {
            (int(rest[1]), int(rest[2]))
            for name, rest in self.claims()
            if rest and name not in harmed
        }
        lost = self.finished - claimed
        torn = any("journal" in name for name in self.harmed)
        excused = torn or not claimed or harmed or not ResultStore.is_unfinished(self.result)
        assert not lost or excused, f"the journal has lost {lost}"
        self.finished = claimed  # a chunk is noted before its event comes

    @invariant()
    def the_journal_claims_what_is_there(self) -> None:
        if self.complete or self.is_packing():
            return  # chunks move into shards
        harmed = {name.partition("/")[2] for name in self.harmed}
        whole = self.expected["a.zarr", False]
        for name, _ in self.claims():
            if name not in harmed:
                assert (self.partial / name).read_bytes() == whole[name], name

    @invariant()
    def nothing_half_has_the_final_name(self) -> None:
        assert not self.complete or self.result.exists()
        if self.result.exists():
            assert content(self.result) == self.expected[self.kind]


StoreMachine.TestCase.settings = settings(
    max_examples=int(os.environ.get("SWINTORMER_MACHINE", "6")),
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestStoreMachine = StoreMachine.TestCase
